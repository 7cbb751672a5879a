// Weights as they are once they are stored in a format.
#pragma once

#include <utility>
#include <vector>

#include <kdna/core/number_format.hpp>

namespace kdna_test {

inline std::vector<float> rounded_to(kdna::number_format format, std::vector<float> values) {
    for (float& v : values) {
        if (format == kdna::number_format::float16) v = kdna::widen(kdna::narrow<kdna::float16>(v));
        if (format == kdna::number_format::bfloat16) v = kdna::widen(kdna::narrow<kdna::bfloat16>(v));
    }
    return values;
}

}  // namespace kdna_test
