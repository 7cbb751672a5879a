// Routers: from the sums of a layer's input channels to the factors of every sample.
#pragma once

#include <cmath>

#include <kdna/cuda/pool_kernels.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// act( W v + b ); no outputs: there is none.
struct device_dense {
    device_span<const float> w{};  ///< [inputs][outputs]
    device_span<const float> bias{};
    int inputs = 0, outputs = 0;
    device_activation act = device_activation::none;
};

/// What all routers of the library come down to: an optional hidden layer on the means, and up to four heads on that. Then the
/// factors that are part static, part routed, are resolved.
struct router_arguments {
    device_sums sums{};  ///< of the layer's input
    device_dense hidden{};
    device_dense mixture{}, channel{}, filter{}, spatial{};
    device_span<float> routes{};  ///< [sample][stride]
    int stride = 0;
    int mixture_at = 0, channel_at = 0, spatial_at = 0, scale_at = 0, shift_at = 0;  ///< multiples of 4
    device_span<const float> static_spatial{};                                       ///< multiplies s, or none
    device_span<const float> scale{}, shift{};  ///< [O], multiplied with the filter factor and added to the mixed bias
    device_span<const float> biases{}, bias_scale{};  ///< [n][O], mixed like the kernels, times [O]; or none
    int filters = 0;
};

/// Grid: samples. A dense layer's outputs lie across the threads; where it has few, its inputs are cut into parts, whose sums are
/// added in their order.
struct router_kernel {
    using arguments = router_arguments;
    static constexpr const char* name = "router_kernel";
    static constexpr int threads = 512;
    struct registers {
        float value;
    };

    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments& a) {
        int largest = a.mixture.outputs;
        for (const device_dense* d : {&a.channel, &a.filter, &a.spatial})
            largest = d->outputs > largest ? d->outputs : largest;
        return 4 * (threads + a.sums.channels + a.hidden.outputs + largest);
    }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int means = 4 * threads, hidden = means + 4 * a.sums.channels, out = hidden + 4 * a.hidden.outputs,
                  base = block.x * a.stride;
        block.parallel([&](int thread, registers&) {
            for (int c = thread; c < a.sums.channels; c += threads)
                put(block, thread, means + 4 * c, detail::mean_of(a.sums, block.x, c));
        });
        block.sync();
        int from = means;
        if (a.hidden.outputs > 0) {
            dense(block, a.hidden, means, hidden);
            from = hidden;
        }
        if (a.channel.outputs > 0) {
            dense(block, a.channel, from, out);
            block.parallel([&](int thread, registers&) {
                for (int c = thread; c < a.channel.outputs; c += threads)
                    a.routes.store(base + a.channel_at + c, get(block, thread, out + 4 * c));
            });
            block.sync();
        }
        if (a.filter.outputs > 0) {
            dense(block, a.filter, from, out);
            block.parallel([&](int thread, registers&) {
                for (int o = thread; o < a.filters; o += threads)
                    a.routes.store(base + a.scale_at + o, a.scale.load(o) * get(block, thread, out + 4 * o));
            });
            block.sync();
        }
        if (a.spatial.outputs > 0) {
            dense(block, a.spatial, from, out);
            block.parallel([&](int thread, registers&) {
                for (int t = thread; t < a.spatial.outputs; t += threads)
                    a.routes.store(base + a.spatial_at + t, get(block, thread, out + 4 * t) *
                                                                (a.static_spatial ? a.static_spatial.load(t) : 1.0F));
            });
            block.sync();
        }
        if (a.mixture.outputs > 0) {
            dense(block, a.mixture, from, out);
            block.parallel([&](int thread, registers&) {
                for (int i = thread; i < a.mixture.outputs; i += threads)
                    a.routes.store(base + a.mixture_at + i, get(block, thread, out + 4 * i));
                if (!a.biases) return;
                for (int o = thread; o < a.filters; o += threads) {
                    float bias = 0.0F;
                    for (int i = 0; i < a.mixture.outputs; ++i)
                        bias += get(block, thread, out + 4 * i) * a.biases.load(i * a.filters + o);
                    a.routes.store(base + a.shift_at + o, a.shift.load(o) + a.bias_scale.load(o) * bias);
                }
            });
        }
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
    KDNA_DEVICE static float activate(float v, device_activation act) {
        switch (act) {
            case device_activation::sigmoid: return 1.0F / (1.0F + expf(-v));
            case device_activation::hard_sigmoid: return detail::clip(v + 3.0F, device_activation::relu6) / 3.0F;
            default: return detail::clip(v, act);
        }
    }
    /// Shared memory [in, in + inputs) to [out, out + outputs), both from a barrier to a barrier. Works in the first `threads`
    /// floats of shared memory.
    template <class Block>
    KDNA_DEVICE static void dense(Block& block, const device_dense& d, int in, int out) {
        const int columns = d.outputs < threads ? d.outputs : threads, parts = threads / columns;
        KDNA_DEVICE_NO_UNROLL
        for (int first = 0; first < d.outputs; first += columns) {
            block.parallel([&](int thread, registers&) {
                const int o = first + thread % columns, part = thread / columns;
                if (part >= parts || o >= d.outputs) return;
                float sum = 0.0F;
                // Parts take turns, so that what a warp reads at once lies together.
                for (int i = part; i < d.inputs; i += parts)
                    sum += get(block, thread, in + 4 * i) * d.w.load(i * d.outputs + o);
                put(block, thread, 4 * thread, sum);
            });
            block.sync();
            block.parallel([&](int thread, registers&) {
                const int o = first + thread;
                if (thread >= columns || o >= d.outputs) return;
                float sum = d.bias.load(o);
                for (int part = 0; part < parts; ++part) sum += get(block, thread, 4 * (part * columns + thread));
                put(block, thread, out + 4 * o, d.act == device_activation::softmax ? sum : activate(sum, d.act));
            });
            block.sync();
        }
        if (d.act != device_activation::softmax) return;
        // Few values: every thread adds them all up, and has its own ready before any is overwritten.
        block.parallel([&](int thread, registers& r) {
            if (thread >= d.outputs) return;
            float largest = get(block, thread, out), sum = 0.0F;
            for (int i = 1; i < d.outputs; ++i) {
                const float v = get(block, thread, out + 4 * i);
                largest = v > largest ? v : largest;
            }
            for (int i = 0; i < d.outputs; ++i) sum += expf(get(block, thread, out + 4 * i) - largest);
            r.value = expf(get(block, thread, out + 4 * thread) - largest) / sum;
        });
        block.sync();
        block.parallel([&](int thread, registers& r) {
            if (thread < d.outputs) put(block, thread, out + 4 * thread, r.value);
        });
        block.sync();
    }
};

