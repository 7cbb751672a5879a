// The product of a tile: pixels x depth times filters x depth, one stage of the depth at a time, sums in registers.
//
// Both operands lie in shared memory as contiguous rows of `row_bytes` of depth (32 halves or 16 floats). A row is four
// pieces of 16 bytes, whose order depends on the row: two rows are as wide as the banks, and in any eight consecutive
// rows the pieces of the same depth lie in different banks. So a quarter of a warp has no bank conflict when it reads
// one piece of eight rows, as ldmatrix does, nor when it writes all pieces of two rows. (With rows padded to 80 bytes,
// reads are as good, and every write takes twice as long.)
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/numbers.hpp>

namespace kdna::inline KDNA_ABI::cuda {

inline constexpr int row_bytes = 64, pieces = row_bytes / 16;

/// Where a piece of a row lies, in bytes from row 0. Rows a multiple of eight apart have their pieces in the same
/// order.
KDNA_HOST_DEVICE constexpr int stage_at(int row, int piece) {
    return row * row_bytes + (piece ^ (row / 2 % pieces)) * 16;
}

/// How a block's product is cut: `rows` pixels x `columns` filters, by warps of `warp_rows` x `warp_columns`.
template <int Rows, int Columns, int WarpRows, int WarpColumns>
struct tile_shape {
    static constexpr int rows = Rows, columns = Columns, warp_rows = WarpRows, warp_columns = WarpColumns;
    static constexpr int warps_across = Columns / WarpColumns, warps = Rows / WarpRows * warps_across,
                         threads = 32 * warps;
};
using large_tile = tile_shape<128, 128, 64, 32>;  // 256 threads
using small_tile = tile_shape<64, 64, 32, 32>;    // 128 threads

namespace detail {

/// mma.sync.aligned.m16n8k16.row.col.f32.{f16,bf16}.{f16,bf16}.f32, and m16n8k8 for TF32. With g = lane / 4, t = lane %
/// 4, as the PTX manual has it ("Matrix fragments for mma.m16n8k16", ".m16n8k8"):
///
///     sums 16 x 8     d0, d1: row g, columns 2t, 2t + 1           d2, d3: row g + 8
///     16 bits, a      a0: row g, depths 2t, 2t + 1   a1: row g + 8   a2, a3: depths 2t + 8, 2t + 9 of the same rows
///              b      b0: column g, depths 2t, 2t + 1   b1: depths 2t + 8, 2t + 9
///     TF32,    a      a0: row g, depth t   a1: row g + 8   a2, a3: depth t + 4 of the same rows
///              b      b0: column g, depth t   b1: depth t + 4
///
/// So in all precisions a word of an operand is 4 bytes of a row in shared memory, at byte 4t or 4t + 16. That is what
/// ldmatrix gives lane (g, t) of a matrix of eight rows of 16 bytes ("Warp-level matrix instructions: ldmatrix"),
/// whatever the numbers in it.
///
/// Sums are d[i][j], operands a[i][4] and, for two groups of columns at a time, b[j / 2][2 * (j % 2) + ...].
template <precision P>
struct mma {
    static constexpr precision numbers = P;
    static constexpr int step_bytes = 32;  // of depth in one instruction
    static constexpr int depth = P == precision::tf32 ? 8 : 16;

#if defined(__CUDACC__)
    __device__ static void issue(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t* b) {
        if constexpr (P == precision::f16)
            asm volatile(
                "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                "{%0,%1,%2,%3};"
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
        else if constexpr (P == precision::bf16)
            asm volatile(
                "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                "{%0,%1,%2,%3};"
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
        else
            asm volatile(
                "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                "{%0,%1,%2,%3};"
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#endif
};

}  // namespace detail

/// The product on tensor cores.
template <class Number, class Tile>
struct tile_product {
    static constexpr int down = Tile::warp_rows / 16, across = Tile::warp_columns / 8;
    static constexpr bool rounds = Number::value == precision::tf32;
    struct registers {
        float sums[down][across][4];
        std::uint32_t a[down][4], b[across / 2][4];
    };

    /// Adds the product of a stage, whose operands begin at bytes a and b of shared memory.
    template <class Block>
    KDNA_DEVICE static void add_stage(Block& block, int a, int b) {
        KDNA_DEVICE_UNROLL
        for (int step = 0; step < row_bytes; step += detail::mma<Number::value>::step_bytes) {
            // Matrices 0 and 1 are eight rows each, 2 and 3 the same rows at the next piece of depth.
            block.template load_matrices<down>(
                [&](int thread, int i) {
                    const int lane = thread % 32, matrix = lane / 8;
                    return a + (first_row(thread) + 16 * i + 8 * (matrix % 2)) * row_bytes +
                           stage_at(lane % 8, step / 16 + matrix / 2);
                },
                [](auto& all, int i, const std::uint32_t(&words)[4]) { take(all.product.a[i], words); });
            // Matrices 0 and 1 are eight columns at both pieces of depth, 2 and 3 the next eight.
            block.template load_matrices<across / 2>(
                [&](int thread, int j) {
                    const int lane = thread % 32, matrix = lane / 8;
                    return b + (first_column(thread) + 16 * j + 8 * (matrix / 2)) * row_bytes +
                           stage_at(lane % 8, step / 16 + matrix % 2);
                },
                [](auto& all, int j, const std::uint32_t(&words)[4]) { take(all.product.b[j], words); });
            block.template multiply<detail::mma<Number::value>>([](auto& all) -> registers& { return all.product; });
        }
    }
    KDNA_DEVICE static void clear(registers& r) {
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < down; ++i) {
            KDNA_DEVICE_UNROLL
            for (int j = 0; j < across; ++j) {
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < 4; ++e) r.sums[i][j][e] = 0.0F;
            }
        }
    }
    /// Writes a thread's sums to shared memory, that of a row and column to byte at(row, column).
    template <class Block, class At>
    KDNA_DEVICE static void store(Block& block, int thread, const registers& r, At&& at) {
        const int lane = thread % 32, row = first_row(thread) + lane / 4, column = first_column(thread) + lane % 4 * 2;
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < down; ++i) {
            KDNA_DEVICE_UNROLL
            for (int j = 0; j < across; ++j) {
                KDNA_DEVICE_UNROLL
                for (int e = 0; e < 4; e += 2)
                    block.store(thread, at(row + 16 * i + 4 * e, column + 8 * j),
                                pack<float, 2>{{r.sums[i][j][e], r.sums[i][j][e + 1]}});
            }
        }
    }

private:
    KDNA_DEVICE static int first_row(int thread) { return thread / 32 / Tile::warps_across * Tile::warp_rows; }
    KDNA_DEVICE static int first_column(int thread) { return thread / 32 % Tile::warps_across * Tile::warp_columns; }
    KDNA_DEVICE static void take(std::uint32_t (&to)[4], const std::uint32_t (&words)[4]) {
        KDNA_DEVICE_UNROLL
        for (int w = 0; w < 4; ++w) to[w] = rounds ? to_tf32(detail::bits_as<float>(words[w])) : words[w];
    }
};

/// The product on ordinary cores, in float32. A thread computes 8 x columns / 16 sums, whose rows and columns lie
/// apart, so that the threads of a warp read different banks or the same address.
template <class Tile>
struct tile_product<number<precision::f32>, Tile> {
    static constexpr int rows_apart = Tile::threads / 16, down = Tile::rows / rows_apart, across = Tile::columns / 16;
    struct registers {
        float sums[down][across];
    };

