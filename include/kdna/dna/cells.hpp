// Kernels that are assembled from cells which several layers share.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/simd/combine.hpp>
#include <kdna/tensor/packed_kernel.hpp>
#include <kdna/tensor/packed_once.hpp>

namespace kdna::inline KDNA_ABI {

/// n cells of o filters, c channels and kh x kw taps each.
struct cell_shape {
    index_t n = 1, o = 1, c = 1, kh = 1, kw = 1;
    [[nodiscard]] constexpr index_t taps() const noexcept { return kh * kw; }
    friend constexpr bool operator==(const cell_shape&, const cell_shape&) = default;
};

[[nodiscard]] inline std::string to_string(const cell_shape& s) {
    return concat("(", s.n, " cells of O ", s.o, ", I ", s.c, ", ", s.kh, "x", s.kw, ")");
}

/// The cells, packed once and shared by all copies of this handle. They lie as bank[block][tap][channel][cell][filter],
/// in blocks of as many filters as a panel has, so that a combination of all cells streams them front to back.
class cell_bank {
public:
    /// `weights` [n, o, c, kh, kw]. Throws kdna::error if an extent is not positive or the count is not the shape's.
    [[nodiscard]] static cell_bank pack(const cell_shape& s, std::span<const float> weights,
                                        std::string_view where = "cell_bank") {
        if (s.n < 1 || s.o < 1 || s.c < 1 || s.kh < 1 || s.kw < 1)
            throw error(std::string(where), "extents >= 1", to_string(s));
        const index_t cell = checked_mul(checked_mul(s.o, s.c, where), checked_mul(s.kh, s.kw, where), where);
        if (static_cast<index_t>(weights.size()) != checked_mul(s.n, cell, where))
            throw error(std::string(where), concat(s.n, " x ", cell, " weights for ", to_string(s)),
                        concat(weights.size()));
        return cell_bank(std::make_shared<const storage>(s, weights, where));
    }

    [[nodiscard]] const cell_shape& shape() const noexcept { return storage_->shape; }
    /// Filters of block b, with the zeros that fill its last vector: the distance between cells in floats.
    [[nodiscard]] index_t width_of(index_t block) const noexcept { return storage_->width_of(block); }
    /// Filter 0 of a block in cell 0; those of cell i follow i * width_of(block) later.
    [[nodiscard]] const float* rows(index_t block, index_t tap, index_t channel) const noexcept {
        return storage_->data() + storage_->offset(block, tap, channel);
    }
    [[nodiscard]] float weight(index_t cell, index_t o, index_t c, index_t t) const noexcept {
        const index_t block = o / panel_layout::width;
        return rows(block, t, c)[cell * width_of(block) + o % panel_layout::width];
    }
    void prepare() const { static_cast<void>(storage_->data()); }
    /// The cells [n, o, c, kh, kw] that it was made of.
    void copy_weights(std::span<float> to) const { storage_->weights.copy(to, *storage_); }
    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(storage_.get()), storage_->weights.bytes());
    }

