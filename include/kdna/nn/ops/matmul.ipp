// Definitions of matmul.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <utility>

#include <kdna/nn/ops/copy_rows.hpp>
#include <kdna/nn/ops/matmul.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Multiplications that are worth a thread.
inline constexpr index_t matmul_grain = 65536;
/// Rows and vectors of columns of a tile of accumulators, and how much of K a packed panel of b holds.
inline constexpr int tile_rows = 6, tile_vectors = simd::registers == 32 ? 4 : 2;
inline constexpr index_t panel_columns = tile_vectors * simd::lanes, panel_depth = 4096 / panel_columns;

struct matrix {
    index_t row, column;  ///< strides
};

/// Adds a[Rows, depth] times a panel of b [depth, panel_columns] to y [Rows, columns], or sets y.
template <int Rows, int Vectors>
void multiply_tile(const float* a, const matrix& as, const float* panel, index_t panel_row, index_t depth, float* y,
                   const matrix& ys, index_t columns, bool add) noexcept {
    using simd::lanes, simd::vec;
    vec sum[Rows][Vectors];
    KDNA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) sum[r][v] = simd::zero();
    }
    for (index_t k = 0; k < depth; ++k) {
        vec b[Vectors];
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) b[v] = simd::load_once(panel + k * panel_row + v * lanes);
        KDNA_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const vec value = simd::broadcast(a[r * as.row + k * as.column]);
            KDNA_UNROLL
            for (int v = 0; v < Vectors; ++v) sum[r][v] = simd::multiply_add(value, b[v], sum[r][v]);
        }
    }
    KDNA_UNROLL
    for (int r = 0; r < Rows; ++r) {
        KDNA_UNROLL
        for (int v = 0; v < Vectors; ++v) {
            const index_t some = std::min(lanes, columns - v * lanes);
            if (some <= 0) continue;
            float* const to = y + r * ys.row + v * lanes * ys.column;
            simd::store_strided(to, add ? simd::load_strided(to, ys.column, some) + sum[r][v] : sum[r][v], ys.column,
                                some);
        }
    }
}

template <int Vectors>
void multiply_rows(const float* a, const matrix& as, index_t rows, const float* panel, index_t panel_row, index_t depth,
                   float* y, const matrix& ys, index_t columns, bool add) noexcept {
    index_t r = 0;
    for (; r + tile_rows <= rows; r += tile_rows)
        multiply_tile<tile_rows, Vectors>(a + r * as.row, as, panel, panel_row, depth, y + r * ys.row, ys, columns,
                                          add);
    if (r + 3 <= rows) {
        multiply_tile<3, Vectors>(a + r * as.row, as, panel, panel_row, depth, y + r * ys.row, ys, columns, add);
        r += 3;
    }
    for (; r < rows; ++r)
        multiply_tile<1, Vectors>(a + r * as.row, as, panel, panel_row, depth, y + r * ys.row, ys, columns, add);
}

/// Columns of one product: y [rows, columns] with at most panel_columns, by way of a panel of b in L1 or L2.
inline void multiply_panel(const float* a, const matrix& as, const float* b, const matrix& bs, float* y,
                           const matrix& ys, index_t rows, index_t columns, index_t depth) noexcept {
    alignas(64) float memory[panel_depth * panel_columns];
    const index_t vectors = (columns + simd::lanes - 1) / simd::lanes, packed_row = vectors * simd::lanes;
    // Whole vectors that are contiguous are read where they are, unless many rows will read them.
    const bool direct = bs.column == 1 && columns == packed_row && rows <= 4 * tile_rows;
    for (index_t first = 0; first < depth; first += panel_depth) {
        const index_t some = std::min(panel_depth, depth - first);
        const float* panel = b + first * bs.row;
        index_t panel_row = bs.row;
        if (!direct) {
            copy_rows({some, columns, memory, panel, packed_row, bs.row, 1, bs.column});
            for (index_t k = 0; k < some; ++k)
                std::fill(memory + k * packed_row + columns, memory + (k + 1) * packed_row, 0.0F);
            panel = memory;
            panel_row = packed_row;
        }
        const auto with = [&]<int V>() {
            multiply_rows<V>(a + first * as.column, as, rows, panel, panel_row, some, y, ys, columns, first > 0);
        };
        if (vectors == 1)
            with.template operator()<1>();
        else if (vectors == 2)
            with.template operator()<2>();
        else if constexpr (tile_vectors > 2) {
            if (vectors == 3)
                with.template operator()<3>();
            else
                with.template operator()<tile_vectors>();
        }
    }
}

[[nodiscard]] inline nd_shape without_matrix(const nd_shape& s, index_t rank) {
    nd_shape out = s;
    out[rank - 2] = out[rank - 1] = 1;
    return out;
}

}  // namespace detail

