// Loop nests over up to three operands with any strides: the axes are put into the order in which the output lies in memory,
// those that can be one become one, and the work is shared out over threads.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <kdna/core/executor.hpp>
#include <kdna/tensor/nd_view.hpp>

namespace kdna::inline KDNA_ABI::ops {

/// What an operation reads.
using input_views = std::span<const nd_view<const float>>;
using input_shapes = std::span<const nd_shape>;

/// Throws kdna::error, naming `where`, unless there are `expected` inputs.
inline void require_inputs(input_shapes in, std::size_t expected, std::string_view where) {
    if (in.size() != expected)
        throw error(std::string(where), expected == 1 ? "1 input" : concat(expected, " inputs"), concat(in.size()));
}
/// Throws kdna::error, naming `where`, unless there is one input and it has a rank from `least` to `most`. Returns it.
inline const nd_shape& require_one(input_shapes in, index_t least, index_t most, std::string_view where) {
    require_inputs(in, 1, where);
    const nd_shape& x = in.front();
    static_cast<void>(element_count(x, where));
    if (x.rank() < least || x.rank() > most)
        throw error(
            std::string(where),
            least == most ? concat("an input of rank ", least) : concat("an input of rank ", least, " to ", most),
            to_string(x));
    return x;
}

namespace detail {

/// A number for each operand. Operand 0 is the one whose order in memory decides the order of the loops, the output as a rule.
using per_operand = std::array<index_t, 3>;

struct nest_axis {
    index_t extent = 1;
    per_operand stride{};
};

/// A loop nest. The last axis is the innermost; a nest of no axes has one element. The two innermost axes go to a kernel
/// together, as rows and columns.
class nest {
public:
    /// Appends an axis; one of extent 1 does nothing.
    void add(index_t extent, const per_operand& stride) noexcept {
        if (extent != 1) axes_[static_cast<std::size_t>(rank_++)] = {extent, stride};
    }

    /// Orders the axes by the distance of their elements in operand 0, and joins those that are one axis in all operands. No
    /// axis runs backwards in operand 0 afterwards. The order of elements changes, so this is for kernels that do not care.
    void arrange() noexcept {
        for (index_t i = 0; i < rank_; ++i) {
            nest_axis& a = at(i);
            if (a.stride[0] >= 0) continue;
            for (std::size_t k = 0; k < a.stride.size(); ++k) {
                start_[k] += (a.extent - 1) * a.stride[k];
                a.stride[k] = -a.stride[k];
            }
        }
        for (index_t i = 1; i < rank_; ++i)
            for (index_t j = i; j > 0 && before(at(j), at(j - 1)); --j) std::swap(at(j), at(j - 1));
        join();
    }
    /// Joins neighbouring axes that are one axis in all operands, and keeps the order of elements.
    void join() noexcept {
        index_t kept = 0;
        for (index_t i = 0; i < rank_; ++i) {
            if (kept > 0 && one_axis(at(kept - 1), at(i))) {
                at(kept - 1) = {at(kept - 1).extent * at(i).extent, at(i).stride};
            } else {
                at(kept++) = at(i);
            }
        }
        rank_ = kept;
    }
    /// Makes another axis than that of the columns the one of the rows, for kernels that transpose: the one with the nearest
    /// elements in operand k, or the longest one if that has just a few elements and the columns are few too.
    void rows_along(std::size_t k) noexcept {
        if (rank_ < 3) return;
        index_t nearest = rank_ - 1, longest = rank_ - 2;
        for (index_t i = rank_ - 1; i-- > 0;) {
            if (at(i).stride[k] != 0 && (at(nearest).stride[k] == 0 || distance(at(i), k) < distance(at(nearest), k)))
                nearest = i;
            if (at(i).extent > at(longest).extent) longest = i;
        }
        const bool few = nearest != rank_ - 1 && at(nearest).extent < 8 && at(rank_ - 1).extent < 8;
        const index_t best = few ? longest : nearest;
        if (best == rank_ - 1) return;
        for (index_t i = best; i < rank_ - 2; ++i) std::swap(at(i), at(i + 1));
    }

    [[nodiscard]] index_t rank() const noexcept { return rank_; }
    [[nodiscard]] nest_axis columns() const noexcept { return rank_ > 0 ? at(rank_ - 1) : nest_axis{}; }
    [[nodiscard]] nest_axis rows() const noexcept { return rank_ > 1 ? at(rank_ - 2) : nest_axis{}; }
    [[nodiscard]] const nest_axis& axis(index_t i) const noexcept { return axes_[static_cast<std::size_t>(i)]; }
    /// Offset of the first element in each operand.
    [[nodiscard]] const per_operand& start() const noexcept { return start_; }
    /// Elements without the innermost axis.
    [[nodiscard]] index_t lines() const noexcept {
        index_t count = 1;
        for (index_t i = 0; i + 1 < rank_; ++i) count *= at(i).extent;
        return count;
    }
    [[nodiscard]] index_t elements() const noexcept { return lines() * columns().extent; }

    /// Takes the innermost axis away.
    nest_axis take_columns() noexcept { return rank_ > 0 ? at(--rank_) : nest_axis{}; }

