// A convolution kernel in the order the micro-kernels read it: panels of neighbouring filters.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <span>
#include <string_view>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/simd/lanes.hpp>
#include <kdna/tensor/packed_once.hpp>

namespace kdna::inline KDNA_ABI {

/// Where each weight of a packed kernel lies.
///
/// Filters are cut into panels of `width` (two vectors); the last panel of a group is one vector wide if that is enough, and
/// its missing filters are zeros. Inside a panel the order is [depth][filter], where depth runs over taps, then channels:
///     grouped:    W[group][panel][tap][channel of the group][filter]
///     depthwise:  W[panel][tap][filter], the filters standing beside each other like the channels they read
/// so a micro-kernel reads it front to back, once, with aligned loads.
class panel_layout {
public:
    static constexpr index_t width = 2 * simd::lanes;

    panel_layout() = default;
    /// Throws kdna::error if the shape is not a kernel's.
    KDNA_FUNC explicit panel_layout(const kernel_shape& k);

    [[nodiscard]] const kernel_shape& shape() const noexcept { return shape_; }
    /// Groups that are packed apart; 1 for a depthwise kernel, whose filters share panels.
    [[nodiscard]] index_t groups() const noexcept { return groups_; }
    /// Filters per packed group.
    [[nodiscard]] index_t filters() const noexcept { return filters_; }
    /// Filters per packed group, with the zeros that fill its last vector.
    [[nodiscard]] KDNA_FUNC index_t padded_filters() const noexcept;
    /// Weights per filter: K of the matrix product.
    [[nodiscard]] index_t depth() const noexcept { return depth_; }
    /// Panels per packed group.
    [[nodiscard]] index_t panels() const noexcept { return panels_; }
    [[nodiscard]] index_t floats() const noexcept { return floats_; }
    [[nodiscard]] index_t group_floats() const noexcept { return group_floats_; }
    /// Floats of the largest panel.
    [[nodiscard]] index_t panel_floats() const noexcept { return depth_ * std::min(width, padded_filters()); }
    /// Filters of panel p that exist, 1 ... width.
    [[nodiscard]] index_t filters_of(index_t panel) const noexcept { return std::min(width, filters_ - panel * width); }
    /// Stored filters of panel p: one or two vectors.
    [[nodiscard]] KDNA_FUNC index_t width_of(index_t panel) const noexcept;
    [[nodiscard]] KDNA_FUNC index_t offset(index_t group, index_t panel) const noexcept;
    /// Which panel holds a weight, and where in it.
    struct position {
        index_t group, panel, offset;
    };
    /// Of weight (filter o, channel c within its group, tap t).
    [[nodiscard]] KDNA_FUNC position position_of(index_t o, index_t c, index_t t) const noexcept;
    [[nodiscard]] KDNA_FUNC index_t offset_of(index_t o, index_t c, index_t t) const noexcept;

    /// Calls f(offset in the panels, place in PyTorch's order [O, I/groups, KH, KW]) for every weight.
    template <class F>
    void for_each_weight(const F& f) const {
        std::size_t i = 0;
        for (index_t o = 0; o < shape_.o; ++o)
            for (index_t c = 0; c < shape_.channels_per_group(); ++c)
                for (index_t t = 0; t < shape_.taps(); ++t) f(offset_of(o, c, t), i++);
    }

private:
    kernel_shape shape_{};
    index_t groups_ = 1, filters_ = 1, depth_ = 1, panels_ = 1, group_floats_ = 0, floats_ = 0;
};

/// A kernel that is packed once, when its panels are first read (packed_once.hpp).
class packed_kernel {
public:
    /// `weights` are dense [O, I/groups, KH, KW] (PyTorch's order), stored in `format`. Throws kdna::error if their count is
    /// not the shape's, or if one is out of the format's range.
    KDNA_FUNC packed_kernel(const kernel_shape& k, std::span<const float> weights,
                            std::string_view where = "packed_kernel", number_format format = number_format::float32);

    /// Packs the panels, so that reading them allocates nothing afterwards.
    KDNA_FUNC void prepare() const;

    [[nodiscard]] const panel_layout& layout() const noexcept { return layout_; }
    [[nodiscard]] number_format format() const noexcept { return weights_.format(); }
    [[nodiscard]] KDNA_FUNC stored_numbers panel(index_t group, index_t panel) const noexcept;
    [[nodiscard]] KDNA_FUNC float weight(index_t o, index_t c, index_t t) const noexcept;
    /// The weights [O, I/groups, KH, KW] that it was made of, as they were rounded.
    KDNA_FUNC void copy_weights(std::span<float> to) const;
    /// Bytes that it holds: the weights, and once it is packed the panels instead.
    [[nodiscard]] index_t bytes() const { return weights_.bytes(); }

private:
    KDNA_FUNC static panel_layout checked(const kernel_shape& k, std::span<const float> weights,
                                          std::string_view where);
    [[nodiscard]] KDNA_FUNC stored_numbers data() const;
    panel_layout layout_;
    packed_once weights_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/tensor/packed_kernel.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
