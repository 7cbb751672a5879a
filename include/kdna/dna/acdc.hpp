// ACDC, atom-coefficient decomposed convolution: coefficients that layers share, atoms of their own.
//
//     W[o, c, :, :]  =  sum over m < M of  A[o, c, m] . D[m, :, :]
//
// Seen tap by tap, W[:, :, t] is a combination of the M matrices A[:, :, m] with the factors D[:, t]: cells of one tap that
// every layer combines with constants of its own.
#pragma once

#include <kdna/core/macros_push.hpp>

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
    [[nodiscard]] KDNA_FUNC static shared_coefficients pack(index_t filters, index_t channels, index_t atoms,
                                                            std::span<const float> a,
                                                            std::string_view where = "coefficients");
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
    KDNA_FUNC acdc_kernel(const shared_coefficients& a, const kernel_shape& k, std::span<const float> atoms,
                          std::string_view where = "acdc_kernel");

    [[nodiscard]] const panel_layout& layout() const noexcept { return layout_.panels(); }
    [[nodiscard]] static index_t mixture_size() noexcept { return 0; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    [[nodiscard]] index_t assembly_terms() const noexcept { return cells_.shape().n; }
    [[nodiscard]] KDNA_FUNC const float* panel(index_t group, index_t p, const float*, float* scratch) const noexcept;
    [[nodiscard]] KDNA_FUNC double weight(index_t o, index_t c, index_t t, const float*) const noexcept;
    void prepare() const { cells_.prepare(); }
    template <class F>
    void for_each_storage(F&& f) const {
        cells_.for_each_storage(f);
        f(static_cast<const void*>(by_tap_.get()), static_cast<index_t>(by_tap_->size() * sizeof(float)));
    }

private:
    /// The factors of combination j, whatever its block: those of its tap.
    [[nodiscard]] KDNA_FUNC const float* atoms_of(index_t j) const noexcept;
    cell_bank cells_;
    celled_layout layout_;
    index_t blocks_;
    std::shared_ptr<const std::vector<float>> by_tap_;  // D [KH*KW, M]
};
static_assert(kernel_source<acdc_kernel>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/acdc.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
