// The factors of the kernel algebra.
//
//     y[o,p] = act( m[o] * ( sum over taps t, channels c of  W[o,c,t] * s[t] * g[c] * x[c,p+t] ) + b[o] + residual[o,p] )
//
// W is the kernel source's; s, g, m and b are here. None of them is ever multiplied into a kernel-sized tensor.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string_view>
#include <vector>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>
#include <kdna/core/shape.hpp>

namespace kdna::inline KDNA_ABI {

/// What a KernelDNA child owns besides its gate, as stored in the state_dict: a, where the factors of `adapted` are 1 + a.
/// Empty means no modulation along that axis.
struct static_adapter {
    std::span<const float> spatial{};  ///< a_sp, one per tap [KH*KW] (key static_spatial_attn)
    std::span<const float> filter{};   ///< a_f, one per filter [O] (key static_filter_attn)
};

/// A kernel source with a static adapter on it: a child. Copying it copies the adapter, never the source's weights.
template <class Source>
struct adapted {
    Source source;
    std::vector<float> spatial_factors{};  ///< s = 1 + a_sp [KH*KW], or empty
    std::vector<float> filter_factors{};   ///< 1 + a_f [O], or empty
};

/// Puts an adapter on a source. Throws kdna::error if an adapter's length is not that of its axis, or if it modulates the
/// taps of a kernel that has only one.
template <class Source>
[[nodiscard]] adapted<Source> adapt(Source source, const static_adapter& a, std::string_view where = "child") {
    const kernel_shape k = source.layout().shape();
    const auto taps = static_cast<std::size_t>(k.taps()), filters = static_cast<std::size_t>(k.o);
    if (!a.spatial.empty() && a.spatial.size() != taps)
        throw error(concat(where, " spatial"), concat(taps, " values for ", to_string(k)), concat(a.spatial.size()));
    if (!a.spatial.empty() && taps == 1)
        throw error(concat(where, " spatial"), "no spatial modulation on a 1x1 kernel", "one value");
    if (!a.filter.empty() && a.filter.size() != filters)
        throw error(concat(where, " filter"), concat(filters, " values for ", to_string(k)), concat(a.filter.size()));
    adapted<Source> child{std::move(source)};
    for (const float value : a.spatial) child.spatial_factors.push_back(1.0F + value);
    for (const float value : a.filter) child.filter_factors.push_back(1.0F + value);
    return child;
}

/// The factors of one call, resolved: arrays with a distance in floats between samples, 0 where all samples share one.
/// A null pointer is a factor of one. `scale` and `shift` are m and b with BatchNorm, bias and filter modulation folded in;
/// they are padded so that a whole panel can be read from any filter.
struct factor_set {
    struct per_sample {
        const float* data = nullptr;
        index_t stride = 0;
        [[nodiscard]] const float* of(index_t n) const noexcept {
            return data == nullptr ? nullptr : data + n * stride;
        }
        explicit operator bool() const noexcept { return data != nullptr; }
    };
    per_sample mixture{};  ///< weights of a mixture's kernels
    per_sample channel{};  ///< g[C]
    per_sample spatial{};  ///< s[KH*KW]
    per_sample scale{};    ///< m[O], never null
    per_sample shift{};    ///< b[O], never null
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
