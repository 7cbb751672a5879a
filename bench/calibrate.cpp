// Measures what the cost model has to know of this machine, and writes it as a description that plans can be made for
// (kdna/io/machine_file.hpp):
//
//     kdna_calibrate [FILE.json]            prints the description, and writes it to FILE
//
// Cache sizes are those that the system tells. Measured are multiply-adds a cycle, for the instruction set that this
// program is compiled for, and bytes a cycle from L3 and from memory on one core. It takes some seconds. Each figure is
// the best of many short runs, since a neighbour or a clock that is still rising can only make it look lower.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <iostream>
#include <kdna/core/memory.hpp>
#include <kdna/io/machine_file.hpp>
#include <kdna/simd/simd.hpp>
#include <string>

namespace {

using namespace kdna;

/// Keeps a value, and what it is made of, from being optimised away.
void keep(const simd::vec& v) {
    static volatile float last;
    last = simd::sum(v);
    static_cast<void>(last);
}

template <class F>
[[nodiscard]] double seconds_of(const F& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The shortest of some runs.
template <class F>
[[nodiscard]] double best_of(int runs, const F& f) {
    double best = seconds_of(f);
    for (int i = 1; i < runs; ++i) best = std::min(best, seconds_of(f));
    return best;
}

/// Seconds of a cycle: a chain of additions of registers, each of which takes one.
[[nodiscard]] double cycle_seconds() {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__aarch64__))
    constexpr int rounds = 20'000, chain = 16;
    return best_of(200,
                   [] {
                       long sum = 1, step = 3;
                       for (int i = 0; i < rounds; ++i) {
                           KDNA_UNROLL
                           for (int k = 0; k < chain; ++k) {
#if defined(__x86_64__)
                               asm volatile("add %1, %0" : "+r"(sum) : "r"(step));
#else
                               asm volatile("add %0, %0, %1" : "+r"(sum) : "r"(step));
#endif
                           }
                       }
                   }) /
           (rounds * chain);
#else
    return 0.0;
#endif
}

/// Four vectors by name, which stay in registers where an array of them may not.
struct four_vectors {
    simd::vec a, b, c, d;
    explicit four_vectors(float v) : a(v), b(v + 1.0F), c(v + 2.0F), d(v + 3.0F) {}
    KDNA_INLINE void multiply_add(const simd::vec& by, const simd::vec& more) noexcept {
        a = simd::multiply_add(a, by, more);
        b = simd::multiply_add(b, by, more);
        c = simd::multiply_add(c, by, more);
        d = simd::multiply_add(d, by, more);
    }
    [[nodiscard]] simd::vec sum() const noexcept { return a + b + c + d; }
};

/// Seconds of a vector multiply-add, of many that do not depend on each other.
[[nodiscard]] double multiply_add_seconds() {
    constexpr bool many_registers = simd::registers >= 32;
    constexpr int rounds = 20'000, chains = many_registers ? 16 : 12;
    return best_of(200,
                   [] {
                       four_vectors first(1.0F), second(5.0F), third(9.0F), fourth(13.0F);
                       const simd::vec by(0.999F), more(0.001F);
                       for (int r = 0; r < rounds; ++r) {
                           first.multiply_add(by, more);
                           second.multiply_add(by, more);
                           third.multiply_add(by, more);
                           if constexpr (many_registers) fourth.multiply_add(by, more);
                       }
                       keep(first.sum() + second.sum() + third.sum() + fourth.sum());
                   }) /
           (rounds * chains);
}

/// Seconds of a byte that is read, of `bytes` which are read in order again and again.
[[nodiscard]] double byte_seconds(index_t bytes, int runs) {
    const index_t floats = bytes / static_cast<index_t>(sizeof(float)), step = 4 * simd::lanes;
    const buffer<float> data(floats);
    return best_of(runs,
                   [&] {
                       simd::vec a = simd::zero(), b = a, c = a, d = a;
                       for (index_t i = 0; i + step <= floats; i += step) {
                           const float* const at = data.data() + i;
                           a = a + simd::load(at);
                           b = b + simd::load(at + simd::lanes);
                           c = c + simd::load(at + 2 * simd::lanes);
                           d = d + simd::load(at + 3 * simd::lanes);
                       }
                       keep(a + b + c + d);
                   }) /
           static_cast<double>(bytes);
}

/// Two decimals; a file need not pretend to more.
[[nodiscard]] double rounded(double v) { return std::max(std::round(100.0 * v) / 100.0, 0.01); }

[[nodiscard]] machine calibrate() {
    machine m = machine::host();
    m.name += "_measured";
    const double cycle = cycle_seconds();
    if (cycle == 0.0) throw error("calibrate", "x86-64 or 64-bit ARM, and g++ or clang", "another target");
    // Whether vectors or floats are what limits this width is not known, but of both limits the measured one holds.
    const double vectors = rounded(cycle / multiply_add_seconds());
    m.floats_per_cycle = rounded(vectors * static_cast<double>(simd::lanes));
    m.vectors_per_cycle = std::max(m.vectors_per_cycle, vectors);
    if (m.l3_bytes > 0)
        m.l3_bytes_per_cycle = rounded(cycle / byte_seconds(std::max(2 * m.l2_bytes, m.l3_bytes / 8), 200));
    constexpr index_t least_beyond_caches = index_t{64} << 20;
    m.memory_bytes_per_cycle =
        rounded(cycle / byte_seconds(std::max(4 * std::max(m.l2_bytes, m.l3_bytes), least_beyond_caches), 10));
    m.check();
    return m;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc > 2) throw error("arguments", "one file to write, or none", concat(argc - 1));
        const machine m = calibrate();
        std::printf(
            "%s, vectors of %d floats: %g vectors and %g floats a cycle, %g bytes a cycle from L3, %g from memory\n",
            to_string(m).c_str(), static_cast<int>(simd::lanes), m.vectors_per_cycle, m.floats_per_cycle,
            m.l3_bytes_per_cycle, m.memory_bytes_per_cycle);
        if (argc == 2) save_machine(argv[1], m);
    } catch (const std::exception& e) {
        std::cerr << "kdna_calibrate: " << e.what() << "\n";
        return 2;
    }
    return 0;
}
