// Buffers, workspace layouts and executors.
#include <kdna/core/memory.hpp>

#include <cstdint>
#include <set>
#include <string>

#include <kdna/core/executor.hpp>

#include "support/counting_resource.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

using namespace kdna;
using kdna_test::check_error;

namespace {

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % alignment == 0; }

/// Gives memory that is as little aligned as asked for, and full of ones.
struct dirty_resource final : std::pmr::memory_resource {
    void* do_allocate(std::size_t bytes, std::size_t align) override {
        auto* p =
            static_cast<unsigned char*>(std::pmr::new_delete_resource()->allocate(bytes + align, 2 * align)) + align;
        std::fill(p, p + bytes, std::uint8_t{255});
        return p;
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t align) override {
        std::pmr::new_delete_resource()->deallocate(static_cast<unsigned char*>(p) - align, bytes + align, 2 * align);
    }
    [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

}  // namespace

TEST_CASE("A buffer is zeroed and 64-byte aligned whatever the resource gives") {
    dirty_resource dirty;
    for (const index_t count : {1, 3, 17, 1000}) {
        const buffer<float> floats(count, &dirty);
        CHECK(aligned(floats.data()));
        CHECK(floats.size() == count);
        CHECK(floats.bytes() == 4 * count);
        for (const float v : floats.span())
            if (v != 0.0F) FAIL("not zero");
    }
}

TEST_CASE("A buffer gives back what it took, once, wherever it was moved") {
    kdna_test::counting_resource counted;
    {
        buffer<float> a(100, &counted);
        buffer<float> b(std::move(a));
        CHECK(a.data() == nullptr);
        CHECK(a.size() == 0);
        buffer<float> c(7, &counted);
        c = std::move(b);
        CHECK(c.size() == 100);
        buffer<float>& same = c;
        c = std::move(same);
        CHECK(c.size() == 100);
        CHECK(counted.live_bytes == 400);
    }
    CHECK(counted.live_bytes == 0);
    CHECK(counted.allocations == 2);
    const buffer<float> none(0, &counted);
    CHECK(none.data() == nullptr);
    CHECK(counted.allocations == 2);
}

TEST_CASE("A buffer of an impossible size throws") {
    // Volatile: g++ warns of what it would mean to go on with them.
    const volatile index_t negative = -1, huge = index_t{1} << 61;
    check_error([&] { buffer<float> b(negative); }, "buffer", ">= 0", "-1");
    check_error([&] { buffer<double> b(huge); }, "buffer", "fits in 64 bits", " * 8");
}

TEST_CASE("Regions of a workspace are aligned and do not overlap") {
    workspace_layout w;
    const index_t a = w.add<float>(3), b = w.add<double>(0), c = w.add<char>(65), d = w.add<float>(16);
    CHECK(a == 0);
    CHECK(b == 64);
    CHECK(c == 64);
    CHECK(d == 192);
    CHECK(w.bytes() == 256);
    check_error([&] { w.add<float>(index_t{1} << 62); }, "workspace", "fits in 64 bits", "");
    check_error([&] { w.add<float>(-1); }, "workspace", ">= 0", "-1");
    check_error([&] { w.add<char>((index_t{1} << 62) - 1 + (index_t{1} << 62)); }, "workspace", "fits in 64 bits", "");
}

TEST_CASE("Any executor by reference calls every task once", "[threads]") {
    const auto all = [](const executor_ref& e, index_t n) {
        std::vector<std::atomic<int>> calls(static_cast<std::size_t>(n));
        const auto count = [&](index_t i) { ++calls[static_cast<std::size_t>(i)]; };
        e.parallel_for(n, count);
        for (const auto& c : calls)
            if (c != 1) return false;
        return true;
    };
    kdna_test::shuffling_executor three(3);
    serial_executor serial;
    for (const index_t n : {1, 2, 50}) {
        CHECK(all({}, n));
        CHECK(all(serial, n));
        CHECK(all(three, n));
    }
    CHECK(executor_ref().concurrency() == 1);
    CHECK(executor_ref(serial).concurrency() == 1);
    CHECK(executor_ref(three).concurrency() == 3);
    CHECK(three.calls == 2);  // a single task stays on the calling thread
}

TEST_CASE("An error says where, what was expected and what was found") {
    const error e("conv1.weight", "float32 (64, 3, 7, 7)", "float32 (64, 3, 3, 3)");
    CHECK(e.where() == "conv1.weight");
    CHECK(e.expected() == "float32 (64, 3, 7, 7)");
    CHECK(e.found() == "float32 (64, 3, 3, 3)");
    CHECK(std::string(e.what()) == "conv1.weight: expected float32 (64, 3, 7, 7), found float32 (64, 3, 3, 3)");
    CHECK(concat("a", 'b', std::string("c"), 1, index_t{-2}, std::size_t{3}) == "abc1-23");
}
