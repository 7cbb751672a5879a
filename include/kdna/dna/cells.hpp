// Kernels that are assembled from cells which several layers share.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/tensor/packed_kernel.hpp>
#include <kdna/tensor/packed_once.hpp>

namespace kdna::inline KDNA_ABI {

/// n cells of o filters, c channels and kh x kw taps each.
struct cell_shape {
    index_t n = 1, o = 1, c = 1, kh = 1, kw = 1;
    [[nodiscard]] constexpr index_t taps() const noexcept { return kh * kw; }
    friend constexpr bool operator==(const cell_shape&, const cell_shape&) = default;
};

[[nodiscard]] KDNA_FUNC std::string to_string(const cell_shape& s);

/// The cells, packed once and shared by all copies of this handle. They lie as bank[block][tap][channel][cell][filter],
/// in blocks of as many filters as a panel has, so that a combination of all cells streams them front to back.
class cell_bank {
public:
    /// `weights` [n, o, c, kh, kw], stored in `format`. Throws kdna::error if an extent is not positive, the count is not the
    /// shape's, or a weight is out of the format's range.
    [[nodiscard]] KDNA_FUNC static cell_bank pack(const cell_shape& s, std::span<const float> weights,
                                                  std::string_view where = "cell_bank",
                                                  number_format format = number_format::float32);

    [[nodiscard]] const cell_shape& shape() const noexcept { return storage_->shape; }
    [[nodiscard]] number_format format() const noexcept { return storage_->weights.format(); }
    /// Filters of block b, with the zeros that fill its last vector: the distance between cells in numbers.
    [[nodiscard]] index_t width_of(index_t block) const noexcept { return storage_->width_of(block); }
    /// Filter 0 of a block in cell 0; those of cell i follow i * width_of(block) later.
    [[nodiscard]] KDNA_FUNC stored_numbers rows(index_t block, index_t tap, index_t channel) const noexcept;
    [[nodiscard]] KDNA_FUNC float weight(index_t cell, index_t o, index_t c, index_t t) const noexcept;
    /// Packs the cells, so that reading them allocates nothing afterwards.
    KDNA_FUNC void prepare() const;
    /// The cells [n, o, c, kh, kw] that it was made of, as they were rounded.
    KDNA_FUNC void copy_weights(std::span<float> to) const;
    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(storage_.get()), storage_->weights.bytes());
    }

private:
    struct storage {
        storage(const cell_shape& s, std::span<const float> cells, std::string_view where, number_format format)
            : shape(s), weights(cells, numbers_of(s, where), format, where) {}
        [[nodiscard]] static index_t numbers_of(const cell_shape& s, std::string_view where) {
            const index_t padded = checked_add(s.o, simd::lanes - 1, where) / simd::lanes * simd::lanes;
            const index_t numbers = checked_mul(checked_mul(padded, s.c * s.taps(), where), s.n, where);
            return checked_add(numbers, simd::lanes, where);  // whole vectors are read from any filter on
        }
        [[nodiscard]] stored_numbers data() const { return weights.packed(*this); }
        /// Calls f(offset in the bank, place in PyTorch's order) for every weight.
        template <class F>
        void for_each_weight(const F& f) const {
            std::size_t next = 0;
            for (index_t i = 0; i < shape.n; ++i)
                for (index_t o = 0; o < shape.o; ++o)
                    for (index_t c = 0; c < shape.c; ++c)
                        for (index_t t = 0; t < shape.taps(); ++t) {
                            const index_t block = o / panel_layout::width;
                            f(offset(block, t, c) + i * width_of(block) + o % panel_layout::width, next++);
                        }
        }
        [[nodiscard]] index_t width_of(index_t block) const noexcept {
            return shape.o - block * panel_layout::width <= simd::lanes ? simd::lanes : panel_layout::width;
        }
        [[nodiscard]] index_t offset(index_t block, index_t tap, index_t channel) const noexcept {
            return shape.n *
                   (block * panel_layout::width * shape.taps() * shape.c + (tap * shape.c + channel) * width_of(block));
        }
        cell_shape shape;
        packed_once weights;
    };
    explicit cell_bank(std::shared_ptr<const storage> s) : storage_(std::move(s)) {}
    std::shared_ptr<const storage> storage_;
};

/// A kernel cut into cells, each a combination of those in a bank:
///
///     W[o, c, t] = sum over i < n of a[j][i] * cell_i[o % o_e, c % c_e, t % t_e],   j = (s * go + o / o_e) * gi + c / c_e
///
/// with s = t / t_e. Taps are counted row by row, so cells of several taps that are not whole kernels are pieces of that
/// sequence. c is a channel within its group, o counts over all groups.
class celled_layout {
public:
    /// Throws kdna::error if the cells do not tile the kernel.
    KDNA_FUNC celled_layout(const kernel_shape& k, const cell_shape& cell, std::string_view where);

    [[nodiscard]] const panel_layout& panels() const noexcept { return panels_; }
    /// Combinations the kernel is made of, m = gs * go * gi.
    [[nodiscard]] index_t combinations() const noexcept { return pieces_ * filters_ * channels_; }

    /// Assembles the rows of some channels of panel p of a group: to[taps][range.count][filter]. `factors(j)` are the n factors of
    /// combination j. Defined in dna/cell_assembly.hpp, for sources that are made of cells.
    template <class Factors>
    void assemble(const cell_bank& bank, index_t group, index_t p, const Factors& factors, const channel_range& range,
                  float* panel) const noexcept;
    /// Share i of n of the cells' memory that those rows are made of.
    [[nodiscard]] KDNA_FUNC std::span<const std::byte> stored(const cell_bank& bank, index_t group, index_t p,
                                                              const channel_range& range, index_t i,
                                                              index_t n) const noexcept;
    [[nodiscard]] channel_range all_channels() const noexcept { return {0, channels_ * cell_.c}; }
    template <class Factors>
    [[nodiscard]] double weight(const cell_bank& bank, index_t o, index_t c, index_t t,
                                const Factors& factors) const noexcept {
        const float* a = factors((t / cell_.taps() * filters_ + o / cell_.o) * channels_ + c / cell_.c);
        double sum = 0.0;
        for (index_t i = 0; i < cell_.n; ++i)
            sum += static_cast<double>(a[i]) *
                   static_cast<double>(bank.weight(i, o % cell_.o, c % cell_.c, t % cell_.taps()));
        return sum;
    }

private:
    KDNA_FUNC static const kernel_shape& checked(const kernel_shape& k, std::string_view where);
    [[nodiscard]] KDNA_FUNC index_t first_filter(index_t group, index_t p) const noexcept;
    panel_layout panels_;
    cell_shape cell_{};
    index_t pieces_ = 1, filters_ = 1, channels_ = 1;  // gs, go, gi
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/cells.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
