// Extents that follow from the shapes of other values, such as C / 2 channels or the rows of another map.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>
#include <string_view>
#include <vector>

#include <kdna/core/nd_shape.hpp>

namespace kdna::inline KDNA_ABI {

/// A number, or an expression in the extents of shapes that a step is given.
class extent {
public:
    /// A number as it is.
    extent(index_t number) : terms_{{kind::number, number, 0}} {}  // NOLINT(google-explicit-constructor)
    /// Extent `axis`, which may be negative, of shape i.
    [[nodiscard]] static extent dim(index_t shape, index_t axis) { return extent(term{kind::dim, shape, axis}); }
    friend extent operator+(const extent& a, const extent& b) { return extent(a, b, kind::add); }
    friend extent operator-(const extent& a, const extent& b) { return extent(a, b, kind::sub); }
    friend extent operator*(const extent& a, const extent& b) { return extent(a, b, kind::mul); }
    /// a / b rounded down, and rounded up.
    friend extent operator/(const extent& a, const extent& b) { return extent(a, b, kind::div); }
    [[nodiscard]] static extent ceil_div(const extent& a, const extent& b) { return extent(a, b, kind::ceil_div); }
    [[nodiscard]] static extent max(const extent& a, const extent& b) { return extent(a, b, kind::max); }
    [[nodiscard]] static extent min(const extent& a, const extent& b) { return extent(a, b, kind::min); }

    /// Whether it is a number, whatever the shapes.
    [[nodiscard]] bool is_number() const noexcept { return terms_.size() == 1 && terms_.front().is == kind::number; }
    /// The number it is for these shapes. Throws kdna::error, naming `where`, for a shape or an axis that is not there, a division by
    /// less than 1, and what does not fit in 64 bits.
    [[nodiscard]] KDNA_FUNC index_t of(std::span<const nd_shape> shapes, std::string_view where) const;

private:
    enum class kind : int { number, dim, add, sub, mul, div, ceil_div, max, min };
    struct term {
        kind is;
        index_t a, b;
    };
    explicit extent(const term& t) : terms_{t} {}
    KDNA_FUNC extent(const extent& a, const extent& b, kind is);
    std::vector<term> terms_;  // operands before operators
};

/// All of them.
[[nodiscard]] KDNA_FUNC std::vector<index_t> extents_of(std::span<const extent> extents,
                                                        std::span<const nd_shape> shapes, std::string_view where);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/extents.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
