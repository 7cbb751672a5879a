// Conversions of the device's numbers, and that the emulator finds what it promises to find.
#include <kdna/cuda/device/memory.hpp>
#include <kdna/cuda/device/span.hpp>
#include <kdna/cuda/programs/product.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/emulator/emulator.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/random.hpp"

using namespace kdna;
using namespace kdna::cuda;
using namespace kdna_test;

TEST_CASE("Every half and bfloat16 survives a way through float") {
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
        const half h{static_cast<std::uint16_t>(bits)};
        const bfloat16 b{static_cast<std::uint16_t>(bits)};
        if (!std::isnan(to_float(h)) && from_float<half>(to_float(h)).bits != bits) FAIL("half " << bits);
        if (!std::isnan(to_float(b)) && from_float<bfloat16>(to_float(b)).bits != bits) FAIL("bfloat16 " << bits);
    }
    CHECK(to_float(half{0x3c00}) == 1.0F);
    CHECK(to_float(half{0xc000}) == -2.0F);
    CHECK(to_float(half{0x7bff}) == 65504.0F);
    CHECK(to_float(half{0x0001}) == 0x1p-24F);
    CHECK(std::isinf(to_float(half{0x7c00})));
    CHECK(to_float(bfloat16{0x3f80}) == 1.0F);
}

TEST_CASE("Floats become the nearest half and bfloat16, ties even, and the nearest TF32") {
    const auto nearest = [](float v, auto convert, double spacing) {
        // In steps of `spacing`, which is exact for numbers of this size; nearbyint rounds ties to even.
        return static_cast<double>(convert(v)) == std::nearbyint(static_cast<double>(v) / spacing) * spacing;
    };
    rng r(910, 0);
    for (int i = 0; i < 20000; ++i) {
        const auto v = static_cast<float>(r.real(1, 2));
        const float tie = 1.0F + static_cast<float>(2 * r.between(0, 500) + 1) * 0x1p-11F;
        for (const float x : {v, tie}) {
            CHECK(nearest(
                x, [](float f) { return to_float(from_float<half>(f)); }, 0x1p-10));
            CHECK(nearest(
                x, [](float f) { return to_float(from_float<bfloat16>(f)); }, 0x1p-7));
        }
        const float small = v * 0x1p-17F;  // halves of this size lie 2^-24 apart
        CHECK(nearest(
            small, [](float f) { return to_float(from_float<half>(f)); }, 0x1p-24));
        const auto tf32 = cuda::detail::bits_as<float>(to_tf32(v));
        CHECK(std::abs(tf32 - v) <= 0x1p-11F);
        CHECK((to_tf32(v) & 0x1fffU) == 0U);
    }
    CHECK(to_tf32(1.0F + 0x1p-11F) == cuda::detail::bits_as<std::uint32_t>(1.0F + 0x1p-10F));
    CHECK(std::isinf(to_float(from_float<half>(65520.0F))));
    CHECK(to_float(from_float<half>(65519.0F)) == 65504.0F);
    const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
    CHECK(std::isnan(to_float(from_float<half>(nan))));
    CHECK(std::isnan(to_float(from_float<bfloat16>(nan))));
    CHECK(std::isnan(cuda::detail::bits_as<float>(to_tf32(nan))));
    CHECK(to_float(from_float<half>(-infinity)) == -infinity);
    CHECK(to_float(from_float<bfloat16>(infinity)) == infinity);
}

namespace {

enum class fault {
    none,
    beyond_memory,
    unaligned,
    unwritten,
    no_barrier,
    no_barrier_after_read,
    two_writers,
    no_wait,
    beyond_shared
};

/// Sums neighbours through shared memory, with a fault.
struct faulty_program {
    struct arguments {
        device_span<const float> x{};
        device_span<float> y{};
        fault what = fault::none;
    };
    struct registers {
        float sum;
    };
    static constexpr const char* name = "faulty_program";
    static constexpr int threads = 64;
    static int shared_bytes(const arguments&) { return 4 * threads + 16 * threads; }