    /// Calls f(offsets, rows, column, columns) for lines [first, last), as many of them at a time as are rows of one block.
    template <class F>
    void blocks(index_t first, index_t last, index_t column, index_t column_count, const F& f) const {
        const nest_axis row = rows();
        const index_t outer = std::max<index_t>(rank_ - 2, 0);
        std::array<index_t, most> position{};
        per_operand offset = start_;
        const index_t row_first = first % row.extent;
        for (index_t i = outer, rest = first / row.extent; i-- > 0; rest /= at(i).extent) {
            position[static_cast<std::size_t>(i)] = rest % at(i).extent;
            shift(offset, at(i), position[static_cast<std::size_t>(i)]);
        }
        const per_operand column_stride = columns().stride;
        for (index_t line = first, r = row_first; line < last; r = 0) {
            const index_t count = std::min(row.extent - r, last - line);
            per_operand from = offset;
            shift(from, row, r);
            for (std::size_t k = 0; k < from.size(); ++k) from[k] += column * column_stride[k];
            f(static_cast<const per_operand&>(from), count, column, column_count);
            line += count;
            for (index_t i = outer; i-- > 0;) {
                index_t& p = position[static_cast<std::size_t>(i)];
                shift(offset, at(i), 1);
                if (++p < at(i).extent) break;
                shift(offset, at(i), -p);
                p = 0;
            }
        }
    }
    /// The same for all of the nest.
    template <class F>
    void all(const F& f) const {
        blocks(0, lines(), 0, columns().extent, f);
    }

    /// The same for all of the nest, shared out over threads. A thread gets at least `grain` elements, and the innermost axis is
    /// cut only at multiples of `unit`.
    template <class F>
    void run(const executor_ref& executor, index_t grain, const F& f, index_t unit = 64) const {
        const index_t line_count = lines(), width = columns().extent,
                      threads = std::clamp<index_t>(line_count * width / grain, 1,
                                                    std::max<index_t>(executor.concurrency(), 1));
        if (threads == 1) {
            all(f);
        } else if (line_count >= 2 * threads) {
            executor.parallel_for(threads, [&](index_t t) {
                blocks(line_count * t / threads, line_count * (t + 1) / threads, 0, width, f);
            });
        } else {
            const index_t pieces = (threads + line_count - 1) / line_count, units = (width + unit - 1) / unit,
                          piece = (units + pieces - 1) / pieces * unit, parts = (width + piece - 1) / piece;
            executor.parallel_for(line_count * parts, [&](index_t t) {
                const index_t line = t / parts, column = t % parts * piece;
                blocks(line, line + 1, column, std::min(piece, width - column), f);
            });
        }
    }

private:
    static constexpr std::size_t most = 10;

    [[nodiscard]] nest_axis& at(index_t i) noexcept { return axes_[static_cast<std::size_t>(i)]; }
    [[nodiscard]] const nest_axis& at(index_t i) const noexcept { return axes_[static_cast<std::size_t>(i)]; }
    [[nodiscard]] static index_t distance(const nest_axis& a, std::size_t k) noexcept {
        return a.stride[k] < 0 ? -a.stride[k] : a.stride[k];
    }
    /// Whether axis a belongs outside of axis b.
    [[nodiscard]] static bool before(const nest_axis& a, const nest_axis& b) noexcept {
        for (std::size_t k = 0; k < 3; ++k)
            if (distance(a, k) != distance(b, k)) return distance(a, k) > distance(b, k);
        return false;
    }
    [[nodiscard]] static bool one_axis(const nest_axis& outer, const nest_axis& inner) noexcept {
        for (std::size_t k = 0; k < 3; ++k)
            if (outer.stride[k] != inner.stride[k] * inner.extent) return false;
        return true;
    }
    static void shift(per_operand& offset, const nest_axis& a, index_t steps) noexcept {
        for (std::size_t k = 0; k < offset.size(); ++k) offset[k] += steps * a.stride[k];
    }

    std::array<nest_axis, most> axes_{};
    index_t rank_ = 0;
    per_operand start_{};
};

/// Strides of a view with which it has the axes of a broadcast shape of that rank: 0 along axes that are repeated or missing.
[[nodiscard]] inline axis_numbers broadcast_strides(const nd_view<const float>& v, index_t rank) noexcept {
    axis_numbers out{};
    for (index_t i = 0; i < v.rank(); ++i) {
        const auto from = static_cast<std::size_t>(i), to = static_cast<std::size_t>(i + rank - v.rank());
        out[to] = v.shape[i] == 1 ? 0 : v.stride[from];
    }
    return out;
}

/// The nest over the axes of y, with the strides of y and of operands 1 and 2.
[[nodiscard]] inline nest nest_over(const nd_view<float>& y, const axis_numbers& s1,
                                    const axis_numbers& s2 = {}) noexcept {
    nest out;
    for (index_t i = 0; i < y.rank(); ++i) {
        const auto k = static_cast<std::size_t>(i);
        out.add(y.shape[i], {y.stride[k], s1[k], s2[k]});
    }
    return out;
}

}  // namespace detail
}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
