// Kernel sources: where the weights W[o,c,t] of the algebra come from.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include <kdna/dna/factors.hpp>
#include <kdna/dna/members.hpp>
#include <kdna/simd/widen.hpp>
#include <kdna/tensor/packed_kernel.hpp>

namespace kdna::inline KDNA_ABI {

/// Share i of n of the memory of `runs` runs of `count` numbers each, `stride` numbers apart: a part of one run, empty where they do
/// not divide.
[[nodiscard]] inline std::span<const std::byte> share_of_runs(const stored_numbers& from, index_t stride, index_t runs,
                                                              index_t count, index_t i, index_t n) noexcept {
    const index_t each = std::max<index_t>(n / runs, 1), run = i / each, piece = i % each;
    if (run >= runs) return {};
    const index_t first = count * piece / each;
    return (from + (run * stride + first)).bytes(count * (piece + 1) / each - first);
}

/// A kernel source serves one packed panel of filters at a time. A static source returns a pointer into what it stores; one
/// that is built per sample (a mixture, cells of a warehouse) writes the panel into `scratch` and returns that. So the loop
/// nest never sees a whole kernel, and a source never knows about convolution.
///
///     layout()                          how the panels lie (tensor/packed_kernel.hpp), with the kernel's shape
///     mixture_size()                    number of routed coefficients per sample it needs; 0 for a static source
///     scratch_floats()                  floats of scratch for one panel; 0 if it never writes any
///     panel(group, p, mixture, scratch) panel p of a group for the coefficients `mixture` [mixture_size()]
///     weight(o, c, t, mixture)          one weight in double precision: what the reference backend computes with
///     for_each_storage(f)               f(address, bytes) for every block of weights it keeps alive, shared ones included
///
///     optional_members                  members<...>: which of the following it has (dna/members.hpp)
///
/// Optional:
///
///     has_bias(), bias(o, mixture)      a bias of its own, added after the filter modulation
///     assembly_terms()                  multiply-adds that panel() spends on one weight, for the cost model; else 1
///     assemble(group, p, mixture, channels, to)  makes the rows of some channels only: to[taps][channels.count][filter]
///     prepare()                         makes ready what panel() reads, so that panel() then allocates nothing; called
///                                       when a layer is planned
///     copy_weights(to)                  writes everything that is stored in PyTorch's order (the function copy_weights)
///     expanded(group, p)                all n kernels of a mixture, [kernel][channel][tap][filter]: what a panel is the sum of, so
///                                       that the input can be mixed instead; null where they are not stored as float32
///     stored(group, p, channels, i, n)  share i of n of the memory that those rows are made of, contiguous, to be prefetched
///     needs_mixture                     static constexpr bool: whether mixture_size() is above 0, where the type knows
///     pointwise                         static constexpr bool: whether every kernel is 1x1, where the type knows
///
/// assemble, expanded and stored are noexcept. The last two let conv2d refuse a router that does not fit when it is compiled;
/// without them it does when it is made.
// clang-format off
template <class S>
concept kernel_source = std::copy_constructible<S> && requires(const S& s, index_t i, const float* mixture, float* scratch,
                                                               void (*visit)(const void*, index_t)) {
    { s.layout() } -> std::convertible_to<const panel_layout&>;
    { s.mixture_size() } -> std::convertible_to<index_t>;
    { s.scratch_floats() } -> std::convertible_to<index_t>;
    { s.panel(i, i, mixture, scratch) } noexcept -> std::same_as<const float*>;
    { s.weight(i, i, i, mixture) } -> std::convertible_to<double>;
    s.for_each_storage(visit);
} && lists_optional_members<S, member::bias, member::assembly_terms, member::assemble, member::prepare,
                            member::copy_weights, member::expanded, member::stored, member::needs_mixture,
                            member::pointwise>
  && optional_member_as_listed<S, member::bias> && optional_member_as_listed<S, member::assembly_terms>
  && optional_member_as_listed<S, member::assemble> && optional_member_as_listed<S, member::prepare>
  && optional_member_as_listed<S, member::copy_weights> && optional_member_as_listed<S, member::expanded>
  && optional_member_as_listed<S, member::stored> && optional_member_as_listed<S, member::needs_mixture>
  && optional_member_as_listed<S, member::pointwise>;
// clang-format on

/// Writes what is stored as float32 in PyTorch's order, from which a backend with a layout of its own builds: the weights of a static
/// source [O, I/groups, KH, KW], the kernels of a mixture [n, O, I/groups, KH, KW], or the cells of a bank [n, o, c, kh, kw]. Those
/// are the very floats that the source was made of. A source without a member copy_weights has to be static.
template <class S>
void copy_weights(const S& stored, std::span<float> to) {
    if constexpr (requires { stored.copy_weights(to); }) {
        stored.copy_weights(to);
    } else {
        const kernel_shape& k = stored.layout().shape();
        std::size_t next = 0;
        for (index_t o = 0; o < k.o; ++o)
            for (index_t c = 0; c < k.channels_per_group(); ++c)
                for (index_t t = 0; t < k.taps(); ++t) to[next++] = static_cast<float>(stored.weight(o, c, t, nullptr));
    }
}

/// One kernel [O, I/groups, KH, KW], packed once and shared by everyone who copies this handle: a plain convolution's
/// kernel, and the parent of any number of children. Its weights live as long as the last layer that uses them.
///
/// Stored in 16 bits it takes half the memory, and its panels are widened one at a time into scratch, as others are assembled.
class dense_kernel {
public:
    using optional_members =
        members<member::assemble, member::prepare, member::copy_weights, member::stored, member::needs_mixture>;
    static constexpr bool needs_mixture = false;

