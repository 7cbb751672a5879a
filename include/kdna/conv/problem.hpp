// The convolution of one layer, stated without naming an algorithm: what a plan is made for.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/config.hpp>
#include <kdna/core/machine.hpp>
#include <kdna/core/number_format.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/dna/source.hpp>

namespace kdna::inline KDNA_ABI::conv {

class prepared_kernels;

/// What a plan needs to know of a layer. It is read while a plan is made or explained, and not kept.
struct problem {
    source_ref source;  ///< the kernel's weights, and how its panels lie
    conv_params params{};
    const float* static_spatial = nullptr;  ///< s[KH*KW] that is the same for all samples, or null
    bool channel_factor = false;            ///< a gate g[C] is applied
    bool spatial_factor = false;            ///< s[KH*KW] is applied, static or routed
    bool routed_kernel = false;             ///< mixture weights or spatial factors differ from sample to sample
    bool equal_routes = false;              ///< a promise that they do not: those of sample 0 serve all samples
    bool channel_means = false;             ///< the means of the output's channels are wanted
    bool in_bands = false;                  ///< calls compute some rows at a time (row_band)
    /// Bytes that a kernel may take which an algorithm prepares once and keeps beside the packed one
    /// (prepared_kernels). 0 also forbids the algorithms that prepare a part of the kernel at a time.
    index_t transform_budget = 0;
    /// How such a kernel is stored where its size matters more than its bits: kernels kept transformed.
    number_format prepared_format = number_format::float32;
    /// The machine that the plan is made for.
    const machine* target = &machine::host();
    /// Where such kernels are kept. Null: each plan keeps its own.
    prepared_kernels* prepared = nullptr;

    [[nodiscard]] const panel_layout& kernel() const noexcept { return source.layout(); }
    [[nodiscard]] const kernel_shape& shape() const noexcept { return source.layout().shape(); }
    /// Whether panels are assembled when they are needed, instead of being stored.
    [[nodiscard]] bool assembles() const noexcept { return source.scratch_floats() > 0; }
    /// Multiply-adds of each weight of an assembled panel, 0 for a stored kernel.
    [[nodiscard]] index_t assembly_terms() const noexcept { return source.assembly_terms(); }
    /// n kernels that the input could be mixed for (source_ref::expanded), or 0.
    [[nodiscard]] index_t mixes() const noexcept { return source.expands() ? source.mixture_size() : 0; }
    /// Whether some channels of a panel can be had without the others.
    [[nodiscard]] bool assembles_parts() const noexcept { return !assembles() || source.assembles_parts(); }
    /// Whether one kernel serves all samples of a call.
    [[nodiscard]] bool one_kernel() const noexcept { return equal_routes || !routed_kernel; }
};

/// Order the input is promised to have. `any` serves every stride; `nhwc` promises that the channels of a pixel are
/// contiguous (stride.c == 1), which lets the plan read rows in place.
enum class input_order { any, nhwc };

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
