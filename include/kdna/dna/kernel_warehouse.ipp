// Definitions of kernel_warehouse.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/dna/cell_assembly.hpp>
#include <kdna/dna/kernel_warehouse.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC const float* warehouse_kernel::panel(index_t group, index_t p, const float* alpha,
                                               float* scratch) const noexcept {
    assemble(group, p, alpha, layout_.all_channels(), scratch);
    return scratch;
}

KDNA_FUNC void warehouse_kernel::assemble(index_t group, index_t p, const float* alpha, const channel_range& channels,
                                          float* panel) const noexcept {
    const auto factors = [&](index_t j) { return alpha + j * assembly_terms(); };
    layout_.assemble(cells_, group, p, factors, channels, panel);
}

KDNA_FUNC std::span<const std::byte> warehouse_kernel::stored(index_t group, index_t p, const channel_range& channels,
                                                              index_t i, index_t n) const noexcept {
    return layout_.stored(cells_, group, p, channels, i, n);
}

KDNA_FUNC double warehouse_kernel::weight(index_t o, index_t c, index_t t, const float* alpha) const noexcept {
    return layout_.weight(cells_, o, c, t, [&](index_t j) { return alpha + j * assembly_terms(); });
}

KDNA_FUNC warehouse_router::warehouse_router(const warehouse_weights& w, index_t combinations, index_t cells,
                                             index_t channels, std::string_view where)
    : squeeze_(w.fc1, w.norm, channels, concat(where, ".fc1"), concat(where, ".norm1")),
      fc2_(all_cells(w, combinations, cells, squeeze_.hidden(), where)),
      combinations_(combinations),
      cells_(cells) {
    if (fc2_.outputs() != checked_mul(combinations, checked_add(cells, 1, where), where))
        throw error(concat(where, ".fc2.weight"),
                    concat(combinations, " x ", cells + 1, " x ", squeeze_.hidden(), " values"),
                    concat(fc2_.outputs() * squeeze_.hidden()));
}

KDNA_FUNC void warehouse_router::operator()(const float* pooled, const route& out, float* scratch) const noexcept {
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

KDNA_FUNC fully_connected warehouse_router::all_cells(const warehouse_weights& w, index_t combinations, index_t cells,
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
                    return static_cast<double>(w.fc2.weight[static_cast<std::size_t>((j * given + r) * hidden + k)]);
                };
                double v = 0.0;
                if (i == cells) {
                    v = row(given - 1);
                } else if (i >= w.first_local && i < w.first_local + w.local) {
                    v = row(i - w.first_local);
                } else {
                    const index_t other = i < w.first_local ? i : i - w.local;
                    for (index_t b = 0; b < basis; ++b)
                        v += static_cast<double>(w.fc3[static_cast<std::size_t>(other * basis + b)]) * row(w.local + b);
                }
                weight[static_cast<std::size_t>((j * (cells + 1) + i) * hidden + k)] = static_cast<float>(v);
            }
    return {weight, w.basis_bias, hidden, name};
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