    /// `weights` in PyTorch's order; they are copied into panels, rounded to `format`. Throws kdna::error if their count is not the
    /// shape's, or if one is out of the format's range.
    [[nodiscard]] static dense_kernel pack(const kernel_shape& k, std::span<const float> weights,
                                           std::string_view where = "parent_kernel",
                                           number_format format = number_format::float32) {
        return dense_kernel(std::make_shared<const packed_kernel>(k, weights, where, format));
    }

    /// A child: this kernel, shared, with an adapter of its own. Throws kdna::error if the adapter does not fit.
    [[nodiscard]] adapted<dense_kernel> child(const static_adapter& a, std::string_view where = "child") const {
        return adapt(*this, a, where);
    }

    [[nodiscard]] const kernel_shape& shape() const noexcept { return packed_->layout().shape(); }
    [[nodiscard]] const panel_layout& layout() const noexcept { return packed_->layout(); }
    [[nodiscard]] number_format format() const noexcept { return packed_->format(); }
    [[nodiscard]] static index_t mixture_size() noexcept { return 0; }
    [[nodiscard]] index_t scratch_floats() const noexcept {
        return format() == number_format::float32 ? 0 : layout().panel_floats();
    }
    [[nodiscard]] const float* panel(index_t group, index_t p, const float*, float* scratch) const noexcept {
        const stored_numbers from = packed_->panel(group, p);
        if (from.format() == number_format::float32) return from.floats();
        widen(from, layout().depth() * layout().width_of(p), scratch);
        return scratch;
    }
    void assemble(index_t group, index_t p, const float*, const channel_range& channels, float* to) const noexcept {
        const index_t width = layout().width_of(p), taps = shape().taps(), depth = layout().depth() / taps;
        for (index_t t = 0; t < taps; ++t)
            widen(packed_->panel(group, p) + (t * depth + channels.first) * width, channels.count * width,
                  to + t * channels.count * width);
    }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float*) const noexcept {
        return packed_->weight(o, c, t);
    }
    [[nodiscard]] std::span<const std::byte> stored(index_t group, index_t p, const channel_range& channels, index_t i,
                                                    index_t n) const noexcept {
        const index_t width = layout().width_of(p), taps = shape().taps(), depth = layout().depth() / taps;
        return share_of_runs(packed_->panel(group, p) + channels.first * width, depth * width, taps,
                             channels.count * width, i, n);
    }
    void prepare() const { packed_->prepare(); }
    void copy_weights(std::span<float> to) const { packed_->copy_weights(to); }
    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(packed_.get()), packed_->bytes());
    }

private:
    explicit dense_kernel(std::shared_ptr<const packed_kernel> packed) : packed_(std::move(packed)) {}
    std::shared_ptr<const packed_kernel> packed_;
};

/// The paper's word for a dense kernel that children share.
using parent_kernel = dense_kernel;

static_assert(kernel_source<dense_kernel>);