KDNA_FUNC nd_shape matmul::output_shape(input_shapes in, std::string_view where) const {
    require_inputs(in, 2, where);
    for (const nd_shape& s : in) {
        static_cast<void>(element_count(s, where));
        if (s.rank() < 2)
            throw error(std::string(where), "matrices, of rank 2 to 5", concat("a vector ", to_string(s)));
    }
    const nd_shape &a = in[0], &b = in[1];
    if (a[a.rank() - 1] != b[b.rank() - 2])
        throw error(std::string(where), concat("a second matrix of ", a[a.rank() - 1], " rows"),
                    concat(to_string(a), " and ", to_string(b)));
    nd_shape out = broadcast(detail::without_matrix(a, a.rank()), detail::without_matrix(b, b.rank()), where);
    out[out.rank() - 2] = a[a.rank() - 2];
    out[out.rank() - 1] = b[b.rank() - 1];
    static_cast<void>(element_count(out, where));
    return out;
}

KDNA_FUNC void matmul::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    const index_t rank = y.rank();
    const auto row_axis = static_cast<std::size_t>(rank - 2), column_axis = static_cast<std::size_t>(rank - 1);
    nd_view<const float> a = in[0], b = in[1];
    const axis_numbers a_strides = detail::broadcast_strides(a, rank), b_strides = detail::broadcast_strides(b, rank);
    index_t rows = y.shape[rank - 2], columns = y.shape[rank - 1];
    const index_t depth = a.shape[a.rank() - 1];
    const auto strides_of = [&](const axis_numbers& s) { return detail::matrix{s[row_axis], s[column_axis]}; };
    detail::matrix as = strides_of(a_strides), bs = strides_of(b_strides), ys = strides_of(y.stride);
    std::size_t first_operand = 1, second_operand = 2;
    // The columns of y are the lanes. Where its rows are contiguous, the product of the transposed matrices is computed.
    if (columns > 1 && ys.column != 1 && (ys.row == 1 || rows > columns) && rows > 1) {
        std::swap(a, b);
        std::swap(as, bs);
        for (detail::matrix* m : {&as, &bs, &ys}) std::swap(m->row, m->column);
        std::swap(rows, columns);
        std::swap(first_operand, second_operand);
    }
    detail::nest batch;
    for (index_t i = 0; i + 2 < rank; ++i) {
        const auto k = static_cast<std::size_t>(i);
        batch.add(y.shape[i], {y.stride[k], a_strides[k], b_strides[k]});
    }
    batch.arrange();
    const index_t batches = batch.elements(), panels = (columns + detail::panel_columns - 1) / detail::panel_columns;
    const index_t threads = std::max<index_t>(executor.concurrency(), 1);
    // Rows are shared out only where there are too few products and panels for all threads.
    constexpr index_t unit = 8 * detail::tile_rows;
    const index_t units = (rows + unit - 1) / unit,
                  pieces = threads == 1 || batches * panels >= 2 * threads
                               ? 1
                               : std::min(units, (2 * threads + batches * panels - 1) / (batches * panels));
    const auto one = [&](index_t product, index_t task) {
        const index_t panel = task / pieces, piece = task % pieces;
        const index_t top = units * piece / pieces * unit, bottom = std::min(units * (piece + 1) / pieces * unit, rows),
                      left = panel * detail::panel_columns;
        detail::per_operand offset{};
        index_t rest = product;
        for (index_t i = batch.rank(); i-- > 0; rest /= batch.axis(i).extent)
            for (std::size_t k = 0; k < offset.size(); ++k)
                offset[k] += rest % batch.axis(i).extent * batch.axis(i).stride[k];
        for (std::size_t k = 0; k < offset.size(); ++k) offset[k] += batch.start()[k];
        detail::multiply_panel(a.data + offset[first_operand] + top * as.row, as,
                               b.data + offset[second_operand] + left * bs.column, bs,
                               y.data + offset[0] + top * ys.row + left * ys.column, ys, bottom - top,
                               std::min(detail::panel_columns, columns - left), depth);
    };
    const index_t each = panels * pieces, tasks = batches * each;
    const double work = static_cast<double>(batches) * static_cast<double>(rows) * static_cast<double>(columns) *
                        static_cast<double>(depth) / static_cast<double>(detail::matmul_grain);
    const index_t groups = std::min(tasks, work < 2.0 ? 1 : 4 * threads);
    executor.parallel_for(groups, [&](index_t group) {
        for (index_t t = tasks * group / groups; t < tasks * (group + 1) / groups; ++t) one(t / each, t % each);
    });
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
