// Definitions of cells.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/cells.hpp>
#include <kdna/simd/combine.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC std::string to_string(const cell_shape& s) {
    return concat("(", s.n, " cells of O ", s.o, ", I ", s.c, ", ", s.kh, "x", s.kw, ")");
}

KDNA_FUNC cell_bank cell_bank::pack(const cell_shape& s, std::span<const float> weights, std::string_view where,
                                    number_format format) {
    if (s.n < 1 || s.o < 1 || s.c < 1 || s.kh < 1 || s.kw < 1)
        throw error(std::string(where), "extents >= 1", to_string(s));
    const index_t cell = checked_mul(checked_mul(s.o, s.c, where), checked_mul(s.kh, s.kw, where), where);
    if (static_cast<index_t>(weights.size()) != checked_mul(s.n, cell, where))
        throw error(std::string(where), concat(s.n, " x ", cell, " weights for ", to_string(s)),
                    concat(weights.size()));
    return cell_bank(std::make_shared<const storage>(s, weights, where, format));
}

KDNA_FUNC stored_numbers cell_bank::rows(index_t block, index_t tap, index_t channel) const noexcept {
    return storage_->data() + storage_->offset(block, tap, channel);
}

KDNA_FUNC float cell_bank::weight(index_t cell, index_t o, index_t c, index_t t) const noexcept {
    const index_t block = o / panel_layout::width;
    return rows(block, t, c)[cell * width_of(block) + o % panel_layout::width];
}

KDNA_FUNC void cell_bank::prepare() const { static_cast<void>(storage_->data()); }

KDNA_FUNC void cell_bank::copy_weights(std::span<float> to) const { storage_->weights.copy(to, *storage_); }

KDNA_FUNC celled_layout::celled_layout(const kernel_shape& k, const cell_shape& cell, std::string_view where)
    : panels_(checked(k, where)), cell_(cell) {
    const index_t channels = k.channels_per_group();
    if (k.o % cell.o != 0 || channels % cell.c != 0 || k.kh % cell.kh != 0 || k.kw % cell.kw != 0)
        throw error(std::string(where), concat("cells that tile the kernel ", to_string(k)), to_string(cell));
    pieces_ = k.taps() / cell.taps();
    filters_ = k.o / cell.o;
    channels_ = channels / cell.c;
}

KDNA_FUNC std::span<const std::byte> celled_layout::stored(const cell_bank& bank, index_t group, index_t p,
                                                           const channel_range& range, index_t i,
                                                           index_t n) const noexcept {
    const index_t in_cell = first_filter(group, p) % cell_.o, block = in_cell / panel_layout::width,
                  first = range.first % cell_.c, count = std::min(range.count, cell_.c - first),
                  row = cell_.n * bank.width_of(block);
    return share_of_runs(bank.rows(block, 0, first), cell_.c * row, cell_.taps(), count * row, i, n);
}

KDNA_FUNC const kernel_shape& celled_layout::checked(const kernel_shape& k, std::string_view where) {
    static_cast<void>(weight_count(k, where));
    return k;
}

KDNA_FUNC index_t celled_layout::first_filter(index_t group, index_t p) const noexcept {
    return group * panels_.filters() + p * panel_layout::width;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
