// KernelWarehouse (Li, Yao, arXiv 2406.07879): kernels assembled from cells of a warehouse that all layers of a stage share.
//
//     cell j of a kernel  =  sum over i < n of  alpha[j, i] . e_i,      alpha = u / ( sum |u| + 1e-3 )
//
//     e        warehouse, a cell_bank         packed once for all layers             cells.hpp
//     kernel   warehouse_kernel(e, shape)     one panel at a time, per sample
//     alpha    warehouse_router               signed, no softmax; training's blend with a one-hot is 0 at inference
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/attention.hpp>
#include <kdna/dna/cells.hpp>
#include <kdna/dna/router.hpp>
#include <kdna/dna/source.hpp>

namespace kdna::inline KDNA_ABI {

/// The cells [n, o_e, c_e, kh_e, kw_e] (key warehouse_manager.weights.i).
using warehouse = cell_bank;

/// A layer's kernel as m combinations of the warehouse's n cells: m * n routed coefficients alpha[m, n] per sample.
class warehouse_kernel {
public:
    using optional_members =
        members<member::assembly_terms, member::assemble, member::prepare, member::stored, member::needs_mixture>;
    static constexpr bool needs_mixture = true;

    /// Throws kdna::error if the cells do not tile the kernel.
    warehouse_kernel(warehouse cells, const kernel_shape& k, std::string_view where = "warehouse_kernel")
        : cells_(std::move(cells)), layout_(k, cells_.shape(), where) {}

    [[nodiscard]] const warehouse& cells() const noexcept { return cells_; }
    [[nodiscard]] const panel_layout& layout() const noexcept { return layout_.panels(); }
    /// m, the combinations the kernel is made of.
    [[nodiscard]] index_t combinations() const noexcept { return layout_.combinations(); }
    [[nodiscard]] index_t mixture_size() const noexcept { return combinations() * cells_.shape().n; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    [[nodiscard]] index_t assembly_terms() const noexcept { return cells_.shape().n; }
    [[nodiscard]] KDNA_FUNC const float* panel(index_t group, index_t p, const float* alpha,
                                               float* scratch) const noexcept;
    KDNA_FUNC void assemble(index_t group, index_t p, const float* alpha, const channel_range& channels,
                            float* panel) const noexcept;
    [[nodiscard]] KDNA_FUNC std::span<const std::byte> stored(index_t group, index_t p, const channel_range& channels,
                                                              index_t i, index_t n) const noexcept;
    [[nodiscard]] KDNA_FUNC double weight(index_t o, index_t c, index_t t, const float* alpha) const noexcept;
    void prepare() const { cells_.prepare(); }
    template <class F>
    void for_each_storage(F&& f) const {
        cells_.for_each_storage(f);
    }

private:
    warehouse cells_;
    celled_layout layout_;
};
static_assert(kernel_source<warehouse_kernel>);

/// The tensors of an attention over C channels with h hidden units, for m combinations of n cells (reference keys
/// attention.{fc1, norm1, fc2} and, in the basis variant, fc3 and basis_bias).
struct warehouse_weights {
    std::span<const float> fc1{};  ///< [h, C], no bias
    batch_norm norm{};             ///< [h]
    linear_weights fc2{};          ///< [m * (n + 1), h], [m * (n + 1)]; basis: [m * (local + b + 1), h], no bias
    /// Basis variant: each combination has factors of its own for the layer's `local` cells, which are those from
    /// `first_local` on, and b basis factors that fc3 turns into those of the n - local others.
    std::span<const float> fc3{};         ///< [n - local, b], or empty
    std::span<const float> basis_bias{};  ///< [m * (n + 1)], in the basis variant
    index_t local = 0, first_local = 0;
};

/// u[m, n + 1] = fc2 ReLU( norm( fc1 mean(x) ) ), alpha[j, i] = u[j, i] / (sum over i' of |u[j, i']| + 1e-3) for i < n. The
/// basis variant is folded into one larger fc2, since fc3 is linear.
class warehouse_router {
public:
    using optional_members = members<member::floats, member::routes_mixture>;
    static constexpr bool routes_mixture = true;

    /// For m combinations of n cells. Throws kdna::error naming the tensor that does not fit.
    KDNA_FUNC warehouse_router(const warehouse_weights& w, index_t combinations, index_t cells, index_t channels,
                               std::string_view where = "attention");

    [[nodiscard]] index_t input_channels() const noexcept { return squeeze_.channels(); }
    [[nodiscard]] route_widths widths() const noexcept { return {.mixture = combinations_ * cells_}; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return squeeze_.hidden() + fc2_.outputs(); }
    [[nodiscard]] index_t floats() const noexcept { return squeeze_.floats() + fc2_.floats(); }
    /// fc1 with BatchNorm folded in; fc2 for all n cells; n.
    [[nodiscard]] const fully_connected& squeezing() const noexcept { return squeeze_.layer(); }
    [[nodiscard]] const fully_connected& fc2() const noexcept { return fc2_; }
    [[nodiscard]] index_t cells() const noexcept { return cells_; }

    KDNA_FUNC void operator()(const float* pooled, const route& out, float* scratch) const noexcept;

private:
    [[nodiscard]] KDNA_FUNC static fully_connected all_cells(const warehouse_weights& w, index_t combinations,
                                                             index_t cells, index_t hidden, std::string_view where);
    squeeze squeeze_;
    fully_connected fc2_;
    index_t combinations_, cells_;
};
static_assert(router<warehouse_router>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/kernel_warehouse.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
