// Definitions of bands.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/core/arithmetic.hpp>
#include <kdna/nn/bands.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC index_t row_window::input_end(index_t rows, index_t in_rows) const noexcept {
    return rows == 0 ? 0 : std::clamp<index_t>((rows - 1) * stride - pad_top + extent, 0, in_rows);
}

KDNA_FUNC index_t row_window::input_begin(index_t first, index_t in_rows) const noexcept {
    return std::clamp<index_t>(first * stride - pad_top, 0, in_rows);
}

KDNA_FUNC band_schedule schedule_bands(const std::vector<banded_step>& steps, index_t rows, index_t first,
                                       index_t last) {
    const std::size_t count = steps.size();
    band_schedule out;
    out.buffer_rows.assign(count, 0);
    std::vector<index_t> done(count, 0), wanted(count, 0), base(count, 0);
    const auto whole = [&](std::size_t i, index_t n) {
        const index_t m = steps[i].bands.multiple;
        return std::min(ceil_div(n, m) * m, steps[i].out_rows);
    };
    done.back() = first;
    for (std::size_t i = count - 1; i > 0; --i) {
        const index_t begin = steps[i].bands.window.input_begin(done[i], steps[i].in_rows),
                      m = steps[i - 1].bands.multiple;
        base[i - 1] = done[i - 1] = begin / m * m;
    }
    while (done.back() < last) {
        wanted.back() = std::min(whole(count - 1, done.back() + rows), last);
        for (std::size_t i = count - 1; i > 0; --i)
            wanted[i - 1] =
                std::max(done[i - 1], whole(i - 1, steps[i].bands.window.input_end(wanted[i], steps[i].in_rows)));
        for (std::size_t i = 0; i < count; ++i) {
            if (wanted[i] == done[i]) continue;
            band_action a{i, {done[i], wanted[i] - done[i], i > 0 ? base[i - 1] : 0, 0}};
            if (i + 1 < count) {
                const index_t needed = steps[i + 1].bands.window.input_begin(done[i + 1], steps[i].out_rows);
                a.kept_from = std::min(needed, done[i]) - base[i];
                a.kept = done[i] - base[i] - a.kept_from;
                base[i] += a.kept_from;
                a.rows.y_first = base[i];
                out.buffer_rows[i] = std::max(out.buffer_rows[i], wanted[i] - base[i]);
            }
            done[i] = wanted[i];
            out.actions.push_back(a);
        }
    }
    for (std::size_t i = 0; i + 1 < count; ++i) out.bytes += out.buffer_rows[i] * steps[i].row_bytes;
    return out;
}

KDNA_FUNC std::vector<band_schedule> schedule_parts(const std::vector<banded_step>& steps, index_t parts,
                                                    index_t bytes) {
    const index_t m = steps.back().bands.multiple, out_rows = steps.back().out_rows, units = ceil_div(out_rows, m);
    parts = std::min(parts, units);
    const auto with_bands_of = [&](index_t rows) {
        std::vector<band_schedule> all;
        for (index_t t = 0; t < parts; ++t)
            all.push_back(
                schedule_bands(steps, rows, units * t / parts * m, std::min(units * (t + 1) / parts * m, out_rows)));
        return all;
    };
    std::vector<band_schedule> best = with_bands_of(1);
    for (index_t rows = 2; rows <= out_rows; rows *= 2) {
        std::vector<band_schedule> larger = with_bands_of(rows);
        if (std::any_of(larger.begin(), larger.end(), [&](const band_schedule& s) { return s.bytes > bytes; })) break;
        best = std::move(larger);
    }
    return best;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
