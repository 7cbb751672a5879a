// What a matrix product is expected to cost.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/cost.hpp>
#include <kdna/conv/product/plan.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI::conv::product {
namespace cost {

using namespace conv::cost;

/// A tile times a panel, beyond its products: prologue, and epilogue of the tile's outputs (14 x 32, 6 x 16, 6 x 8).
inline constexpr double tile_cycles = by_instructions(59, 36, 41);
/// To point a tile's row at one run of the input.
inline constexpr double row_cycles = by_instructions(4.5, 6.4, 6.9);
/// More for a vector that is not stored whole (24 filters of 32).
inline constexpr double strided_cycles = by_instructions(13, 8, 8);
/// Clock cycles from an add to the next one to the same sum: a tile of one vector has few sums at a time.
inline constexpr double add_cycles = 4;
inline constexpr double pack_cycles = 1;  ///< to copy a float of a window

/// Rows of taps that lie on the map, over all rows of outputs.
[[nodiscard]] KDNA_COLD double tap_rows_on_map(const plan_request& r) noexcept {
    const index_t stride = r.params.stride.h, taps = r.shape().kh;
    index_t on_map = taps * r.out.h;
    for (index_t i = 0; i < taps; ++i) {
        const index_t before = r.params.pad.top - i * r.params.dilation.h;  // padding above this tap's first row
        on_map -= std::clamp<index_t>(ceil_div(before, stride), 0, r.out.h) +
                  std::clamp<index_t>(r.out.h - ceil_div(r.map.h + before, stride), 0, r.out.h);
    }
    return real(on_map);
}

/// One sample of a planned product. Before it is planned, for the choice, nothing counts as copied: `p` and `own` as
/// they are made, and `factors` false.
[[nodiscard]] KDNA_COLD double sample(const plan_request& r, const conv::plan& p, const plan& own,
                                      bool factors) noexcept {
    const kernel_shape& k = r.shape();
    const bool in_place = own.rows == input_rows::in_place, kernel_rows = own.rows == input_rows::kernel_rows,
               spatial = factors && r.layer.spatial_factor, between = spatial && in_place && !own.gate_in_panel;
    const index_t vectors = ceil_div(k.filters_per_group(), simd::lanes),
                  strided = k.filters_per_group() % simd::lanes == 0 ? 0 : (vectors - 1) % 2 + 1;
    // A panel of a single vector waits for its adds where the tallest tile has fewer rows than multiply-adds are under way.
    const double under_way = add_cycles * product_efficiency / multiply_add_cycles(r.target()),
                 waits = vectors % 2 == 0 ? 0.0 : std::max(under_way / real(own.tallest) - 1.0, 0.0);
    const double groups = real(k.groups), outputs = groups * pixels(r.out) * (real(vectors) + waits),
                 runs = own.packs() ? 1.0 : real(kernel_rows ? k.kh : k.taps()), kernel = real(r.kernel().floats()),
                 tiles = std::ceil(pixels(r.out) / real(own.tallest));
    // A tile within one row of the map leaves out the rows of taps that lie in the padding.
    const bool leaves_out = in_place && r.out.w >= own.tallest;
    const double tap_rows = leaves_out ? tap_rows_on_map(r) / real(r.out.h) : real(k.kh);
    const double products =
        outputs * real(k.channels_per_group() * k.kw) * tap_rows * multiply_add_cycles(r.target()) / product_efficiency;
    const double calls = tile_cycles * groups * tiles * real(r.kernel().panels());
    const double rows = groups * pixels(r.out) * (row_cycles * runs + strided_cycles * real(strided));
    const double packing = own.packs() ? pack_cycles * groups * pixels(r.out) * real(r.kernel().depth()) : 0.0;
    double copied = own.gate_in_panel || (spatial && !between) ? kernel * real(own.blocks) : 0.0;
    if (p.stage == staging::always) copied += real(p.staged.rows()) * real(p.staged.row_floats());
    return with_weights(products, kernel * sizeof(float), r.target()) + calls + rows + packing +
           (between ? outputs * runs : 0.0) + copy_cycles * copied / simd::lanes +
           (own.mixes_input() ? (real(r.layer.mixes()) - 1.0) * (products + packing)
                              : assembly(r.layer) * real(own.blocks)) +
           activations(r.map, r.out, r.target());
}

/// Whether mixing the input is expected to be faster than mixing the kernels, where the source can do either: n
/// convolutions in one deep product of packed windows, instead of assembling every panel for each sample. That is for
/// maps of a few pixels.
[[nodiscard]] KDNA_COLD bool mixing_input_pays(const plan_request& r) noexcept {
    const double map = real(r.out.h * r.out.w) * multiply_add_cycles(r.target()) / product_efficiency,
                 kernels = real(r.layer.mixes()), vectors = real(r.kernel().floats()) / simd::lanes,
                 packing = pack_cycles * real(r.out.h * r.out.w * r.kernel().groups() * r.kernel().depth());
    return kernels * (map * vectors + packing) < map * vectors + assembly(r.layer);
}

}  // namespace cost
}  // namespace kdna::inline KDNA_ABI::conv::product

#include <kdna/core/macros_pop.hpp>
