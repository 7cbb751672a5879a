// Programs that assemble the kernels of samples in scratch, from what layers store, as convolution_program and
// depthwise_program read them.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/span.hpp>
#include <kdna/cuda/programs/elementwise.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Where the elements of a stored tensor lie in a kernel, for each of the combinations that the kernel is tiled with:
///
///     element (outer * middle + m) * inner + i of combination (piece * filters + f) * channels + c
///
/// The tensors of a mixture are whole kernels: there is one combination, and an element lies where it is stored.
struct cell_places {
    int inner = 1, middle = 1, filters = 1, channels = 1;
    int inner_stride = 1, middle_stride = 0, outer_stride = 0, piece_stride = 0, filter_stride = 0, channel_stride = 0;

    KDNA_DEVICE int of_element(int e) const {
        return e % inner * inner_stride + e / inner % middle * middle_stride + e / inner / middle * outer_stride;
    }
    KDNA_DEVICE int of_combination(int j) const {
        return j % channels * channel_stride + j / channels % filters * filter_stride +
               j / channels / filters * piece_stride;
    }
};

template <class T>
struct combination_arguments {
    device_span<const T> stored{};  ///< [n][size]
    device_factors coefficients{};  ///< [m][n] of every sample
    device_span<T> w{};             ///< [sample][kernel_size]
    int n = 0, size = 0, kernel_size = 0;
    int m = 1, all = 0;  ///< combinations of a sample, of all samples
    cell_places places{};
};

/// Combination j of a kernel = sum over i < n of a[j, i] * stored_i. A thread computes Width contiguous elements of
/// several combinations, so that what is stored is read once for all of these. Where Width > 1, the elements are
/// contiguous in the kernel as well. Grid: combinations, at_once a block; times parts of a stored tensor.
template <class T, int Width>
struct combination_program {
    using arguments = combination_arguments<T>;
    static constexpr const char* name = "combination_program";
    static constexpr int threads = 128, at_once = 8, terms = 32;
    struct registers {
        float sum[at_once][Width];
    };

    /// a[i][combination] of `terms` stored tensors
    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments&) { return 4 * terms * at_once; }
    [[nodiscard]] static grid_size grid(const arguments& a) {
        return {((a.all - 1) / at_once + 1) * ((a.size - 1) / (threads * Width) + 1), 1, 1};
    }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int groups = (a.all - 1) / at_once + 1, first = block.x % groups * at_once, rest = a.all - first,
                  count = rest < at_once ? rest : at_once, begin = block.x / groups * threads * Width;
        block.parallel([&](int, registers& r) {
            KDNA_DEVICE_UNROLL
            for (int j = 0; j < at_once; ++j) {
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < Width; ++e) r.sum[j][e] = 0.0F;
            }
        });
        KDNA_DEVICE_NO_UNROLL
        for (int term = 0; term < a.n; term += terms) {
            const int left = a.n - term, here = left < terms ? left : terms;
            block.parallel([&](int thread, registers&) {
                for (int k = thread; k < terms * at_once; k += threads) {
                    const int i = k % terms, j = first + k / terms;
                    const bool there = i < here && k / terms < count;
                    const float c =
                        there ? a.coefficients.values.load(j / a.m * a.coefficients.stride + j % a.m * a.n + term + i)
                              : 0.0F;
                    block.store(thread, 4 * (i * at_once + k / terms), pack<float, 1>{{c}});
                }
            });
            block.sync();
            block.parallel([&](int thread, registers& r) {
                const int at = begin + thread * Width;
                if (at >= a.size) return;
                KDNA_DEVICE_NO_UNROLL
                for (int i = 0; i < here; ++i) {
                    const auto w = a.stored.template load<Width>((term + i) * a.size + at);
                    KDNA_DEVICE_UNROLL
                    for (int j = 0; j < at_once; j += 4) {
                        if (j >= count) break;
                        const auto c = block.template load<float, 4>(thread, 4 * (i * at_once + j));
                        KDNA_DEVICE_UNROLL
                        for (int k = 0; k < 4; ++k) {
                            KDNA_DEVICE_UNROLL
                            for (int e = 0; e < Width; ++e) r.sum[j + k][e] += c.v[k] * to_float(w.v[e]);
                        }
                    }
                }
            });
            block.sync();
        }
        block.parallel([&](int thread, registers& r) {
            const int at = begin + thread * Width;
            if (at >= a.size) return;
            const int element = a.places.of_element(at);
            KDNA_DEVICE_UNROLL
            for (int j = 0; j < at_once; ++j) {
                if (j >= count) break;
                pack<T, Width> out;
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < Width; ++e) out.v[e] = from_float<T>(r.sum[j][e]);
                a.w.template store<Width>(
                    (first + j) / a.m * a.kernel_size + a.places.of_combination((first + j) % a.m) + element, out);
            }
        });
    }
};

template <class T>
struct decomposition_arguments {
    device_span<const T> w0{};        ///< [filters][depth]
    device_factors filter{}, core{};  ///< lambda [filters] and T [L][L] of every sample
    device_span<const float> p{};     ///< P transposed [L][filters]
    device_span<const float> q{};     ///< Q' [L][centre], filled with zeros to whole packs
    device_span<T> w{};               ///< [sample][filters][depth]
    int filters = 0, depth = 0, rank = 0;
    int first = 0,
        centre = 0;  ///< where in a filter's depth the packs of the centre tap lie, and how many elements these have
};

