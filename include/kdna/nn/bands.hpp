// Depth-first execution: neighbouring steps pass over their maps together, a few rows at a time.
//
// Layer by layer, a map of several MiB is written to memory and read back. In bands, the rows that a step has just made are
// still in cache when the next one reads them, and nobody keeps the rows that have been read: a value inside such a group of
// steps needs memory for a few rows only. Every step computes exactly the tiles it would compute otherwise.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <vector>

#include <kdna/conv/call.hpp>

namespace kdna::inline KDNA_ABI {

/// How the windows of a step stand on the rows of its input.
struct row_window {
    index_t extent = 1, stride = 1, pad_top = 0;
    /// Rows [0, n) of the input lie under rows [0, rows) of the output.
    [[nodiscard]] KDNA_FUNC index_t input_end(index_t rows, index_t in_rows) const noexcept;
    /// First row of the input that row `first` of the output, or a later one, reads.
    [[nodiscard]] KDNA_FUNC index_t input_begin(index_t first, index_t in_rows) const noexcept;
};

/// What a planned step can do in bands.
struct band_support {
    index_t multiple = 0;  ///< bands must begin at, and be, multiples of this number of output rows; 0: no bands
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
[[nodiscard]] KDNA_FUNC band_schedule schedule_bands(const std::vector<banded_step>& steps, index_t rows, index_t first,
                                                     index_t last);

/// The schedules of `parts` threads, each of which makes a run of the last step's rows, with the largest bands whose buffers
/// fit in `bytes` a thread; single rows if none do. Threads share no row inside the group: the few that two of them need are
/// made twice, which costs less than handing rows from one core's cache to the other's (MobileNetV2 on two threads took
/// 5.5 ms with every band shared out, and 4.1 so).
[[nodiscard]] KDNA_FUNC std::vector<band_schedule> schedule_parts(const std::vector<banded_step>& steps, index_t parts,
                                                                  index_t bytes);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/bands.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
