// Runs the layer of every instruction set that this processor has, the oldest first, and compares the results.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

std::vector<float> run_x86_64();
std::vector<float> run_x86_64_v3();
#ifdef ODR_HAS_V4
std::vector<float> run_x86_64_v4();
#endif

int main() {
    const std::vector<float> baseline = run_x86_64();
    float largest = 0.0F;
    for (const float value : baseline) largest = std::max(largest, std::abs(value));
    std::printf("baseline: %zu values, largest %g\n", baseline.size(), static_cast<double>(largest));
    bool passed = largest > 0.0F;

    const auto compare = [&](const char* name, const std::vector<float>& found) {
        float error = found.size() == baseline.size() ? 0.0F : INFINITY;
        for (std::size_t i = 0; i < baseline.size() && i < found.size(); ++i)
            error = std::max(error, std::abs(found[i] - baseline[i]));
        std::printf("%s: largest difference %g\n", name, static_cast<double>(error));
        // 144 products a value, summed in another order.
        passed = passed && error <= 144 * 1.2e-7F * largest;
    };
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        compare("x86-64-v3", run_x86_64_v3());
    else
        std::puts("x86-64-v3: not run, this processor has no AVX2");
#ifdef ODR_HAS_V4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        compare("x86-64-v4", run_x86_64_v4());
    else
        std::puts("x86-64-v4: not run, this processor has no AVX-512");
#endif
    return passed ? 0 : 1;
}
