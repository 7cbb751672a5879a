// Routers: from the sums of a layer's input channels to the factors of every sample.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/core/activation_functions.hpp>
#include <kdna/cuda/programs/pooling.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How contiguous outputs of a router's dense layer are normalised together. signed_share is KernelWarehouse's:
/// v / (sum |v| + 1e-3) of all but the last of a group.
enum class group_function : int { none, softmax, signed_share };

/// What follows a dense layer of a router: an activation without parameters of channels, times a factor; or a function of groups.
struct dense_function {
    activation_kind kind = activation_kind::none;
    float times = 1.0F;
    group_function group = group_function::none;
    float number = 0.0F;  ///< the parameter of the activation, if it has one

    constexpr dense_function() = default;
    constexpr dense_function(activation_kind k, float factor = 1.0F)  // NOLINT(google-explicit-constructor)
        : kind(k), times(factor) {}
    constexpr dense_function(const activation& a)  // NOLINT(google-explicit-constructor)
        : kind(a.kind), number(a.number) {}
    constexpr dense_function(group_function g) : group(g) {}  // NOLINT(google-explicit-constructor)
};

/// A dense layer, act( W v + b ), or none if it has no outputs.
struct device_dense {
    device_span<const float> w{};  ///< [inputs][outputs]
    device_span<const float> bias{};
    int inputs = 0, outputs = 0;
    dense_function act{};
};

/// A dense layer whose outputs are one kind of the routes of a sample.
struct device_head {
    device_dense dense{};
    int group = 1;                     ///< contiguous outputs that a softmax or signed_share normalises together
    int at = 0;                        ///< among a sample's routes, a multiple of 4
    device_span<const float> times{};  ///< static factors that multiply the routed ones, or none
};

/// The kinds of routes that a router may have.
enum class route_kind { mixture, kernel_filter, channel, filter, spatial };
inline constexpr int route_kinds = 5;

/// What all routers of the library consist of: a hidden layer on the means, which another layer may gate, or none; and
/// heads on that. Then it mixes the biases of mixed kernels.
struct router_arguments {
    device_sums sums{};                ///< of the layer's input, or
    device_span<const float> means{};  ///< [sample][inputs], where the router reads those of windows
    int inputs = 0;
    device_dense hidden{}, gate{};
    device_head heads[route_kinds]{};
    device_span<float> routes{};  ///< [sample][stride]
    int stride = 0;
    // shift + bias_scale * ( sum over i < k of a[i] * biases[i] + kernel_filter * kernel_bias ), [filters] each, to
    // shift_at, where a begins at mixed_from. Without biases nothing is mixed; kernel_bias may be missing.
    device_span<const float> shift{}, bias_scale{}, biases{}, kernel_bias{};  ///< biases [k][filters]
    int filters = 0, shift_at = 0, mixed_from = 0;

    [[nodiscard]] KDNA_HOST_DEVICE const device_head& head(route_kind k) const { return heads[static_cast<int>(k)]; }
};

/// Grid: samples. A thread computes an output of a dense layer. Where a layer has few outputs, its inputs are cut into
/// parts, one a thread, whose sums are added in their order. Heads of many outputs are computed in portions of whole
/// groups that fit into shared memory.
struct router_program {
    using arguments = router_arguments;
    static constexpr const char* name = "router_program";
    static constexpr int threads = 512, head_outputs = 512;
    struct registers {};

    /// parts | means | hidden layer | its gate | outputs of a head
    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments& a) {
        int largest = 0;
        for (const device_head& h : a.heads) {
            const int outputs = at_once(h) < h.dense.outputs ? at_once(h) : h.dense.outputs;
            largest = outputs > largest ? outputs : largest;
        }
        return 4 * (threads + a.inputs + a.hidden.outputs + a.gate.outputs + largest);
    }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int means = 4 * threads, hidden = means + 4 * a.inputs, gate = hidden + 4 * a.hidden.outputs,
                  out = gate + 4 * a.gate.outputs, base = block.x * a.stride;
        block.parallel([&](int thread, registers&) {
            for (int c = thread; c < a.inputs; c += threads)
                put(block, thread, means + 4 * c,
                    a.means ? a.means.load(block.x * a.inputs + c) : detail::mean_of(a.sums, block.x, c));
        });
        block.sync();
        if (a.hidden.outputs > 0) dense(block, a.hidden, 0, a.hidden.outputs, means, hidden);
        if (a.gate.outputs > 0) {
            dense(block, a.gate, 0, a.gate.outputs, hidden, gate);
            block.parallel([&](int thread, registers&) {
                for (int i = thread; i < a.gate.outputs; i += threads)
                    put(block, thread, hidden + 4 * i,
                        get(block, thread, hidden + 4 * i) * get(block, thread, gate + 4 * i));
            });
            block.sync();
        }
        KDNA_DEVICE_NO_UNROLL
        for (int i = 0; i < route_kinds; ++i)  // NOLINT(modernize-loop-convert)
            route(block, a.heads[i], a.hidden.outputs > 0 ? hidden : means, out, a.routes, base);
        if (!a.biases) return;
        block.parallel([&](int thread, registers&) {
            const int terms = a.biases.size / a.filters;
            for (int o = thread; o < a.filters; o += threads) {
                float bias = 0.0F;
                for (int i = 0; i < terms; ++i)
                    bias += a.routes.load(base + a.mixed_from + i) * a.biases.load(i * a.filters + o);
                if (a.kernel_bias)
                    bias += a.routes.load(base + a.head(route_kind::kernel_filter).at + o) * a.kernel_bias.load(o);
                a.routes.store(base + a.shift_at + o, a.shift.load(o) + a.bias_scale.load(o) * bias);
            }
        });
    }

