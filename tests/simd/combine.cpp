// Linear combinations of rows, and what they read and write.
#include <kdna/simd/combine.hpp>

#include <memory>

#include "support/oracle.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// Memory that ends with its last element, for AddressSanitizer.
struct exact_memory {
    explicit exact_memory(index_t count, float value = 0.0F) : data(new float[static_cast<std::size_t>(count)]) {
        std::fill_n(data.get(), count, value);
    }
    std::unique_ptr<float[]> data;
};

bounded combined(const float* factors, const float* from, index_t stride, index_t terms, index_t i) {
    bounded_sum sum;
    for (index_t k = 0; k < terms; ++k)
        sum.add({static_cast<double>(factors[k]), 0.0}, {static_cast<double>(from[k * stride + i]), 0.0});
    return sum.result();
}

}  // namespace

TEST_CASE("Rows are combined, no more than a vector is read past one, and nothing written past it") {
    for (int i = 0; i < scaled(2000); ++i) {
        rng r(500, static_cast<std::uint64_t>(i));
        const index_t rows = r.between(1, 24), terms = r.between(1, 12), count = r.between(1, 5 * simd::lanes);
        const index_t whole = (count + simd::lanes - 1) / simd::lanes * simd::lanes,
                      stride = r.chance(0.5) ? whole : count + r.between(0, 20);
        const index_t size = (terms - 1) * stride + whole;  // and not a float more
        const exact_memory from(size);
        for (index_t j = 0; j < size; ++j) from.data[static_cast<std::size_t>(j)] = static_cast<float>(r.real(-1, 1));
        const index_t factor_stride = terms + r.between(0, 3), to_stride = count + r.between(0, 3);
        const auto factors = r.floats((rows - 1) * factor_stride + terms);
        constexpr float guard = 77.0F;
        const exact_memory to((rows - 1) * to_stride + count, guard);
        if (r.chance(0.5)) {
            combine(factors.data(), factor_stride, rows, from.data.get(), stride, terms, count, to.data.get(),
                    to_stride);
        } else {
            std::vector<const float*> a;
            std::vector<float*> out;
            for (index_t row = 0; row < rows; ++row) {
                a.push_back(factors.data() + row * factor_stride);
                out.push_back(to.data.get() + row * to_stride);
            }
            combine(a.data(), rows, from.data.get(), stride, terms, count, out.data());
        }
        KDNA_TEST_CASE_INFO(i, concat(rows, " rows of ", count, ", ", terms, " terms"));
        for (index_t row = 0; row < rows; ++row)
            for (index_t j = 0; j < (row + 1 < rows ? to_stride : count); ++j) {
                const float found = to.data[static_cast<std::size_t>(row * to_stride + j)];
                if (j >= count) {
                    if (found != guard) FAIL("wrote past row " << row);
                    continue;
                }
                const bounded e = combined(factors.data() + row * factor_stride, from.data.get(), stride, terms, j);
                if (!(std::abs(static_cast<double>(found) - e.value) <= e.error))
                    FAIL("row " << row << ", " << j << ": " << found << " instead of " << e.value);
            }
    }
}

TEST_CASE("Rows of several streams are combined") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(501, static_cast<std::uint64_t>(i));
        const bool wide = r.chance(0.5);
        const index_t width = (wide ? 2 : 1) * simd::lanes, terms = r.between(1, 9), rows = r.between(1, 12),
                      stride = rows * width + r.between(0, 5), to_stride = width + r.between(0, 5);
        const auto from = r.floats((terms - 1) * stride + rows * width), factors = r.floats(terms);
        const exact_memory to((rows - 1) * to_stride + width);
        if (wide)
            combine_runs<2>(factors.data(), from.data(), stride, terms, rows, to.data.get(), to_stride);
        else
            combine_runs<1>(factors.data(), from.data(), stride, terms, rows, to.data.get(), to_stride);
        for (index_t row = 0; row < rows; ++row)
            for (index_t j = 0; j < width; ++j) {
                const bounded e = combined(factors.data(), from.data() + row * width, stride, terms, j);
                const float found = to.data[static_cast<std::size_t>(row * to_stride + j)];
                if (!(std::abs(static_cast<double>(found) - e.value) <= e.error))
                    FAIL("case " << i << ", row " << row << ", " << j);
            }
    }
}