    template <class Block>
    KDNA_DEVICE static void add_stage(Block& block, int a, int b) {
        block.parallel([&](int thread, auto& all) {
            registers& r = all.product;
            KDNA_DEVICE_UNROLL
            for (int k = 0; k < pieces; ++k) {
                const int a_at = a + stage_at(first_row(thread), k), b_at = b + stage_at(first_column(thread), k);
                pack<float, 4> x[down];
                KDNA_DEVICE_UNROLL
                for (int i = 0; i < down; ++i)
                    x[i] = block.template load<float, 4>(thread, a_at + i * rows_apart * row_bytes);
                KDNA_DEVICE_UNROLL
                for (int j = 0; j < across; ++j) {
                    const pack<float, 4> w = block.template load<float, 4>(thread, b_at + j * 16 * row_bytes);
                    KDNA_DEVICE_UNROLL
                    for (int i = 0; i < down; ++i) {
                        KDNA_DEVICE_UNROLL
                        for (int e = 0; e < 4; ++e) r.sums[i][j] += x[i].v[e] * w.v[e];
                    }
                }
            }
        });
    }
    KDNA_DEVICE static void clear(registers& r) {
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < down; ++i) {
            KDNA_DEVICE_UNROLL
            for (int j = 0; j < across; ++j) r.sums[i][j] = 0.0F;
        }
    }
    template <class Block, class At>
    KDNA_DEVICE static void store(Block& block, int thread, const registers& r, At&& at) {
        KDNA_DEVICE_UNROLL
        for (int i = 0; i < down; ++i) {
            KDNA_DEVICE_UNROLL
            for (int j = 0; j < across; ++j)
                block.store(thread, at(first_row(thread) + i * rows_apart, first_column(thread) + 16 * j),
                            pack<float, 1>{{r.sums[i][j]}});
        }
    }

private:
    // The two rows of a warp are 0 and 2, or 1 and 3, and so on: 16 banks apart where the sums are stored (tile.hpp).
    KDNA_DEVICE static int first_row(int thread) {
        const int row = thread / 16;
        return row / 4 * 4 + row % 2 * 2 + row / 2 % 2;
    }
    KDNA_DEVICE static int first_column(int thread) { return thread % 16; }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
