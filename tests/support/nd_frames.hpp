// Values of any rank in every kind of memory, with guards around them, and operations run on them.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include <kdna/core/executor.hpp>
#include <kdna/tensor/nd_view.hpp>

#include "support/random.hpp"

namespace kdna_test {

/// How a value lies in its memory. Results are never `repeated`.
enum class nd_placement { row_major, channels_last, permuted, gaps, reversed, repeated };

inline nd_placement any_nd_placement(rng& r) {
    return r.pick({nd_placement::row_major, nd_placement::channels_last, nd_placement::channels_last,
                   nd_placement::permuted, nd_placement::gaps, nd_placement::reversed});
}

/// Calls f(index) for all elements of a shape, the last axis fastest.
template <class F>
void for_each_index(const kdna::nd_shape& s, F&& f) {
    kdna::axis_numbers i{};
    for (;;) {
        f(static_cast<const kdna::axis_numbers&>(i));
        index_t axis = s.rank();
        while (axis-- > 0) {
            if (++i[static_cast<std::size_t>(axis)] < s[axis]) break;
            i[static_cast<std::size_t>(axis)] = 0;
        }
        if (axis < 0) return;
    }
}
template <class T>
T& element(const kdna::nd_view<T>& v, const kdna::axis_numbers& i) {
    index_t at = 0;
    for (std::size_t k = 0; k < static_cast<std::size_t>(v.rank()); ++k) at += i[k] * v.stride[k];
    return v.data[at];
}
/// The elements in PyTorch's order.
inline std::vector<float> values_of(const kdna::nd_view<const float>& v) {
    std::vector<float> out;
    for_each_index(v.shape, [&](const kdna::axis_numbers& i) { out.push_back(element(v, i)); });
    return out;
}

/// Memory with a value in it. Everything else there is a NaN of its own kind.
class nd_frame {
public:
    static constexpr std::uint32_t guard = 0x7fc0dead;

    nd_frame(rng& r, const kdna::nd_shape& s, nd_placement where) {
        const auto rank = static_cast<std::size_t>(s.rank());
        kdna::axis_order order =
            where == nd_placement::row_major || (where != nd_placement::channels_last && r.chance(0.5))
                ? kdna::row_major
                : kdna::channels_last(s.rank());
        if (where == nd_placement::permuted)
            for (std::size_t i = rank; i > 1; --i)
                std::swap(order[i - 1], order[static_cast<std::size_t>(r.between(0, static_cast<index_t>(i) - 1))]);
        const bool gaps = where == nd_placement::gaps || where == nd_placement::reversed;
        index_t step = gaps && r.chance(0.3) ? r.between(1, 3) : 1, low = 0, high = 0;
        for (std::size_t i = rank; i-- > 0;) {
            const std::size_t axis = static_cast<std::size_t>(order[i]);
            view_.stride[axis] = step;
            step = step * s[static_cast<index_t>(axis)] + (gaps ? r.between(0, 3) : 0);
            if (where == nd_placement::reversed && r.chance(0.5)) view_.stride[axis] = -view_.stride[axis];
        }
        if (where == nd_placement::repeated) view_.stride[static_cast<std::size_t>(r.between(0, s.rank() - 1))] = 0;
        for (std::size_t axis = 0; axis < rank; ++axis) {
            const index_t reach = (s[static_cast<index_t>(axis)] - 1) * view_.stride[axis];
            (reach < 0 ? low : high) += reach;
        }
        const index_t around = r.chance(0.5) ? 0 : r.between(1, 40);
        memory_.assign(static_cast<std::size_t>(high - low + 1 + 2 * around), std::bit_cast<float>(guard));
        memory_.shrink_to_fit();
        view_.shape = s;
        view_.data = memory_.data() + around - low;
        inside_.assign(memory_.size(), false);
        for_each_index(s, [&](const kdna::axis_numbers& i) {
            inside_[static_cast<std::size_t>(&element(view_, i) - memory_.data())] = true;
        });
    }
    nd_frame(nd_frame&&) = default;

    [[nodiscard]] const kdna::nd_view<float>& view() const { return view_; }
    void fill(rng& r, double low = -1.0, double high = 1.0) {
        for_each_index(view_.shape,
                       [&](const kdna::axis_numbers& i) { element(view_, i) = static_cast<float>(r.real(low, high)); });
    }
    /// Sets `count` random elements to NaN or an infinity.
    void spoil(rng& r, index_t count) {
        constexpr float infinity = std::numeric_limits<float>::infinity();
        for (; count > 0; --count) {
            kdna::axis_numbers i{};
            for (index_t a = 0; a < view_.rank(); ++a)
                i[static_cast<std::size_t>(a)] = r.between(0, view_.shape[a] - 1);
            element(view_, i) = r.pick({std::numeric_limits<float>::quiet_NaN(), infinity, -infinity});
        }
    }
    [[nodiscard]] bool guards_intact() const {
        for (std::size_t i = 0; i < memory_.size(); ++i)
            if (!inside_[i] && std::bit_cast<std::uint32_t>(memory_[i]) != guard) return false;
        return true;
    }

private:
    std::vector<float> memory_;
    kdna::nd_view<float> view_{};
    std::vector<bool> inside_;
};

/// A shape of that rank with extents up to `most`; sometimes one axis is longer than a vector or two.
inline kdna::nd_shape any_nd_shape(rng& r, index_t rank, index_t most = 5, index_t longest = 40) {
    std::vector<index_t> extents;
    for (index_t i = 0; i < rank; ++i) extents.push_back(r.between(1, most));
    if (r.chance(0.7)) extents[static_cast<std::size_t>(r.between(0, rank - 1))] = r.between(1, longest);
    return kdna::nd_shape(extents);
}

/// Runs an operation into memory of any kind. The elements in PyTorch's order; fails the test where it writes elsewhere.
template <class Operation>
std::vector<float> result_of(const Operation& op, rng& r, const std::vector<kdna::nd_view<const float>>& in) {
    std::vector<kdna::nd_shape> shapes;
    for (const auto& v : in) shapes.push_back(v.shape);
    const kdna::nd_shape out = op.output_shape(shapes, "op");
    const nd_frame y(r, out, any_nd_placement(r));
    op.run(in, y.view(), kdna::executor_ref());
    if (!y.guards_intact()) FAIL("wrote outside");
    return values_of(y.view());
}

/// What a result should be, and how far off it may be.
struct bounded_result {
    std::vector<double> value, error;
    void push_back(double v, double e) {
        value.push_back(v);
        error.push_back(e);
    }
};
inline void check_result(const std::vector<float>& found, const bounded_result& expected) {
    REQUIRE(found.size() == expected.value.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        const double e = expected.value[i], f = static_cast<double>(found[i]);
        if (std::isnan(e) ? !std::isnan(f) : !(f == e || std::abs(f - e) <= expected.error[i]))
            FAIL("element " << i << ": " << f << " instead of " << e << ", off by " << f - e << ", may be "
                            << expected.error[i]);
    }
}

}  // namespace kdna_test
