// Definitions of fully_connected.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cmath>

#include <kdna/dna/fully_connected.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI {

template <int Vectors>
void fully_connected::columns(const float* x, float* y, index_t o) const noexcept {
    simd::vec even[Vectors], odd[Vectors];
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) {
        even[j] = simd::load(bias_.data() + o + j * simd::lanes);
        odd[j] = simd::zero();
    }
    const float* w = transposed_.data() + o;
    index_t i = 0;
    for (; i + 2 <= inputs_; i += 2, w += 2 * padded_) {
        const simd::vec a(x[i]), b(x[i + 1]);
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j) {
            even[j] = simd::multiply_add(a, simd::load(w + j * simd::lanes), even[j]);
            odd[j] = simd::multiply_add(b, simd::load(w + padded_ + j * simd::lanes), odd[j]);
        }
    }
    if (i < inputs_) {
        KDNA_UNROLL
        for (int j = 0; j < Vectors; ++j)
            even[j] = simd::multiply_add(simd::vec(x[i]), simd::load(w + j * simd::lanes), even[j]);
    }
    KDNA_UNROLL
    for (int j = 0; j < Vectors; ++j) {
        const index_t first = o + j * simd::lanes, count = std::min(outputs_ - first, simd::lanes);
        if (count == simd::lanes)
            simd::store(y + first, even[j] + odd[j]);
        else
            simd::store_strided(y + first, even[j] + odd[j], 1, count);
    }
}

KDNA_FUNC fully_connected::fully_connected(std::span<const float> weight, std::span<const float> bias, index_t inputs,
                                           std::string_view where)
    : inputs_(inputs) {
    const auto size = static_cast<index_t>(weight.size());
    if (inputs < 1 || size < inputs || size % inputs != 0)
        throw error(concat(where, ".weight"), concat("a positive multiple of ", inputs, " values"), concat(size));
    outputs_ = size / inputs;
    if (!bias.empty() && static_cast<index_t>(bias.size()) != outputs_)
        throw error(concat(where, ".bias"), concat(outputs_, " values"), concat(bias.size()));
    padded_ = (outputs_ + simd::lanes - 1) / simd::lanes * simd::lanes;
    bias_.assign(static_cast<std::size_t>(padded_), 0.0F);
    std::copy(bias.begin(), bias.end(), bias_.begin());
    transposed_.assign(static_cast<std::size_t>(checked_mul(inputs_, padded_, where)), 0.0F);
    for (index_t o = 0; o < outputs_; ++o)
        for (index_t i = 0; i < inputs_; ++i) transposed_[at(i, o)] = weight[static_cast<std::size_t>(o * inputs_ + i)];
}

KDNA_FUNC void fully_connected::operator()(const float* x, float* y) const noexcept {
    index_t o = 0;
    for (; o + 4 * simd::lanes <= padded_; o += 4 * simd::lanes) columns<4>(x, y, o);
    for (; o < padded_; o += simd::lanes) columns<1>(x, y, o);
}

KDNA_FUNC void fully_connected::then_affine(std::span<const double> scale, std::span<const double> shift) {
    for (index_t o = 0; o < outputs_; ++o) {
        const double m = scale[static_cast<std::size_t>(o)];
        float& b = bias_[static_cast<std::size_t>(o)];
        b = static_cast<float>(m * static_cast<double>(b) + shift[static_cast<std::size_t>(o)]);
        for (index_t i = 0; i < inputs_; ++i)
            transposed_[at(i, o)] = static_cast<float>(m * static_cast<double>(transposed_[at(i, o)]));
    }
}

KDNA_FUNC std::size_t fully_connected::at(index_t i, index_t o) const noexcept {
    return static_cast<std::size_t>(i * padded_ + o);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
