// Assembles panels of kernels that are made of cells (dna/cells.hpp).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/dna/cells.hpp>
#include <kdna/simd/combine.hpp>

namespace kdna::inline KDNA_ABI {

template <class Factors>
void celled_layout::assemble(const cell_bank& bank, index_t group, index_t p, const Factors& factors,
                             const channel_range& range, float* panel) const noexcept {
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
                const stored_numbers from = bank.rows(block, tap, k % cell_.c) + in_block;
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

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
