// Definitions of copy.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/nn/ops/copy.hpp>
#include <kdna/nn/ops/copy_rows.hpp>

namespace kdna::inline KDNA_ABI::ops {
namespace detail {

/// Elements that are worth a thread.
inline constexpr index_t copy_grain = 16384;

/// Copies operand 1 of the nest to operand 0.
inline void copy_nest(nest& n, float* y, const float* x, const executor_ref& executor) noexcept {
    n.arrange();
    n.rows_along(1);
    const per_operand row = n.rows().stride, column = n.columns().stride;
    n.run(executor, copy_grain, [&](const per_operand& at, index_t rows, index_t, index_t columns) {
        copy_rows({rows, columns, y + at[0], x + at[1], row[0], row[1], column[0], column[1]});
    });
}

/// A place in a nest whose elements are visited in their own order, as operand 0 sees them.
class cursor {
public:
    cursor(const nest& n, index_t element) noexcept : nest_(n), offset_(n.start()[0]) {
        for (index_t i = n.rank(); i-- > 0; element /= n.axis(i).extent) {
            at(i) = element % n.axis(i).extent;
            offset_ += at(i) * n.axis(i).stride[0];
        }
    }
    [[nodiscard]] index_t offset() const noexcept { return offset_; }
    /// Elements from here on that have the stride of the innermost axis.
    [[nodiscard]] index_t left() const noexcept {
        return nest_.rank() == 0 ? 1 : nest_.columns().extent - position_[static_cast<std::size_t>(nest_.rank() - 1)];
    }
    /// Goes on by `steps` <= left().
    void advance(index_t steps) noexcept {
        for (index_t i = nest_.rank(); i-- > 0; steps = 1) {
            const nest_axis& a = nest_.axis(i);
            at(i) += steps;
            offset_ += steps * a.stride[0];
            if (at(i) < a.extent) return;
            offset_ -= at(i) * a.stride[0];
            at(i) = 0;
        }
    }

private:
    [[nodiscard]] index_t& at(index_t i) noexcept { return position_[static_cast<std::size_t>(i)]; }
    const nest& nest_;
    index_t offset_;
    axis_numbers position_{};
};

/// The nest over axes that both shapes can be split into, or no elements (false) where a boundary of one falls into an axis of
/// the other.
[[nodiscard]] inline bool common_nest(const nest& x, const nest& y, nest& out) noexcept {
    nest_axis split[2 * most_axes];
    index_t count = 0;
    index_t i = x.rank(), j = y.rank();
    nest_axis a{}, b{};
    while (i > 0 || j > 0 || a.extent > 1) {
        if (a.extent == 1 && i > 0) a = x.axis(--i);
        if (b.extent == 1 && j > 0) b = y.axis(--j);
        const index_t part = std::min(a.extent, b.extent);
        if (part < 2 || a.extent % part != 0 || b.extent % part != 0) return false;
        split[count++] = {part, {b.stride[0], a.stride[0], 0}};
        a = {a.extent / part, {a.stride[0] * part, 0, 0}};
        b = {b.extent / part, {b.stride[0] * part, 0, 0}};
    }
    while (count-- > 0) out.add(split[count].extent, split[count].stride);
    return true;
}

/// A value as the fewest axes, in PyTorch's order.
[[nodiscard]] inline nest joined_axes(const nd_shape& s, const axis_numbers& stride) noexcept {
    nest out;
    for (index_t i = 0; i < s.rank(); ++i) out.add(s[i], {stride[static_cast<std::size_t>(i)], 0, 0});
    out.join();
    return out;
}

/// An image, or throws kdna::error, naming `where`.
inline const nd_shape& require_image(input_shapes in, std::string_view where) { return require_one(in, 4, 4, where); }

}  // namespace detail

KDNA_FUNC void copy(const nd_view<const float>& x, const nd_view<float>& y, const executor_ref& executor) noexcept {
    detail::nest n = detail::nest_over(y, x.stride);
    detail::copy_nest(n, y.data, x.data, executor);
}

KDNA_FUNC std::optional<detail::nest> element_nest(const nd_shape& x, const axis_numbers& s, const nd_shape& y,
                                                   const axis_numbers& t) noexcept {
    detail::nest both;
    if (!detail::common_nest(detail::joined_axes(x, s), detail::joined_axes(y, t), both)) return std::nullopt;
    return both;
}

KDNA_FUNC void copy_elements(const nd_view<const float>& x, const nd_view<float>& y,
                             const executor_ref& executor) noexcept {
    if (std::optional<detail::nest> both = element_nest(x.shape, x.stride, y.shape, y.stride))
        return detail::copy_nest(*both, y.data, x.data, executor);
    const detail::nest from = detail::joined_axes(x.shape, x.stride), to = detail::joined_axes(y.shape, y.stride);
    const index_t count = to.elements(), parts = (count + detail::copy_grain - 1) / detail::copy_grain,
                  y_step = to.columns().stride[0], x_step = from.columns().stride[0];
    executor.parallel_for(parts, [&](index_t part) {
        const index_t first = part * detail::copy_grain;
        detail::cursor source(from, first), target(to, first);
        for (index_t rest = std::min(detail::copy_grain, count - first); rest > 0;) {
            const index_t some = std::min({rest, source.left(), target.left()});
            const float* const a = x.data + source.offset();
            float* const b = y.data + target.offset();
            for (index_t i = 0; i < some; ++i) b[i * y_step] = a[i * x_step];
            source.advance(some);
            target.advance(some);
            rest -= some;
        }
    });
}

KDNA_FUNC void fill(const nd_view<float>& y, float value, const executor_ref& executor) noexcept {
    detail::nest n = detail::nest_over(y, {});
    detail::copy_nest(n, y.data, &value, executor);
}

KDNA_FUNC pixel_shuffle::pixel_shuffle(index_t factor, std::string_view where) : factor_(factor) {
    if (factor < 1) throw error(std::string(where), "a factor >= 1", concat(factor));
    static_cast<void>(checked_mul(factor, factor, where));
}
KDNA_FUNC nd_shape pixel_shuffle::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = detail::require_image(in, where);
    const index_t square = factor_ * factor_;
    if (x[1] % square != 0)
        throw error(std::string(where), concat("channels that are a multiple of ", square), to_string(x));
    return {x[0], x[1] / square, checked_mul(x[2], factor_, where), checked_mul(x[3], factor_, where)};
}
KDNA_FUNC detail::nest pixel_shuffle::moves(const nd_shape& x, const axis_numbers& s, const nd_shape& y,
                                            const axis_numbers& t) const noexcept {
    const index_t r = factor_;
    detail::nest n;
    n.add(x[0], {t[0], s[0], 0});
    n.add(y[1], {t[1], r * r * s[1], 0});
    n.add(x[2], {r * t[2], s[2], 0});
    n.add(r, {t[2], r * s[1], 0});
    n.add(x[3], {r * t[3], s[3], 0});
    n.add(r, {t[3], s[1], 0});
    return n;
}
KDNA_FUNC void pixel_shuffle::run(input_views in, const nd_view<float>& y,
                                  const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    detail::nest n = moves(x.shape, x.stride, y.shape, y.stride);
    detail::copy_nest(n, y.data, x.data, executor);
}

