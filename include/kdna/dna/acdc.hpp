// ACDC, atom-coefficient decomposed convolution: coefficients that layers share, atoms of their own.
//
//     W[o, c, :, :]  =  sum over m < M of  A[o, c, m] . D[m, :, :]
//
// Seen tap by tap, W[:, :, t] is a combination of the M matrices A[:, :, m] with the factors D[:, t]: cells of one tap that
// every layer combines with constants of its own.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/cells.hpp>
#include <kdna/dna/source.hpp>

namespace kdna::inline KDNA_ABI {

/// The shared coefficients A, as M cells of one tap.
class shared_coefficients {
public:
    /// `a` [O, C, M]. Throws kdna::error if the count does not fit.
    [[nodiscard]] static shared_coefficients pack(index_t filters, index_t channels, index_t atoms,
                                                  std::span<const float> a, std::string_view where = "coefficients") {
        if (filters < 1 || channels < 1 || atoms < 1)
            throw error(std::string(where), "extents >= 1", concat(filters, ", ", channels, ", ", atoms));
        const index_t pairs = checked_mul(filters, channels, where);
        if (static_cast<index_t>(a.size()) != checked_mul(pairs, atoms, where))
            throw error(std::string(where), concat(filters, " x ", channels, " x ", atoms, " values"),
                        concat(a.size()));
        std::vector<float> by_atom(a.size());
        for (index_t p = 0; p < pairs; ++p)
            for (index_t m = 0; m < atoms; ++m)
                by_atom[static_cast<std::size_t>(m * pairs + p)] = a[static_cast<std::size_t>(p * atoms + m)];
        return shared_coefficients(cell_bank::pack({.n = atoms, .o = filters, .c = channels}, by_atom, where));
    }
    [[nodiscard]] const cell_bank& cells() const noexcept { return cells_; }

private:
    explicit shared_coefficients(cell_bank cells) : cells_(std::move(cells)) {}
    cell_bank cells_;
};

/// A layer's kernel: shared coefficients, and its own M * KH * KW numbers. Coefficients of [O', C'] serve any kernel whose O
/// and I/groups are multiples of those, every block with the same atoms.
class acdc_kernel {
public:
    using optional_members = members<member::assembly_terms, member::prepare, member::needs_mixture>;
    static constexpr bool needs_mixture = false;

    /// `atoms` [M, KH, KW]. Throws kdna::error if they do not fit the coefficients or the kernel.
    acdc_kernel(const shared_coefficients& a, const kernel_shape& k, std::span<const float> atoms,
                std::string_view where = "acdc_kernel")
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

    [[nodiscard]] const panel_layout& layout() const noexcept { return layout_.panels(); }
    [[nodiscard]] static index_t mixture_size() noexcept { return 0; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    [[nodiscard]] index_t assembly_terms() const noexcept { return cells_.shape().n; }
    [[nodiscard]] const float* panel(index_t group, index_t p, const float*, float* scratch) const noexcept {
        layout_.assemble(
            cells_, group, p, [this](index_t j) { return atoms_of(j); }, layout_.all_channels(), scratch);
        return scratch;
    }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float*) const noexcept {
        return layout_.weight(cells_, o, c, t, [this](index_t j) { return atoms_of(j); });
    }
    void prepare() const { cells_.prepare(); }
    template <class F>
    void for_each_storage(F&& f) const {
        cells_.for_each_storage(f);
        f(static_cast<const void*>(by_tap_.get()), static_cast<index_t>(by_tap_->size() * sizeof(float)));
    }

private:
    /// The factors of combination j, whatever its block: those of its tap.
    [[nodiscard]] const float* atoms_of(index_t j) const noexcept {
        return by_tap_->data() + j / blocks_ * cells_.shape().n;
    }
    cell_bank cells_;
    celled_layout layout_;
    index_t blocks_;
    std::shared_ptr<const std::vector<float>> by_tap_;  // D [KH*KW, M]
};
static_assert(kernel_source<acdc_kernel>);

}  // namespace kdna::inline KDNA_ABI
