#ifdef _OPENMP
#include <atomic>
#include <vector>

#include <kdna/interop/openmp.hpp>
#include <kdna/nn/conv2d.hpp>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

using namespace kdna;
using kdna_test::rng;

TEST_CASE("openmp_executor: every index once, whatever the counts", "[interop]") {
    for (const int threads : {1, 2, 3, 8}) {
        const openmp_executor executor(threads);
        CHECK(executor.concurrency() == threads);
        for (const index_t n : {0, 1, 2, 3, 7, 8, 9, 1000}) {
            std::vector<std::atomic<int>> count(static_cast<std::size_t>(n));
            executor.parallel_for(n, [&](index_t i) { ++count[static_cast<std::size_t>(i)]; });
            CHECK(std::vector<int>(count.begin(), count.end()) == std::vector<int>(static_cast<std::size_t>(n), 1));
        }
    }
    CHECK(openmp_executor().concurrency() >= 1);
    kdna_test::check_error([] { openmp_executor(0); }, "openmp_executor", "at least one thread", "0");
}

TEST_CASE("openmp_executor: a layer has the same bits on any number of threads", "[interop]") {
    rng r(910, 0);
    const kernel_shape k{.o = 40, .i = 24, .kh = 3, .kw = 3};
    const conv2d layer(dense_kernel::pack(k, r.floats(weight_count(k))), {.pad = 1});
    const auto values = r.floats(24 * 30 * 30);
    const auto x = nchw_view<const float>(values.data(), 1, 24, 30, 30);
    const tensor<float> expected = layer(x);
    for (const int threads : {2, 3, 5}) {
        openmp_executor executor(threads);
        const tensor<float> found = layer(x, {}, {.executor = executor});
        CHECK(std::equal(found.span().begin(), found.span().end(), expected.span().begin()));
    }
}
#endif
