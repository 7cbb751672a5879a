// How the planar copy of the input lies, for a nest whose vectors hold neighbouring columns of one channel.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <string_view>

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/simd/lanes.hpp>

namespace kdna::inline KDNA_ABI::conv::planes {

/// Some rows of one channel lie as [row][phase][column], with the border, zeros or the map's opposite side, in memory.
/// Columns are dealt out to as many phases as the kernel's stride has steps, so that what one tap reads for
/// neighbouring outputs is contiguous.
struct plane_layout {
    padding border = 0;
    bool circular = false;
    index_t columns = 0;                   ///< of the map and its border
    index_t phases = 1, phase_floats = 0;  ///< a phase is whole vectors, some of them past the border
    index_t row_floats = 0;  ///< an odd number of cache lines, so that the rows of a tile use different sets
    index_t rows = 0;        ///< most rows of a copy

    [[nodiscard]] index_t floats(std::string_view where) const { return checked_mul(rows, row_floats, where); }
    /// Room for one row before its columns are dealt out, which reads whole vectors.
    [[nodiscard]] index_t line_floats() const noexcept { return columns + 4 * simd::lanes; }
};

}  // namespace kdna::inline KDNA_ABI::conv::planes

#include <kdna/core/macros_pop.hpp>
