// Time for counters. Google Benchmark can divide a counter by the time itself, but then writes "/s" behind every one of
// them, shares and milliseconds included.
#pragma once

#include <chrono>
#include <ctime>

namespace kdna_bench {

/// Seconds that this program's threads have worked together: a neighbour on the same core does not count.
[[nodiscard]] inline double processor_seconds() {
    return static_cast<double>(std::clock()) / static_cast<double>(CLOCKS_PER_SEC);
}

/// Seconds on the clock on the wall, from some point in the past.
[[nodiscard]] inline double wall_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace kdna_bench
