// Definitions of nn/extents.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>
#include <string>

#include <kdna/nn/extents.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC extent::extent(const extent& a, const extent& b, kind is) : terms_(a.terms_) {
    terms_.insert(terms_.end(), b.terms_.begin(), b.terms_.end());
    terms_.push_back({is, 0, 0});
}

namespace detail {

/// Operands of extents stay below this, so that sums, differences and products of two of them fit.
inline constexpr index_t largest_extent = index_t{1} << 31;

}  // namespace detail

KDNA_FUNC index_t extent::of(std::span<const nd_shape> shapes, std::string_view where) const {
    std::vector<index_t> stack;
    const auto push = [&](index_t value) {
        if (value > detail::largest_extent || value < -detail::largest_extent)
            throw error(std::string(where), "an extent below 2^31", concat(value));
        stack.push_back(value);
    };
    for (const term& t : terms_) {
        if (t.is == kind::number) {
            push(t.a);
            continue;
        }
        if (t.is == kind::dim) {
            if (t.a < 0 || t.a >= static_cast<index_t>(shapes.size()))
                throw error(std::string(where), "the extent of a value that the step is given", concat("value ", t.a));
            const nd_shape& s = shapes[static_cast<std::size_t>(t.a)];
            push(s[axis_of(t.b, s.rank(), where)]);
            continue;
        }
        const index_t b = stack.back();
        stack.pop_back();
        const index_t a = stack.back();
        stack.pop_back();
        if ((t.is == kind::div || t.is == kind::ceil_div) && b < 1)
            throw error(std::string(where), "a division by at least 1", concat(a, " / ", b));
        const index_t floor = b < 1 ? 0 : (a >= 0 ? a / b : -((-a + b - 1) / b));
        switch (t.is) {
            case kind::add: push(a + b); break;
            case kind::sub: push(a - b); break;
            case kind::mul: push(a * b); break;
            case kind::div: push(floor); break;
            case kind::ceil_div: push(floor * b == a ? floor : floor + 1); break;
            case kind::max: push(std::max(a, b)); break;
            case kind::min: push(std::min(a, b)); break;
            case kind::number:
            case kind::dim: break;
        }
    }
    return stack.back();
}

KDNA_FUNC std::vector<index_t> extents_of(std::span<const extent> extents, std::span<const nd_shape> shapes,
                                          std::string_view where) {
    std::vector<index_t> out;
    for (const extent& e : extents) out.push_back(e.of(shapes, where));
    return out;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