template <class T>
struct assembly_arguments {
    device_span<const T> kernels{};  ///< [n][size]
    device_factors coefficients{};   ///< [n] of every sample
    device_span<T> w{};              ///< [sample][size]
    int n = 0, size = 0;
};

/// The kernel of every sample, W = sum over i < n of a[i] * W_i. Grid: parts of a kernel, Width elements a thread; samples.
template <class Number>
struct assembly_kernel {
    using element = typename Number::element;
    using arguments = assembly_arguments<element>;
    static constexpr const char* name = "assembly_kernel";
    static constexpr int threads = 256, width = wide<element>;
    struct registers {};
    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments&) { return 0; }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        block.parallel([&](int thread, registers&) {
            const int at = (block.x * threads + thread) * width;
            if (at >= a.size) return;
            float sum[width] = {};
            for (int i = 0; i < a.n; ++i) {
                const float c = a.coefficients.values.load(block.y * a.coefficients.stride + i);
                const auto w = a.kernels.template load<width>(i * a.size + at);
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < width; ++e) sum[e] += c * to_float(w.v[e]);
            }
            pack<element, width> out;
            KDNA_DEVICE_UNROLL
            for (int e = 0; e < width; ++e) out.v[e] = from_float<element>(sum[e]);
            a.w.template store<width>(block.y * a.size + at, out);
        });
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda
