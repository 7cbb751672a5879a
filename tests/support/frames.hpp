// Activations in every kind of memory a caller may have, with guards around them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

#include <kdna/tensor/tensor.hpp>
#include <kdna/tensor/view.hpp>

#include "support/random.hpp"

namespace kdna_test {

/// How a view lies in its memory.
enum class placement { nchw, nhwc, padded_nchw, padded_nhwc, permuted, reversed, broadcast };

inline const char* to_string(placement p) {
    constexpr std::array<const char*, 7> names{"nchw",     "nhwc",     "padded nchw", "padded nhwc",
                                               "permuted", "reversed", "broadcast"};
    return names[static_cast<std::size_t>(p)];
}

/// Memory with a view in it. Every float that is not an element of the view holds a NaN of its own kind, so a read of
/// it that contributes to a result shows, and so does a write to it. Some frames begin and end exactly with the view's
/// first and last element, for AddressSanitizer.
class frame {
public:
    static constexpr std::uint32_t guard = 0x7fc0dead;

    frame(rng& random, const kdna::shape4& shape, placement where) {
        const std::array<index_t, 4> extent{shape.n, shape.c, shape.h, shape.w};
        std::array<std::size_t, 4> order{0, 1, 2, 3};  // axes, outermost first
        if (where == placement::nhwc || where == placement::padded_nhwc) order = {0, 2, 3, 1};
        const bool mixed =
            where == placement::permuted || where == placement::reversed || where == placement::broadcast;
        if (mixed && random.chance(0.5)) order = {0, 2, 3, 1};
        if (where == placement::permuted)
            for (std::size_t i = 4; i > 1; --i)
                std::swap(order[i - 1],
                          order[static_cast<std::size_t>(random.between(0, static_cast<index_t>(i) - 1))]);
        const bool padded = where != placement::nchw && where != placement::nhwc;

        std::array<index_t, 4> stride{};
        index_t step = where == placement::permuted ? random.between(1, 3) : 1;
        for (std::size_t i = 4; i-- > 0;) {
            stride[order[i]] = step;
            step = step * extent[order[i]] + (padded ? random.between(0, 5) : 0);
        }
        if (where == placement::reversed)
            for (std::size_t axis = 0; axis < 4; ++axis)
                if (axis >= 2 || random.chance(0.3)) stride[axis] = random.chance(0.7) ? -stride[axis] : stride[axis];
        if (where == placement::broadcast) stride[static_cast<std::size_t>(random.between(0, 3))] = 0;

        index_t low = 0, high = 0;
        for (std::size_t axis = 0; axis < 4; ++axis) {
            const index_t reach = (extent[axis] - 1) * stride[axis];
            low += std::min<index_t>(reach, 0);
            high += std::max<index_t>(reach, 0);
        }
        const bool tight = random.chance(0.5);
        const index_t before = tight ? 0 : random.between(1, 70), after = tight ? 0 : random.between(1, 70);
        size_ = before + high - low + 1 + after;
        memory_ = std::unique_ptr<float[]>(new float[static_cast<std::size_t>(size_)]);
        view_ = {memory_.get() + before - low, shape, {stride[0], stride[1], stride[2], stride[3]}};
        std::fill_n(memory_.get(), size_, std::bit_cast<float>(guard));
        inside_.assign(static_cast<std::size_t>(size_), false);
        each([this](float& value) { inside_[static_cast<std::size_t>(&value - memory_.get())] = true; });
    }

    [[nodiscard]] const kdna::tensor_view<float>& view() const { return view_; }

    void fill(rng& random, double low = -1.0, double high = 1.0) {
        each([&](float& value) { value = static_cast<float>(random.real(low, high)); });
    }
    void assign(const kdna::tensor_view<const float>& from) { kdna::copy(from, view_); }

    /// Whether all memory outside the view is as it was made.
    [[nodiscard]] bool guards_intact() const {
        for (index_t i = 0; i < size_; ++i)
            if (!inside_[static_cast<std::size_t>(i)] &&
                std::bit_cast<std::uint32_t>(memory_[static_cast<std::size_t>(i)]) != guard)
                return false;
        return true;
    }

private:
    template <class F>
    void each(F&& f) {
        const kdna::shape4& s = view_.shape;
        for (index_t n = 0; n < s.n; ++n)
            for (index_t c = 0; c < s.c; ++c)
                for (index_t h = 0; h < s.h; ++h)
                    for (index_t w = 0; w < s.w; ++w) f(view_(n, c, h, w));
    }

    index_t size_ = 0;
    std::unique_ptr<float[]> memory_;
    kdna::tensor_view<float> view_{};
    std::vector<bool> inside_;
};

/// The elements of a view in NCHW order.
inline std::vector<float> values_of(const kdna::tensor_view<const float>& v) {
    std::vector<float> out;
    for (index_t n = 0; n < v.shape.n; ++n)
        for (index_t c = 0; c < v.shape.c; ++c)
            for (index_t h = 0; h < v.shape.h; ++h)
                for (index_t w = 0; w < v.shape.w; ++w) out.push_back(v(n, c, h, w));
    return out;
}

/// The elements of a tensor in NCHW order.
inline std::vector<float> values_of(const kdna::tensor<float>& t) { return values_of(t.view()); }

/// The largest difference, relative to the largest expected value; NaN if there is one.
inline double error_of(const std::vector<float>& found, const std::vector<float>& expected) {
    double worst = 0.0, largest = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double e = static_cast<double>(expected[i]), d = std::abs(static_cast<double>(found[i]) - e);
        worst = d <= worst ? worst : d;
        largest = std::max(largest, std::abs(e));
    }
    return worst / largest;
}

/// Same bits, element by element.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
               return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
           });
}

}  // namespace kdna_test
