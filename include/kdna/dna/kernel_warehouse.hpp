// KernelWarehouse (Li, Yao, arXiv 2406.07879): kernels assembled from cells of a warehouse that all layers of a stage share.
//
//     cell j of a kernel  =  sum over i < n of  alpha[j, i] . e_i,      alpha = u / ( sum |u| + 1e-3 )
//
//     e        warehouse, a cell_bank         packed once for all layers             cells.hpp
//     kernel   warehouse_kernel(e, shape)     one panel at a time, per sample
//     alpha    warehouse_router               signed, no softmax; training's blend with a one-hot is 0 at inference
#pragma once

#include <cmath>
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
    [[nodiscard]] const float* panel(index_t group, index_t p, const float* alpha, float* scratch) const noexcept {
        assemble(group, p, alpha, layout_.all_channels(), scratch);
        return scratch;
    }
    void assemble(index_t group, index_t p, const float* alpha, const channel_range& channels,
                  float* panel) const noexcept {
        const auto factors = [&](index_t j) { return alpha + j * assembly_terms(); };
        layout_.assemble(cells_, group, p, factors, channels, panel);
    }
    [[nodiscard]] std::span<const float> stored(index_t group, index_t p, const channel_range& channels, index_t i,
                                                index_t n) const noexcept {
        return layout_.stored(cells_, group, p, channels, i, n);
    }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float* alpha) const noexcept {
        return layout_.weight(cells_, o, c, t, [&](index_t j) { return alpha + j * assembly_terms(); });
    }
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
    static constexpr bool routes_mixture = true;

    /// For m combinations of n cells. Throws kdna::error naming the tensor that does not fit.
    warehouse_router(const warehouse_weights& w, index_t combinations, index_t cells, index_t channels,
                     std::string_view where = "attention")
        : squeeze_(w.fc1, w.norm, channels, concat(where, ".fc1"), concat(where, ".norm1")),
          fc2_(all_cells(w, combinations, cells, squeeze_.hidden(), where)),
          combinations_(combinations),
          cells_(cells) {
        if (fc2_.outputs() != checked_mul(combinations, checked_add(cells, 1, where), where))
            throw error(concat(where, ".fc2.weight"),
                        concat(combinations, " x ", cells + 1, " x ", squeeze_.hidden(), " values"),
                        concat(fc2_.outputs() * squeeze_.hidden()));
    }

    [[nodiscard]] index_t input_channels() const noexcept { return squeeze_.channels(); }
    [[nodiscard]] route_widths widths() const noexcept { return {.mixture = combinations_ * cells_}; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return squeeze_.hidden() + fc2_.outputs(); }
    [[nodiscard]] index_t floats() const noexcept { return squeeze_.floats() + fc2_.floats(); }
    /// fc1 with BatchNorm folded in; fc2 for all n cells; n.
    [[nodiscard]] const fully_connected& squeezing() const noexcept { return squeeze_.layer(); }
    [[nodiscard]] const fully_connected& fc2() const noexcept { return fc2_; }
    [[nodiscard]] index_t cells() const noexcept { return cells_; }

    void operator()(const float* pooled, const route& out, float* scratch) const noexcept {
        float* u = scratch + squeeze_.hidden();
        squeeze_(pooled, scratch);
        fc2_(scratch, u);
        float* alpha = out.mixture;
        for (index_t j = 0; j < combinations_; ++j, u += cells_ + 1, alpha += cells_) {
            float sum = 1e-3F;
            for (index_t i = 0; i <= cells_; ++i) sum += std::abs(u[i]);
            for (index_t i = 0; i < cells_; ++i) alpha[i] = u[i] / sum;
        }
    }

private:
    [[nodiscard]] static fully_connected all_cells(const warehouse_weights& w, index_t combinations, index_t cells,
                                                   index_t hidden, std::string_view where) {
        if (combinations < 1 || cells < 1)
            throw error(std::string(where), "at least one combination of at least one cell",
                        concat(combinations, " of ", cells));
        const std::string name = concat(where, ".fc2");
        const auto none = [](std::span<const float> values, const std::string& tensor, std::string_view why) {
            if (!values.empty()) throw error(tensor, concat("none ", why), concat(values.size(), " values"));
        };
        if (w.fc3.empty()) {
            none(w.basis_bias, concat(where, ".basis_bias"), "without fc3");
            return {w.fc2.weight, w.fc2.bias, hidden, name};
        }
        none(w.fc2.bias, concat(name, ".bias"), "beside fc3, but basis_bias");
        const index_t others = cells - w.local;
        if (w.local < 0 || others < 1 || w.first_local < 0 || w.first_local > others)
            throw error(std::string(where), concat("a layer's own cells among the ", cells, " of the warehouse"),
                        concat(w.local, " from cell ", w.first_local));
        const auto fc3 = static_cast<index_t>(w.fc3.size());
        if (fc3 % others != 0)
            throw error(concat(where, ".fc3.weight"), concat("a multiple of ", others, " values"), concat(fc3));
        const index_t basis = fc3 / others, given = w.local + basis + 1;
        const index_t rows = checked_mul(combinations, checked_add(cells, 1, where), where);
        if (static_cast<index_t>(w.fc2.weight.size()) !=
            checked_mul(checked_mul(combinations, given, where), hidden, where))
            throw error(concat(name, ".weight"), concat(combinations, " x ", given, " x ", hidden, " values"),
                        concat(w.fc2.weight.size()));
        // Rows of fc2 for every cell: a local one's own, or the combination of the basis rows that fc3 says.
        if (!w.basis_bias.empty() && static_cast<index_t>(w.basis_bias.size()) != rows)
            throw error(concat(where, ".basis_bias"), concat(rows, " values"), concat(w.basis_bias.size()));
        std::vector<float> weight(static_cast<std::size_t>(checked_mul(rows, hidden, where)));
        for (index_t j = 0; j < combinations; ++j)
            for (index_t i = 0; i <= cells; ++i)
                for (index_t k = 0; k < hidden; ++k) {
                    const auto row = [&](index_t r) {
                        return static_cast<double>(
                            w.fc2.weight[static_cast<std::size_t>((j * given + r) * hidden + k)]);
                    };
                    double v = 0.0;
                    if (i == cells) {
                        v = row(given - 1);
                    } else if (i >= w.first_local && i < w.first_local + w.local) {
                        v = row(i - w.first_local);
                    } else {
                        const index_t other = i < w.first_local ? i : i - w.local;
                        for (index_t b = 0; b < basis; ++b)
                            v += static_cast<double>(w.fc3[static_cast<std::size_t>(other * basis + b)]) *
                                 row(w.local + b);
                    }
                    weight[static_cast<std::size_t>((j * (cells + 1) + i) * hidden + k)] = static_cast<float>(v);
                }
        return {weight, w.basis_bias, hidden, name};
    }
    squeeze squeeze_;
    fully_connected fc2_;
    index_t combinations_, cells_;
};
static_assert(router<warehouse_router>);

}  // namespace kdna::inline KDNA_ABI