/// Any kernel source by reference, as layers and loop nests take it: one indirect call per panel, so that both are compiled
/// once and not once per method.
class source_ref {
public:
    // clang-format off
    template <class S>
        requires(!std::same_as<S, source_ref> && kernel_source<S>)
    explicit source_ref(const S& s) noexcept  // clang-format on
        : source_(&s),
          layout_(&s.layout()),
          scratch_floats_(s.scratch_floats()),
          mixture_size_(s.mixture_size()),
          assembly_terms_(scratch_floats_ > 0 ? 1 : 0),
          panel_([](const void* p, index_t group, index_t panel, const float* mixture, float* scratch) noexcept {
              return static_cast<const S*>(p)->panel(group, panel, mixture, scratch);
          }),
          weight_([](const void* p, index_t o, index_t c, index_t t, const float* mixture) {
              return static_cast<double>(static_cast<const S*>(p)->weight(o, c, t, mixture));
          }) {
        using has = typename S::optional_members;
        // The panels of a source that makes none are read where they are stored, in parts as well.
        if constexpr (has::template has<member::assemble>)
            if (scratch_floats_ > 0)
                assemble_ = [](const void* p, index_t group, index_t panel, const float* mixture,
                               const channel_range& channels, float* to) noexcept {
                    static_cast<const S*>(p)->assemble(group, panel, mixture, channels, to);
                };
        if constexpr (has::template has<member::expanded>)
            expanded_ = [](const void* p, index_t group, index_t panel) noexcept {
                return static_cast<const S*>(p)->expanded(group, panel);
            };
        if constexpr (has::template has<member::stored>)
            stored_ = [](const void* p, index_t group, index_t panel, const channel_range& channels, index_t i,
                         index_t n) noexcept { return static_cast<const S*>(p)->stored(group, panel, channels, i, n); };
        if constexpr (has::template has<member::prepare>)
            prepare_ = [](const void* p) { static_cast<const S*>(p)->prepare(); };
        if constexpr (has::template has<member::assembly_terms>) assembly_terms_ = s.assembly_terms();
        if constexpr (has::template has<member::bias>)
            if (s.has_bias())
                bias_ = [](const void* p, index_t o, const float* mixture) noexcept {
                    return static_cast<float>(static_cast<const S*>(p)->bias(o, mixture));
                };
    }

    [[nodiscard]] const panel_layout& layout() const noexcept { return *layout_; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return scratch_floats_; }
    [[nodiscard]] index_t mixture_size() const noexcept { return mixture_size_; }
    /// Multiply-adds that panel() spends on one weight; 0 for a stored kernel.
    [[nodiscard]] index_t assembly_terms() const noexcept { return assembly_terms_; }
    /// Packs what panel() reads.
    void prepare() const {
        if (prepare_ != nullptr) prepare_(source_);
    }
    /// Whether it has a bias of its own, and that of filter o.
    [[nodiscard]] bool has_bias() const noexcept { return bias_ != nullptr; }
    [[nodiscard]] float bias(index_t o, const float* mixture) const noexcept { return bias_(source_, o, mixture); }
    [[nodiscard]] const float* panel(index_t group, index_t p, const float* mixture, float* scratch) const noexcept {
        return panel_(source_, group, p, mixture, scratch);
    }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float* mixture) const {
        return weight_(source_, o, c, t, mixture);
    }
    /// Whether some channels of a panel can be made by themselves.
    [[nodiscard]] bool assembles_parts() const noexcept { return assemble_ != nullptr; }
    void assemble(index_t group, index_t panel, const float* mixture, const channel_range& channels,
                  float* to) const noexcept {
        assemble_(source_, group, panel, mixture, channels, to);
    }
    /// Whether it is a mixture whose kernels can be had as they are stored.
    [[nodiscard]] bool expands() const noexcept { return expanded_ != nullptr && expanded(0, 0) != nullptr; }
    [[nodiscard]] const float* expanded(index_t group, index_t panel) const noexcept {
        return expanded_(source_, group, panel);
    }
    /// Empty where a source does not say.
    [[nodiscard]] std::span<const std::byte> stored(index_t group, index_t panel, const channel_range& channels,
                                                    index_t i, index_t n) const noexcept {
        return stored_ == nullptr ? std::span<const std::byte>() : stored_(source_, group, panel, channels, i, n);
    }

private:
    const void* source_;
    const panel_layout* layout_;
    index_t scratch_floats_, mixture_size_, assembly_terms_;
    const float* (*panel_)(const void*, index_t, index_t, const float*, float*) noexcept;
    double (*weight_)(const void*, index_t, index_t, index_t, const float*);
    void (*prepare_)(const void*) = nullptr;
    void (*assemble_)(const void*, index_t, index_t, const float*, const channel_range&, float*) noexcept = nullptr;
    const float* (*expanded_)(const void*, index_t, index_t) noexcept = nullptr;
    std::span<const std::byte> (*stored_)(const void*, index_t, index_t, const channel_range&, index_t,
                                          index_t) noexcept = nullptr;
    float (*bias_)(const void*, index_t, const float*) noexcept = nullptr;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
