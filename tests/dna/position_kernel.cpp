// Kernels per position: the attention's weights by their formula, and what is rejected.
#include <kdna/dna/position_kernel.hpp>
#include <kdna/simd/lanes.hpp>

#include "support/errors.hpp"
#include "support/oracle.hpp"

using namespace kdna;
using namespace kdna_test;

TEST_CASE("Attention weights are inner products over all channels") {
    for (int i = 0; i < scaled(300); ++i) {
        rng r(630, static_cast<std::uint64_t>(i));
        const index_t channels = r.between(1, 3 * simd::lanes + 2), kh = 2 * r.between(0, 3) + 1,
                      kw = 2 * r.between(0, 3) + 1;
        const auto q = static_cast<float>(r.real(-2, 2)), k = static_cast<float>(r.real(-2, 2)),
                   v = static_cast<float>(r.real(0.5, 2));
        const dot_product_attention attention(channels, {kh, kw}, q, k, v);
        // Each run of channels ends with its memory, for AddressSanitizer.
        const auto taps = static_cast<std::size_t>(kh * kw);
        std::vector<std::vector<float>> runs;
        std::vector<const float*> around;
        for (std::size_t t = 0; t < taps; ++t) runs.push_back(r.floats(channels));
        for (const auto& run : runs) around.push_back(run.data());
        const auto& centre = runs[taps / 2];
        std::vector<float> weights(taps + 1, -7.0F);
        attention({centre.data(), around.data(), 0, 0, 0}, weights.data());
        for (std::size_t t = 0; t < taps; ++t) {
            double sum = 0.0, size = 0.0;
            for (std::size_t c = 0; c < centre.size(); ++c) {
                sum += static_cast<double>(centre[c]) * static_cast<double>(runs[t][c]);
                size += std::abs(static_cast<double>(centre[c]) * static_cast<double>(runs[t][c]));
            }
            const double factor = static_cast<double>(q) * static_cast<double>(k) * static_cast<double>(v);
            const double bound = unit_roundoff * std::abs(factor) * size * static_cast<double>(channels + 4) + 1e-37;
            INFO("case " << i << ", tap " << t);
            REQUIRE(std::abs(static_cast<double>(weights[t]) - factor * sum) <= bound);
        }
        CHECK(weights[taps] == -7.0F);
    }
}

TEST_CASE("An attention rejects windows without a centre, by name") {
    const auto make = [](index_t channels, const extent2& window) {
        return [=] { return dot_product_attention(channels, window, 1, 1, 1, "att"); };
    };
    check_error(make(0, 3), "att", "at least one channel", "0");
    check_error(make(4, 2), "att", "an odd window", "2x2");
    check_error(make(4, {3, 4}), "att", "an odd window", "3x4");
    check_error(make(4, 0), "att", "an odd window", "0x0");
    check_error(make(4, {-1, 3}), "att", "an odd window", "-1x3");
    CHECK_NOTHROW(make(1, {1, 7})());
}