KDNA_FUNC pixel_unshuffle::pixel_unshuffle(index_t factor, std::string_view where) : factor_(factor) {
    if (factor < 1) throw error(std::string(where), "a factor >= 1", concat(factor));
    static_cast<void>(checked_mul(factor, factor, where));
}
KDNA_FUNC nd_shape pixel_unshuffle::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = detail::require_image(in, where);
    if (x[2] % factor_ != 0 || x[3] % factor_ != 0)
        throw error(std::string(where), concat("rows and columns that are multiples of ", factor_), to_string(x));
    return {x[0], checked_mul(x[1], factor_ * factor_, where), x[2] / factor_, x[3] / factor_};
}
KDNA_FUNC detail::nest pixel_unshuffle::moves(const nd_shape& x, const axis_numbers& s, const nd_shape& y,
                                              const axis_numbers& t) const noexcept {
    const index_t r = factor_;
    detail::nest n;
    n.add(x[0], {t[0], s[0], 0});
    n.add(x[1], {r * r * t[1], s[1], 0});
    n.add(y[2], {t[2], r * s[2], 0});
    n.add(r, {r * t[1], s[2], 0});
    n.add(y[3], {t[3], r * s[3], 0});
    n.add(r, {t[1], s[3], 0});
    return n;
}
KDNA_FUNC void pixel_unshuffle::run(input_views in, const nd_view<float>& y,
                                    const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    detail::nest n = moves(x.shape, x.stride, y.shape, y.stride);
    detail::copy_nest(n, y.data, x.data, executor);
}

KDNA_FUNC channel_shuffle::channel_shuffle(index_t groups, std::string_view where) : groups_(groups) {
    if (groups < 1) throw error(std::string(where), "groups >= 1", concat(groups));
}
KDNA_FUNC nd_shape channel_shuffle::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, 2, most_axes, where);
    if (x[1] % groups_ != 0)
        throw error(std::string(where), concat("channels that are a multiple of the ", groups_, " groups"),
                    to_string(x));
    return x;
}
KDNA_FUNC detail::nest channel_shuffle::moves(const nd_shape& x, const axis_numbers& s, const nd_shape&,
                                              const axis_numbers& t) const noexcept {
    const index_t each = x[1] / groups_;
    detail::nest n;
    for (index_t i = 0; i < x.rank(); ++i) {
        const index_t from = s[static_cast<std::size_t>(i)], to = t[static_cast<std::size_t>(i)];
        if (i != 1) {
            n.add(x[i], {to, from, 0});
        } else {
            n.add(each, {groups_ * to, from, 0});
            n.add(groups_, {to, each * from, 0});
        }
    }
    return n;
}
KDNA_FUNC void channel_shuffle::run(input_views in, const nd_view<float>& y,
                                    const executor_ref& executor) const noexcept {
    const nd_view<const float>& x = in.front();
    detail::nest n = moves(x.shape, x.stride, y.shape, y.stride);
    detail::copy_nest(n, y.data, x.data, executor);
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
