// How the work of a loop nest is cut into tasks for some threads.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// `outer` independent pieces (samples times groups), each of `rows` rows (pixels or tiles) times `panels` panels of
/// filters. A task is a block of rows of one piece times a chunk of panels; each thread gets an equal run of tasks.
struct nest_work {
    index_t outer = 1;
    index_t rows = 1, panels = 1;
    index_t unit = 1;           ///< blocks are multiples of this many rows, but for the last
    index_t most_rows = 1;      ///< of a block, for the caches' sake
    double panel_rows = 0.0;    ///< what a task spends on each of its panels as such, in rows times one panel
    double block_panels = 0.0;  ///< and on each of its rows as such, in panels
};

struct partition {
    index_t block_rows = 1, blocks = 1;    ///< per piece
    index_t chunk_panels = 1, chunks = 1;  ///< per block
};

/// The cut after which the busiest thread has least to do; with one thread, the fewest blocks.
[[nodiscard]] inline partition cut(const nest_work& w, index_t threads) noexcept {
    const index_t units = ceil_div(w.rows, w.unit), most_units = std::max<index_t>(w.most_rows / w.unit, 1);
    partition best;
    double least = std::numeric_limits<double>::max();
    const index_t fewest = ceil_div(units, most_units), most = std::min(units, fewest + 4 * threads);
    for (index_t b = fewest; b <= most; ++b) {
        const index_t block_units = ceil_div(units, b), block_rows = std::min(block_units * w.unit, w.rows);
        for (index_t c = 1; c <= std::min(w.panels, threads); ++c) {
            const index_t chunk = ceil_div(w.panels, c);
            const partition p{block_units * w.unit, ceil_div(units, block_units), chunk, ceil_div(w.panels, chunk)};
            const auto rows = static_cast<double>(block_rows);
            const double task = (rows + w.panel_rows) * static_cast<double>(chunk) + rows * w.block_panels;
            const double run = static_cast<double>(ceil_div(w.outer * p.blocks * p.chunks, threads)) * task;
            if (run < least) {
                least = run;
                best = p;
            }
        }
    }
    return best;
}

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