/// DCD's kernel of every sample, W = lambda . W0 + P T^T Q' on the centre tap (dna/dcd.hpp). A block multiplies the
/// middle and the left factor, M = T P^T [L][at_once]. Then a thread computes 16 bytes of the depth of all the block's
/// filters. Grid: filters, at_once a block; times samples.
template <class T>
struct decomposition_program {
    using arguments = decomposition_arguments<T>;
    static constexpr const char* name = "decomposition_program";
    static constexpr int threads = 128, at_once = 8, width = wide<T>, largest_rank = 1024;
    struct registers {};

    [[nodiscard]] KDNA_HOST_DEVICE static int shared_bytes(const arguments& a) { return 4 * at_once * a.rank; }
    [[nodiscard]] static grid_size grid(int samples, const arguments& a) {
        return {samples * ((a.filters - 1) / at_once + 1), 1, 1};
    }

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        const int groups = (a.filters - 1) / at_once + 1, sample = block.x / groups, begin = block.x % groups * at_once,
                  rest = a.filters - begin, count = rest < at_once ? rest : at_once;
        block.parallel([&](int thread, registers&) {
            for (int k = thread; k < a.rank * at_once; k += threads) {
                const int j = k / at_once, f = k % at_once;
                float sum = 0.0F;
                for (int i = 0; i < a.rank && f < count; ++i)
                    sum += a.core.values.load(sample * a.core.stride + j * a.rank + i) *
                           a.p.load(i * a.filters + begin + f);
                block.store(thread, 4 * k, pack<float, 1>{{sum}});
            }
        });
        block.sync();
        block.parallel([&](int thread, registers&) {
            KDNA_DEVICE_NO_UNROLL
            for (int d = thread * width; d < a.depth; d += threads * width) {
                float low[at_once][width] = {};
                if (d >= a.first && d < a.first + a.centre) add_low_rank(block, thread, a, d - a.first, low);
                KDNA_DEVICE_UNROLL
                for (int f = 0; f < at_once; ++f) {
                    if (f >= count) break;
                    const int at = (begin + f) * a.depth + d;
                    const float lambda = a.filter.values.load(sample * a.filter.stride + begin + f);
                    const auto w0 = a.w0.template load<width>(at);
                    pack<T, width> out;
                    KDNA_DEVICE_UNROLL
                    for (int e = 0; e < width; ++e) out.v[e] = from_float<T>(lambda * to_float(w0.v[e]) + low[f][e]);
                    a.w.template store<width>(sample * a.filters * a.depth + at, out);
                }
            }
        });
    }

private:
    /// low[f][e] += sum over j of M[j][f] * Q'[j][at + e].
    template <class Block>
    KDNA_DEVICE static void add_low_rank(Block& block, int thread, const arguments& a, int at,
                                         float (&low)[at_once][width]) {
        KDNA_DEVICE_NO_UNROLL
        for (int j = 0; j < a.rank; ++j) {
            pack<float, 4> m[at_once / 4];
            KDNA_DEVICE_UNROLL
            for (int i = 0; i < at_once / 4; ++i)
                m[i] = block.template load<float, 4>(thread, 4 * (j * at_once + i * 4));
            KDNA_DEVICE_UNROLL
            for (int e = 0; e < width; e += 4) {
                const auto q = a.q.template load<4>(j * a.centre + at + e);
                KDNA_DEVICE_UNROLL
                for (int f = 0; f < at_once; ++f) {
                    KDNA_DEVICE_UNROLL
                    for (int k = 0; k < 4; ++k) low[f][e + k] += m[f / 4].v[f % 4] * q.v[k];
                }
            }
        }
    }
};

template <class T>
struct given_kernel_arguments {
    device_span<const float> given{};  ///< [kernel][filter][channel][tap], or [kernel][tap]
    device_span<T> w{};                ///< [kernel][size]
    int given_size = 0, size = 0;
    int filters = 1, channels = 1, taps = 1, filter_stride = 1,
        tap_stride = 1;  ///< as in weight_layout (layers/weight_layout.hpp)
    bool depthwise = false;
};

/// Kernels that a call brings, in the layout that the products read. A thread writes one weight, or one of the zeros
/// that fill a filter.
template <class T>
struct given_kernel_program : elementwise_program {
    using arguments = given_kernel_arguments<T>;
    static constexpr const char* name = "given_kernel_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.w.size, [&](int i) {
            const int kernel = i / a.size, at = i % a.size, in_filter = at % a.filter_stride;
            const int filter = a.depthwise ? at % a.tap_stride : at / a.filter_stride,
                      tap = (a.depthwise ? at : in_filter) / a.tap_stride,
                      channel = a.depthwise ? 0 : in_filter % a.tap_stride;
            const bool there = filter < a.filters && tap < a.taps && channel < a.channels;
            // As many weights as a filter has taps: all channels share them.
            const int from = a.given_size == a.taps ? tap : (filter * a.channels + channel) * a.taps + tap;
            a.w.store(i, from_float<T>(there ? a.given.load(kernel * a.given_size + from) : 0.0F));
        });
    }
};

template <class T>
struct zero_arguments {
    device_span<T> w{};  ///< whole packs
};

/// Zeros, for kernels with places that no cell covers: the ends of their filters.
template <class T>
struct zero_program : elementwise_program {
    using arguments = zero_arguments<T>;
    static constexpr const char* name = "zero_program";

    template <class Block>
    KDNA_DEVICE static void run(Block& block, const arguments& a) {
        for_each(block, a.w.size / wide<T>, [&](int i) { a.w.template store<wide<T>>(i * wide<T>, {}); });
    }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
