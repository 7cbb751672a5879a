// A channels-last copy of the input, for plans that cannot read it in place, or are faster from a copy.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/dna/factors.hpp>
#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Whether the input is copied, channels last, before the nest runs.
enum class staging { never, if_strided, always };

/// How the copy lies: staged[n][h][w][pixel_floats], with a border of zeros or of the map's opposite side, and each
/// channel times its gate.
struct stage_layout {
    shape4 in{};
    padding border = 0;
    index_t pixel_floats = 0;  ///< channels, and some more where rows would compete for the same cache sets
    /// The border is the map's opposite side. It is then a part of the map that the nest sees, which has no padding.
    bool circular = false;

    [[nodiscard]] index_t rows() const noexcept { return in.h + border.top + border.bottom; }
    [[nodiscard]] index_t columns() const noexcept { return in.w + border.left + border.right; }
    [[nodiscard]] index_t row_floats() const noexcept { return columns() * pixel_floats; }
    [[nodiscard]] index_t floats() const {
        return checked_mul(checked_mul(in.n, rows(), "stage"), checked_mul(columns(), pixel_floats, "stage"), "stage");
    }
    /// Extents of the map that the nest sees.
    [[nodiscard]] shape4 map() const noexcept { return circular ? shape4{in.n, in.c, rows(), columns()} : in; }
    /// The copy as a view of that map. A border of zeros is not a part of the view; the nest may read it around the
    /// map.
    [[nodiscard]] tensor_view<const float> view(const float* staged) const noexcept {
        if (circular) return {staged, map(), {rows() * row_floats(), 1, row_floats(), pixel_floats}};
        return {staged + border.top * row_floats() + border.left * pixel_floats,
                in,
                {rows() * row_floats(), 1, row_floats(), pixel_floats}};
    }
};

/// Where index i, at most one extent outside the map, lies on it when the map is continued by its opposite side.
[[nodiscard]] constexpr index_t wrapped(index_t i, index_t extent) noexcept {
    return i < 0 ? i + extent : i >= extent ? i - extent : i;
}

/// Fills rows [first, last) of the copy, counted over all samples. `gate` is g[C] of each sample, or nothing; row 0 of
/// `x` is row `x_first` of the map.
KDNA_FUNC void stage_rows(const stage_layout& s, const tensor_view<const float>& x, index_t x_first,
                          const factor_set::per_sample& gate, float* staged, index_t first, index_t last) noexcept;

}  // namespace kdna::inline KDNA_ABI::conv

#ifndef KDNA_COMPILED
#include <kdna/conv/stage.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