    template <class Block>
    static void run(Block& block, const arguments& a) {
        const auto put = [&](int thread, int at, float v) { block.store(thread, 4 * at, pack<float, 1>{{v}}); };
        const auto get = [&](int thread, int at) { return block.template load<float>(thread, 4 * at).v[0]; };
        block.parallel([&](int thread, registers&) {
            const int shift = a.what == fault::beyond_memory ? 1 : 0;
            if (a.what != fault::unwritten || thread != 5)
                put(thread, thread, a.x.load(block.x * threads + thread + shift));
            if (a.what == fault::unaligned) static_cast<void>(a.x.load<4>(2));
            if (a.what == fault::two_writers && thread == 7) put(thread, 8, 0.0F);
            if (a.what == fault::beyond_shared) put(thread, 5 * threads, 0.0F);
            block.template copy_async<16>(thread, 4 * threads + 16 * thread, a.x.at<4>(0), true);
        });
        block.commit();
        if (a.what != fault::no_wait) block.template wait<0>();
        if (a.what != fault::no_barrier) block.sync();
        block.parallel([&](int thread, registers& r) {
            r.sum = get(thread, thread) + get(thread, (thread + 1) % threads) +
                    get(thread, threads + 4 * ((thread + 3) % threads));
        });
        if (a.what != fault::no_barrier_after_read) block.sync();
        block.parallel([&](int thread, registers& r) {
            put(thread, thread, r.sum);
            a.y.store(block.x * threads + thread, r.sum);
        });
    }
};

void run_faulty(fault what) {
    emulator device;
    const std::vector<float> x(128, 1.0F);
    const auto from = device.allocate(128 * 4), to = device.allocate(128 * 4);
    device.upload(from, x.data(), 128 * 4, 0);
    try {
        device.launch<faulty_program>({2, 1, 1},
                                      {{static_cast<float*>(from), 128}, {static_cast<float*>(to), 128}, what}, 0);
    } catch (...) {
        device.release(from);
        device.release(to);
        throw;
    }
    for (int i = 0; i < 128; ++i) CHECK(static_cast<float*>(to)[i] == 3.0F);
    device.release(from);
    device.release(to);
}

}  // namespace

TEST_CASE("The emulator runs a program without faults and finds each of those it promises to find") {
    run_faulty(fault::none);
    const auto finds = [](fault what, const char* where, const char* expected) {
        check_error([&] { run_faulty(what); }, where, expected, "");
    };
    finds(fault::beyond_memory, "device memory", "[0, 128)");
    finds(fault::unaligned, "device memory", "aligned to 4");
    finds(fault::unwritten, "shared memory", "was written");
    finds(fault::no_barrier, "shared memory", "barrier before a read");
    finds(fault::no_barrier_after_read, "shared memory", "barrier before a write");
    finds(fault::two_writers, "shared memory", "two threads");
    finds(fault::no_wait, "shared memory", "waited for");
    finds(fault::beyond_shared, "shared memory", "[0, 1280)");
}

namespace {

/// One warp fills eight rows each of four matrices, and loads them.
struct matrices_program {
    struct arguments {
        device_span<float> y{};  ///< [lane][4]
        fault what = fault::none;
    };
    struct registers {
        std::uint32_t words[2][4];
    };
    static constexpr const char* name = "matrices_program";
    static constexpr int threads = 32, row = 48;  // bytes from row to row
    static int shared_bytes(const arguments&) { return threads * row; }

    template <class Block>
    static void run(Block& block, const arguments& a) {
        // Row l has the numbers 4l, ..., 4l + 3.
        block.parallel([&](int thread, registers&) {
            if (a.what == fault::unwritten && thread == 3) return;
            pack<float, 4> v;
            for (int e = 0; e < 4; ++e) v.v[e] = static_cast<float>(4 * thread + e);
            block.store(thread, thread * row, v);
        });
        if (a.what != fault::no_barrier) block.sync();
        const auto take = [](registers& r, int i, const std::uint32_t(&words)[4]) {
            std::copy_n(words, 4, r.words[i]);
        };
        // The second time matrix m is the one before.
        block.template load_matrices<2>(
            [&](int thread, int i) {
                return (thread + 24 * i) % 32 * row + (a.what == fault::unaligned && thread == 9 ? 4 : 0);
            },
            take);
        if (a.what != fault::no_barrier_after_read) block.sync();
        block.parallel([&](int thread, registers& r) {
            for (int i = 0; i < 2; ++i)
                for (int m = 0; m < 4; ++m)
                    a.y.store(8 * thread + 4 * i + m, cuda::detail::bits_as<float>(r.words[i][m]));
            // Its own row, but others' words too.
            block.store(thread, thread * row, pack<float, 4>{});
        });
    }
};

std::vector<float> run_matrices(fault what) {
    emulator device;
    const device_memory<emulator> y(device, 32 * 8 * 4);
    device.launch<matrices_program>({1, 1, 1}, {y.span<float>(0, 32 * 8), what}, 0);
    std::vector<float> out(32 * 8);
    device.download(out.data(), y.data(), y.bytes(), 0);
    return out;
}

}  // namespace

