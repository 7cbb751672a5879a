// Instructions of a whole warp on matrices: "mma", "ldmatrix".
#include <cmath>

#include <kdna/cuda/device/numbers.hpp>

#include "cuda/ptx/instructions.hpp"

namespace kdna_test::ptx {
namespace {

/// Towards zero: nobody says how tensor cores round sums; what was measured of them is no worse.
float truncated(double v) {
    const auto r = static_cast<float>(v);
    return std::abs(static_cast<double>(r)) > std::abs(v) ? std::nextafter(r, 0.0F) : r;
}

/// d = a b + c, a [16][Depth], b [Depth][8], c and d [16][8] float32. take(word, which) is a number of an operand's word, of which
/// it has Depth / 8. Places are those of "Matrix Fragments for mma.m16n8k16 with floating point type" and "... mma.m16n8k8", with
/// the manual's words groupID, threadID_in_group and i.
template <int Depth, class Take>
void multiply(machine& m, const instruction& in, Take&& take) {
    constexpr int in_word = Depth / 8;
    float a[16][Depth], b[8][Depth];
    for (int w = 0; w < 4; ++w) {
        const auto words = m.read<std::uint32_t>(in.from[w]);
        for (int lane = 0; lane < warp_lanes; ++lane)
            for (int e = 0; e < in_word; ++e) {
                const int group = lane / 4, in_group = lane % 4, i = w * in_word + e;
                int row = 0, column = 0;
                if (Depth == 16) {
                    row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
                    column = in_group * 2 + (i & 1) + (i < 4 ? 0 : 8);
                } else {
                    row = i == 0 || i == 2 ? group : group + 8;
                    column = i < 2 ? in_group : in_group + 4;
                }
                a[row][column] = take(words.v[lane], e);
            }
    }
    for (int w = 0; w < 2; ++w) {
        const auto words = m.read<std::uint32_t>(in.from[4 + w]);
        for (int lane = 0; lane < warp_lanes; ++lane)
            for (int e = 0; e < in_word; ++e) {
                const int group = lane / 4, in_group = lane % 4, i = w * in_word + e;
                const int row = Depth == 16 ? in_group * 2 + (i & 1) + (i < 2 ? 0 : 8) : in_group + (i < 1 ? 0 : 4);
                b[group][row] = take(words.v[lane], e);
            }
    }
    lanes<float> d[4];
    for (int i = 0; i < 4; ++i) {
        const auto c = m.read<float>(in.from[6 + i]);
        for (int lane = 0; lane < warp_lanes; ++lane) {
            const int row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
            auto sum = static_cast<double>(c.v[lane]);
            for (int k = 0; k < Depth; ++k) sum += static_cast<double>(a[row][k]) * static_cast<double>(b[column][k]);
            d[i].v[lane] = truncated(sum);
        }
    }
    for (int i = 0; i < 4; ++i) m.write(in.to[i], d[i]);
}

/// "ldmatrix": row r of matrix j lies where lane 8j + r says, 16 bytes. A lane gets two neighbours of row lane / 4.
void matrices(machine& m, const instruction& i, bool transposed) {
    lanes<std::uint32_t> words[4];
    for (int j = 0; j < i.elements; ++j) {
        std::uint16_t matrix[8][8];
        for (int r = 0; r < 8; ++r) {
            m.current_lane = 8 * j + r;
            m.shared.read(shared_memory::many, m.read_lane(i.from[0], i.address_width, m.current_lane) + i.offset, 16,
                          matrix[r]);
        }
        for (int lane = 0; lane < warp_lanes; ++lane) {
            const int r = lane / 4, c = lane % 4 * 2;
            const std::uint32_t low = transposed ? matrix[c][r] : matrix[r][c],
                                high = transposed ? matrix[c + 1][r] : matrix[r][c + 1];
            words[j].v[lane] = low | high << 16U;
        }
    }
    m.current_lane = -1;
    for (int j = 0; j < i.elements; ++j) m.write(i.to[j], words[j]);
}

}  // namespace

void multiply_f16(machine& m, const instruction& i, lane_mask) {
    multiply<16>(m, i, [](std::uint32_t word, int e) {
        return kdna::cuda::to_float(kdna::cuda::half{static_cast<std::uint16_t>(word >> (16 * e))});
    });
}
void multiply_bf16(machine& m, const instruction& i, lane_mask) {
    multiply<16>(m, i, [](std::uint32_t word, int e) {
        return kdna::cuda::to_float(kdna::cuda::bfloat16{static_cast<std::uint16_t>(word >> (16 * e))});
    });
}
// Of a TF32 operand the lower 13 bits do not count ("Alternate Floating-Point Data Formats").
void multiply_tf32(machine& m, const instruction& i, lane_mask) {
    multiply<8>(m, i, [](std::uint32_t word, int) {
        return kdna::cuda::detail::bits_as<float>(word & ~std::uint32_t{0x1fff});
    });
}
void load_matrices(machine& m, const instruction& i, lane_mask) { matrices(m, i, false); }
void load_matrices_transposed(machine& m, const instruction& i, lane_mask) { matrices(m, i, true); }

}  // namespace kdna_test::ptx
