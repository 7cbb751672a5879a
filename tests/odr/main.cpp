// Runs the layer of every instruction set that this processor has, the oldest first, and compares the results. Exceptions are
// thrown inside those functions and caught here.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include <kdna/core/error.hpp>

namespace odr {
std::vector<float> run_x86_64();
std::vector<float> run_x86_64_v3();
std::vector<float> run_x86_64_v4();
void fail_x86_64();
void fail_x86_64_v3();
void fail_x86_64_v4();
}  // namespace odr

namespace {

// The second call throws, since each instruction set counts its own.
template <class Error = std::exception>
bool throws(const char* name, void (*fail)()) {
    fail();
    try {
        fail();
    } catch (const Error& e) {
        std::printf("%s: caught \"%s\"\n", name, e.what());
        return std::strstr(e.what(), "found 7") != nullptr;
    }
    std::printf("%s: nothing was thrown\n", name);
    return false;
}

}  // namespace

int main() {
    const std::vector<float> baseline = odr::run_x86_64();
    float largest = 0.0F;
    for (const float value : baseline) largest = std::max(largest, std::abs(value));
    std::printf("baseline: %zu values, largest %g\n", baseline.size(), static_cast<double>(largest));
    bool passed = largest > 0.0F;
    // This file is compiled for the baseline, so kdna::error is the same class in both.
    passed = throws<kdna::error>("baseline", odr::fail_x86_64) && passed;

    const auto compare = [&](const char* name, const std::vector<float>& found) {
        float error = found.size() == baseline.size() ? 0.0F : INFINITY;
        for (std::size_t i = 0; i < baseline.size() && i < found.size(); ++i)
            error = std::max(error, std::abs(found[i] - baseline[i]));
        std::printf("%s: largest difference %g\n", name, static_cast<double>(error));
        // 144 products a value, summed in another order.
        passed = passed && error <= 144 * 1.2e-7F * largest;
    };
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
        compare("x86-64-v3", odr::run_x86_64_v3());
        passed = throws("x86-64-v3", odr::fail_x86_64_v3) && passed;
    } else {
        std::puts("x86-64-v3: not run, this processor has no AVX2");
    }
#ifdef ODR_HAS_V4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        compare("x86-64-v4", odr::run_x86_64_v4());
        passed = throws("x86-64-v4", odr::fail_x86_64_v4) && passed;
    } else {
        std::puts("x86-64-v4: not run, this processor has no AVX-512");
    }
#endif
    return passed ? 0 : 1;
}