private:
    struct storage {
        storage(const cell_shape& s, std::span<const float> cells, std::string_view where)
            : shape(s), weights(cells, floats_of(s, where)) {}
        [[nodiscard]] static index_t floats_of(const cell_shape& s, std::string_view where) {
            const index_t padded = checked_add(s.o, simd::lanes - 1, where) / simd::lanes * simd::lanes;
            const index_t floats = checked_mul(checked_mul(padded, s.c * s.taps(), where), s.n, where);
            return checked_add(floats, simd::lanes, where);  // whole vectors are read from any filter on
        }
        [[nodiscard]] const float* data() const { return weights.packed(*this); }
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
    celled_layout(const kernel_shape& k, const cell_shape& cell, std::string_view where)
        : panels_(checked(k, where)), cell_(cell) {
        const index_t channels = k.channels_per_group();
        if (k.o % cell.o != 0 || channels % cell.c != 0 || k.kh % cell.kh != 0 || k.kw % cell.kw != 0)
            throw error(std::string(where), concat("cells that tile the kernel ", to_string(k)), to_string(cell));
        pieces_ = k.taps() / cell.taps();
        filters_ = k.o / cell.o;
        channels_ = channels / cell.c;
    }

    [[nodiscard]] const panel_layout& panels() const noexcept { return panels_; }
    /// Combinations the kernel is made of, m = gs * go * gi.
    [[nodiscard]] index_t combinations() const noexcept { return pieces_ * filters_ * channels_; }

    /// Assembles the rows of some channels of panel p of a group: to[taps][range.count][filter]. `factors(j)` are the n
    /// factors of combination j.
    template <class Factors>
    void assemble(const cell_bank& bank, index_t group, index_t p, const Factors& factors, const channel_range& range,
                  float* panel) const noexcept {
        const index_t width = panels_.width_of(p), filters = panels_.filters_of(p), first = first_filter(group, p),
                      range_end = range.first + range.count;
        if (filters < width) std::fill_n(panel, panels_.shape().taps() * range.count * width, 0.0F);
        // Neighbouring filters of the panel that are neighbours in one block of one cell.
        for (index_t f = 0; f < filters;) {
            const index_t in_cell = (first + f) % cell_.o, block = in_cell / panel_layout::width,
                          in_block = in_cell % panel_layout::width,
                          count = std::min({filters - f, cell_.o - in_cell, panel_layout::width - in_block});
            const index_t o = (first + f) / cell_.o;
            // Every channel of the cells that the range meets, and all of the kernel's channels that it stands for.
            const index_t distinct = std::min(range.count, cell_.c);
            for (index_t tap = 0; tap < cell_.taps(); ++tap)
                for (index_t k = range.first; k < range.first + distinct; ++k) {
                    constexpr index_t most = detail::most_combined;
                    const float* a[most];
                    float* to[most];
                    index_t rows = 0;
                    const float* from = bank.rows(block, tap, k % cell_.c) + in_block;
                    for (index_t s = 0; s < pieces_; ++s) {
                        index_t j = (s * filters_ + o) * channels_ + k / cell_.c;
                        float* row = panel + ((s * cell_.taps() + tap) * range.count - range.first) * width + f;
                        for (index_t channel = k; channel < range_end; channel += cell_.c) {
                            a[rows] = factors(j++);
                            to[rows] = row + channel * width;
                            if (++rows < most) continue;
                            combine(a, rows, from, bank.width_of(block), cell_.n, count, to);
                            rows = 0;
                        }
                    }
                    if (rows > 0) combine(a, rows, from, bank.width_of(block), cell_.n, count, to);
                }
            f += count;
        }
    }
    /// Share i of n of the cells' floats that those rows are made of.
    [[nodiscard]] std::span<const float> stored(const cell_bank& bank, index_t group, index_t p,
                                                const channel_range& range, index_t i, index_t n) const noexcept {
        const index_t in_cell = first_filter(group, p) % cell_.o, block = in_cell / panel_layout::width,
                      first = range.first % cell_.c, count = std::min(range.count, cell_.c - first),
                      row = cell_.n * bank.width_of(block);
        return share_of_runs(bank.rows(block, 0, first), cell_.c * row, cell_.taps(), count * row, i, n);
    }
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
    static const kernel_shape& checked(const kernel_shape& k, std::string_view where) {
        static_cast<void>(weight_count(k, where));
        return k;
    }
    [[nodiscard]] index_t first_filter(index_t group, index_t p) const noexcept {
        return group * panels_.filters() + p * panel_layout::width;
    }
    panel_layout panels_;
    cell_shape cell_{};
    index_t pieces_ = 1, filters_ = 1, channels_ = 1;  // gs, go, gi
};

}  // namespace kdna::inline KDNA_ABI