TEST_CASE("Matrices are loaded as the PTX manual says of ldmatrix, and the emulator finds faults in that as well") {
    const std::vector<float> found = run_matrices(fault::none);
    // "Each thread in a warp receives fragments of a row": thread l element l % 4 of row l / 4 of matrix i in its
    // register i, where the row begins at the address that thread 8i + l / 4 gave.
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) {
            const int row = 8 * i + lane / 4;
            CHECK(found[static_cast<std::size_t>(8 * lane + i)] == static_cast<float>(4 * row + lane % 4));
            CHECK(found[static_cast<std::size_t>(8 * lane + 4 + i)] ==
                  static_cast<float>(4 * ((row + 24) % 32) + lane % 4));
        }
    const auto finds = [](fault what, const char* expected) {
        check_error([&] { return run_matrices(what); }, "matrices_program", expected, "");
    };
    finds(fault::unaligned, "aligned to 16");
    finds(fault::unwritten, "was written");
    finds(fault::no_barrier, "barrier before a read");
    finds(fault::no_barrier_after_read, "barrier before a write");
}

TEST_CASE("The emulated tensor cores multiply fragments laid out as the PTX manual says") {
    // The product of two small matrices, with operands placed by the manual's formulas for rows and columns, element by
    // element.
    struct registers {
        float sums[1][2][4];
        std::uint32_t a[1][4], b[1][4];
    };
    rng r(911, 0);
    float a[16][16], b[16][16];
    for (auto& row : a)
        for (float& v : row) v = static_cast<float>(r.between(-8, 8));
    for (auto& row : b)
        for (float& v : row) v = static_cast<float>(r.between(-8, 8));
    const auto check = [&](auto instruction, int depth, auto place) {
        registers warp[32] = {};
        for (int lane = 0; lane < 32; ++lane) place(lane, warp[lane]);
        emulated_tensor_cores<decltype(instruction)>::multiply([&](int lane) -> registers& { return warp[lane]; });
        for (int lane = 0; lane < 32; ++lane)
            for (int j = 0; j < 2; ++j)
                for (int i = 0; i < 4; ++i) {
                    const int row = lane / 4 + (i < 2 ? 0 : 8), column = 8 * j + lane % 4 * 2 + (i & 1);
                    float sum = 0.0F;
                    for (int k = 0; k < depth; ++k) sum += a[row][k] * b[k][column];
                    CHECK(warp[lane].sums[0][j][i] == sum);
                }
    };
    // m16n8k16: a_i has row g, or g + 8 where 2 <= i < 4 or 6 <= i; column 2t + (i & 1), plus 8 where i >= 4. b_i has
    // row 2t + (i & 1), plus 8 where i >= 2; column g.
    check(cuda::detail::mma<precision::f16>{}, 16, [&](int lane, registers& to) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 8; ++i) {
            const int row = g + ((i >= 2 && i < 4) || i >= 6 ? 8 : 0), column = 2 * t + (i & 1) + (i >= 4 ? 8 : 0);
            to.a[0][i / 2] |= static_cast<std::uint32_t>(from_float<half>(a[row][column]).bits) << (16 * (i & 1));
        }
        for (int j = 0; j < 2; ++j)
            for (int i = 0; i < 4; ++i)
                to.b[0][2 * j + i / 2] |=
                    static_cast<std::uint32_t>(from_float<half>(b[2 * t + (i & 1) + (i >= 2 ? 8 : 0)][8 * j + g]).bits)
                    << (16 * (i & 1));
    });
    // m16n8k8 of TF32: a0 (g, t), a1 (g + 8, t), a2 (g, t + 4), a3 (g + 8, t + 4); b0 (t, g), b1 (t + 4, g).
    check(cuda::detail::mma<precision::tf32>{}, 8, [&](int lane, registers& to) {
        const int g = lane / 4, t = lane % 4;
        to.a[0][0] = to_tf32(a[g][t]);
        to.a[0][1] = to_tf32(a[g + 8][t]);
        to.a[0][2] = to_tf32(a[g][t + 4]);
        to.a[0][3] = to_tf32(a[g + 8][t + 4]);
        for (int j = 0; j < 2; ++j) {
            to.b[0][2 * j] = to_tf32(b[t][8 * j + g]);
            to.b[0][2 * j + 1] = to_tf32(b[t + 4][8 * j + g]);
        }
    });
}
