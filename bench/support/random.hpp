// Random numbers for weights and inputs: the same in every run of one standard library.
#pragma once

#include <cstddef>
#include <kdna/core/config.hpp>
#include <random>
#include <vector>

namespace kdna_bench {

using kdna::index_t;

[[nodiscard]] inline std::vector<float> normal_values(std::mt19937& generator, index_t count, float mean,
                                                      float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> out(static_cast<std::size_t>(count));
    for (float& v : out) v = normal(generator);
    return out;
}

}  // namespace kdna_bench
