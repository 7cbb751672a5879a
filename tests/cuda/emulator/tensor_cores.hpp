// The tensor cores, emulated: what mma.sync does for the fragments of a warp.
#pragma once

#include <cstdint>
#include <type_traits>

#include <kdna/cuda/device/numbers.hpp>

namespace kdna_test {

/// `Multiply` is kdna::cuda::detail::mma of a precision, whose comment says where the operands lie.
template <class Multiply>
struct emulated_tensor_cores {
    static constexpr kdna::cuda::precision numbers = Multiply::numbers;
    /// Numbers in a word of an operand.
    static constexpr int per_word = numbers == kdna::cuda::precision::tf32 ? 1 : 2;

    /// Multiplies all fragments of a warp; lane(i) is the operands and sums of a lane. Products are exact, and added up
    /// in float: the hardware rounds its sums differently.
    template <class Lane>
    static void multiply(Lane&& lane) {
        auto& first = lane(0);
        constexpr int across = 2 * sizeof(first.b) / sizeof(first.b[0]), down = sizeof(first.a) / sizeof(first.a[0]);
        float b[across][8][16];
        for (int j = 0; j < across; ++j)
            for (int l = 0; l < 32; ++l)
                for (int half_of = 0; half_of < 2; ++half_of)
                    unpack(lane(l).b[j / 2][2 * (j % 2) + half_of], &b[j][l / 4][per_word * (l % 4 + 4 * half_of)]);
        for (int i = 0; i < down; ++i) {
            float a[16][16];
            for (int l = 0; l < 32; ++l)
                for (int w = 0; w < 4; ++w)
                    unpack(lane(l).a[i][w], &a[l / 4 + 8 * (w % 2)][per_word * (l % 4 + 4 * (w / 2))]);
            for (int j = 0; j < across; ++j)
                for (int l = 0; l < 32; ++l)
                    for (int e = 0; e < 4; ++e) {
                        const float *row = a[l / 4 + 8 * (e / 2)], *column = b[j][l % 4 * 2 + e % 2];
                        float sum = 0.0F;
                        for (int k = 0; k < Multiply::depth; ++k) sum += row[k] * column[k];
                        lane(l).sums[i][j][e] += sum;
                    }
        }
    }

private:
    static void unpack(std::uint32_t word, float* to) {
        if constexpr (per_word == 1) {
            to[0] = kdna::cuda::detail::bits_as<float>(word);
        } else {
            using T = typename kdna::cuda::number<numbers>::element;
            to[0] = kdna::cuda::to_float(T{static_cast<std::uint16_t>(word & 0xffffU)});
            to[1] = kdna::cuda::to_float(T{static_cast<std::uint16_t>(word >> 16U)});
        }
    }
};

}  // namespace kdna_test
