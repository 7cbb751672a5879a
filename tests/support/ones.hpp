// Tensors for layers whose numbers do not matter.
#pragma once

#include <span>
#include <vector>

#include <kdna/nn/conv2d.hpp>

namespace kdna_test {

/// `n` ones, at most 8192.
inline std::span<const float> ones(kdna::index_t n) {
    static const std::vector<float> values(8192, 1.0F);
    return std::span(values).first(static_cast<std::size_t>(n));
}
inline kdna::batch_norm bn_of_ones(kdna::index_t n) {
    return {.weight = ones(n), .bias = ones(n), .mean = ones(n), .var = ones(n)};
}

}  // namespace kdna_test
