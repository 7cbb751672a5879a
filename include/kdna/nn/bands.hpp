// Depth-first execution: neighbouring steps pass over their maps together, a few rows at a time.
//
// Layer by layer, a map of several MiB is written to memory and read back. In bands, the rows that a step has just made are
// still in cache when the next one reads them, and nobody keeps the rows that have been read: a value inside such a group of
// steps needs memory for a few rows only. Every step computes exactly the tiles it would compute otherwise.
#pragma once

#include <algorithm>
#include <vector>

#include <kdna/conv/call.hpp>
#include <kdna/core/arithmetic.hpp>

namespace kdna::inline KDNA_ABI {

/// How the windows of a step stand on the rows of its input.
struct row_window {
    index_t extent = 1, stride = 1, pad_top = 0;
    /// Rows [0, n) of the input lie under rows [0, rows) of the output.
    [[nodiscard]] index_t input_end(index_t rows, index_t in_rows) const noexcept {
        return rows == 0 ? 0 : std::clamp<index_t>((rows - 1) * stride - pad_top + extent, 0, in_rows);
    }
    /// First row of the input that row `first` of the output, or a later one, reads.
    [[nodiscard]] index_t input_begin(index_t first, index_t in_rows) const noexcept {
        return std::clamp<index_t>(first * stride - pad_top, 0, in_rows);
    }
};

/// What a planned step can do in bands.
struct band_support {
    index_t multiple = 0;  ///< bands must begin at, and be, multiples of so many output rows; 0: no bands
    row_window window{};
};

/// One step of a group, as its schedule needs it.
struct banded_step {
    band_support bands;
    index_t in_rows, out_rows;
    index_t row_bytes;  ///< of the output
};

/// Rows [rows.first, rows.first + rows.count) of one step. Before that, `kept` rows of its output's buffer, those from
/// `kept_from` on, go to the buffer's beginning; they are all that is still needed of it.
struct band_action {
    std::size_t step;
    conv::row_band rows;
    index_t kept_from = 0, kept = 0;
};

/// The order in which a group's steps run, and how many rows each value inside it needs room for.
struct band_schedule {
    std::vector<band_action> actions;
    std::vector<index_t> buffer_rows;  ///< of each step's output; that of the last step is whole
    index_t bytes = 0;                 ///< of all buffers inside the group
};

/// A schedule in which the last step makes its rows [first, last), `rows` at a time. `first` is a multiple of what its bands
/// must be.
[[nodiscard]] inline band_schedule schedule_bands(const std::vector<banded_step>& steps, index_t rows, index_t first,
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

/// The schedules of `parts` threads, each of which makes a run of the last step's rows, with the largest bands whose buffers
/// fit in `bytes` a thread; single rows if none do. Threads share no row inside the group: the few that two of them need are
/// made twice, which costs less than handing rows from one core's cache to the other's (MobileNetV2 on two threads took
/// 5.5 ms with every band shared out, and 4.1 so).
[[nodiscard]] inline std::vector<band_schedule> schedule_parts(const std::vector<banded_step>& steps, index_t parts,
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
