// Deterministic random numbers for tests: the same on every platform, from a seed that failures print.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <vector>

#include <kdna/core/config.hpp>

#include "support/catch.hpp"

/// How many random cases run, as a factor: a compile definition, or the environment variable of the same name.
#ifndef KDNA_TEST_SCALE
#ifdef __OPTIMIZE__
#define KDNA_TEST_SCALE 1.0
#else
#define KDNA_TEST_SCALE 0.15
#endif
#endif

namespace kdna_test {

using kdna::index_t;

/// Where all random cases start; the environment variable KDNA_TEST_SEED overrides it.
inline std::uint64_t base_seed() {
    static const std::uint64_t seed = [] {
        const char* text = std::getenv("KDNA_TEST_SEED");
        return text != nullptr ? std::strtoull(text, nullptr, 10) : std::uint64_t{20250330};
    }();
    return seed;
}

/// `count` times the scale, at least one.
inline int scaled(int count) {
    static const double scale = [] {
        const char* text = std::getenv("KDNA_TEST_SCALE");
        return text != nullptr ? std::strtod(text, nullptr) : static_cast<double>(KDNA_TEST_SCALE);
    }();
    const double n = count * scale;
    return n < 1.0 ? 1 : static_cast<int>(n);
}

/// Whether fewer than all random cases run, as under sanitizers and without optimisation.
inline bool runs_few() { return scaled(10) < 10; }

/// SplitMix64.
class rng {
public:
    explicit rng(std::uint64_t seed) : state_(seed) {}
    /// The generator of case `number` of the stream `stream`, which depends on the base seed.
    rng(std::uint64_t stream, std::uint64_t number) : state_(base_seed() * 0x9e3779b97f4a7c15U + stream) {
        state_ = bits() + number * 0xd1342543de82ef95U;
    }

    std::uint64_t bits() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
        z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31U);
    }
    /// An integer in [first, last].
    index_t between(index_t first, index_t last) {
        return first + static_cast<index_t>(bits() % static_cast<std::uint64_t>(last - first + 1));
    }
    double real(double low, double high) { return low + (high - low) * static_cast<double>(bits() >> 11U) * 0x1p-53; }
    bool chance(double probability) { return real(0.0, 1.0) < probability; }
    template <class T>
    T pick(std::initializer_list<T> choices) {
        return choices.begin()[between(0, static_cast<index_t>(choices.size()) - 1)];
    }
    /// `count` floats, uniform in [low, high].
    std::vector<float> floats(index_t count, double low = -1.0, double high = 1.0) {
        std::vector<float> out(static_cast<std::size_t>(count));
        for (float& v : out) v = static_cast<float>(real(low, high));
        return out;
    }

private:
    std::uint64_t state_;
};

}  // namespace kdna_test

/// Prints with any failure in this scope what reproduces it.
#define KDNA_TEST_CASE_INFO(number, description) \
    INFO("KDNA_TEST_SEED=" << kdna_test::base_seed() << ", case " << (number) << ": " << (description))