private:
    template <class Block>
    KDNA_DEVICE static float get(Block& block, int thread, int at) {
        return block.template load<float>(thread, at).v[0];
    }
    template <class Block>
    KDNA_DEVICE static void put(Block& block, int thread, int at, float v) {
        block.store(thread, at, pack<float, 1>{{v}});
    }
    /// Outputs of a head that are in shared memory at once.
    KDNA_HOST_DEVICE static int at_once(const device_head& h) {
        return h.group > head_outputs ? h.group : head_outputs / h.group * h.group;
    }
    /// route() normalises whole groups.
    KDNA_DEVICE static float activate(float v, const dense_function& act) {
        return activated<float>(act.kind, v, act.number) * act.times;
    }
    /// Computes outputs [first, first + count) of a dense layer, from shared memory at `in` to shared memory at `out`.
    /// Begins and ends with a barrier. Uses the first `threads` floats of shared memory.
    template <class Block>
    KDNA_DEVICE static void dense(Block& block, const device_dense& d, int first, int count, int in, int out) {
        const int columns = count < threads ? count : threads, parts = threads / columns;
        KDNA_DEVICE_NO_UNROLL
        for (int begin = 0; begin < count; begin += columns) {
            block.parallel([&](int thread, registers&) {
                const int o = begin + thread % columns, part = thread / columns;
                if (part >= parts || o >= count) return;
                float sum = 0.0F;
                // Parts are interleaved, so that what a warp reads at once is contiguous.
                for (int i = part; i < d.inputs; i += parts)
                    sum += get(block, thread, in + 4 * i) * d.w.load(i * d.outputs + first + o);
                put(block, thread, 4 * thread, sum);
            });
            block.sync();
            block.parallel([&](int thread, registers&) {
                const int o = begin + thread;
                if (thread >= columns || o >= count) return;
                float sum = d.bias.load(first + o);
                for (int part = 0; part < parts; ++part) sum += get(block, thread, 4 * (part * columns + thread));
                put(block, thread, out + 4 * o, activate(sum, d.act));
            });
            block.sync();
        }
    }
    /// Computes a head, from shared memory at `in` to the routes of the sample. Begins and ends with a barrier. Uses
    /// shared memory from `out` on.
    template <class Block>
    KDNA_DEVICE static void route(Block& block, const device_head& h, int in, int out, const device_span<float>& routes,
                                  int base) {
        const device_dense& d = h.dense;
        // The last of a group of signed shares is part of the sum only.
        const bool shares = d.act.group == group_function::signed_share;
        const int group = h.group, kept = shares ? group - 1 : group;
        KDNA_DEVICE_NO_UNROLL
        for (int first = 0; first < d.outputs; first += at_once(h)) {
            const int rest = d.outputs - first, count = rest < at_once(h) ? rest : at_once(h);
            dense(block, d, first, count, in, out);
            if (shares) {
                block.parallel([&](int thread, registers&) {
                    for (int last = (thread + 1) * group - 1; last < count; last += threads * group) {
                        float sum = 1e-3F;
                        for (int i = last - kept; i <= last; ++i) sum += fabsf(get(block, thread, out + 4 * i));
                        put(block, thread, out + 4 * last, sum);
                    }
                });
                block.sync();
            }
            block.parallel([&](int thread, registers&) {
                for (int i = thread; i < count; i += threads) {
                    const int in_group = i % group, begin = i - in_group;
                    if (in_group >= kept) continue;
                    const int o = (first + i) / group * kept + in_group;
                    float v = get(block, thread, out + 4 * i);
                    if (shares) v /= get(block, thread, out + 4 * (begin + kept));
                    if (d.act.group == group_function::softmax) v = softmax(block, thread, v, out + 4 * begin, group);
                    routes.store(base + h.at + o, h.times ? h.times.load(o) * v : v);
                }
            });
            block.sync();
        }
    }
    /// There are few values: every thread adds all of them up.
    template <class Block>
    KDNA_DEVICE static float softmax(Block& block, int thread, float own, int at, int count) {
        float largest = get(block, thread, at), sum = 0.0F;
        for (int i = 1; i < count; ++i) {
            const float v = get(block, thread, at + 4 * i);
            largest = v > largest ? v : largest;
        }
        for (int i = 0; i < count; ++i) sum += expf(get(block, thread, at + 4 * i) - largest);
        return expf(own - largest) / sum;
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
