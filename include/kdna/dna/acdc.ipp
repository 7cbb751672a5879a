// Definitions of acdc.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/acdc.hpp>
#include <kdna/dna/cell_assembly.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC shared_coefficients shared_coefficients::pack(index_t filters, index_t channels, index_t atoms,
                                                        std::span<const float> a, std::string_view where) {
    if (filters < 1 || channels < 1 || atoms < 1)
        throw error(std::string(where), "extents >= 1", concat(filters, ", ", channels, ", ", atoms));
    const index_t pairs = checked_mul(filters, channels, where);
    if (static_cast<index_t>(a.size()) != checked_mul(pairs, atoms, where))
        throw error(std::string(where), concat(filters, " x ", channels, " x ", atoms, " values"), concat(a.size()));
    std::vector<float> by_atom(a.size());
    for (index_t p = 0; p < pairs; ++p)
        for (index_t m = 0; m < atoms; ++m)
            by_atom[static_cast<std::size_t>(m * pairs + p)] = a[static_cast<std::size_t>(p * atoms + m)];
    return shared_coefficients(cell_bank::pack({.n = atoms, .o = filters, .c = channels}, by_atom, where));
}

KDNA_FUNC acdc_kernel::acdc_kernel(const shared_coefficients& a, const kernel_shape& k, std::span<const float> atoms,
                                   std::string_view where)
    : cells_(a.cells()), layout_(k, cells_.shape(), where), blocks_(layout_.combinations() / k.taps()) {
    const index_t n = cells_.shape().n;
    if (static_cast<index_t>(atoms.size()) != checked_mul(n, k.taps(), where))
        throw error(concat(where, " atoms"), concat(n, " x ", k.taps(), " values"), concat(atoms.size()));
    auto by_tap = std::make_shared<std::vector<float>>(atoms.size());
    for (index_t m = 0; m < n; ++m)
        for (index_t t = 0; t < k.taps(); ++t)
            (*by_tap)[static_cast<std::size_t>(t * n + m)] = atoms[static_cast<std::size_t>(m * k.taps() + t)];
    by_tap_ = std::move(by_tap);
}

KDNA_FUNC const float* acdc_kernel::panel(index_t group, index_t p, const float*, float* scratch) const noexcept {
    layout_.assemble(
        cells_, group, p, [this](index_t j) { return atoms_of(j); }, layout_.all_channels(), scratch);
    return scratch;
}

KDNA_FUNC double acdc_kernel::weight(index_t o, index_t c, index_t t, const float*) const noexcept {
    return layout_.weight(cells_, o, c, t, [this](index_t j) { return atoms_of(j); });
}

KDNA_FUNC const float* acdc_kernel::atoms_of(index_t j) const noexcept {
    return by_tap_->data() + j / blocks_ * cells_.shape().n;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
