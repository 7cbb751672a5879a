// A device that is not there: runs programs on the host, block by block, and finds what is wrong with them.
//
// A program is written for a whole block of threads (kdna/cuda/device/program.hpp). On a GPU every thread runs the
// program. Here the program runs once, and each of its parallel parts runs once for every thread, in an order that is
// shuffled from part to part. So the arithmetic of indices, the predicates, the layout of shared memory, the stages of
// asynchronous copies and the epilogue are the code that a GPU runs. The emulator throws kdna::error where a program
//   - touches device memory outside of what it was given, or not aligned (kdna/cuda/device/span.hpp),
//   - reads shared memory that nobody wrote, or that an asynchronous copy has still to write,
//   - lets two threads touch the same shared memory, one of them writing, without a barrier between them.
// Device memory that was not written reads as NaN. The emulator knows nothing of time, of warps that diverge, or of
// races between blocks. On request it counts what moves through shared and device memory (traffic.hpp).
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#if defined(__CUDACC__)
#error "kdna: the emulator runs programs as host functions; compile the file as C++, not as CUDA"
#endif

#include <kdna/cuda/device/access.hpp>
#include <kdna/cuda/device/device.hpp>
#include <kdna/cuda/device/program.hpp>
#include <kdna/cuda/device/vendor_library.hpp>

#include "block.hpp"
#include "traffic.hpp"

namespace kdna_test {

/// The emulated device. Models device_api (kdna/cuda/device/device.hpp).
class emulator {
public:
    using stream = int;

    /// `multiprocessors` is what plans are told; `seed` decides in which order blocks and threads run.
    explicit emulator(int multiprocessors = 4, std::uint64_t seed = 1)
        : multiprocessors_(multiprocessors), state_(seed) {}

    [[nodiscard]] int multiprocessors() const noexcept { return multiprocessors_; }

    [[nodiscard]] void* allocate(kdna::index_t bytes) {
        ++allocations_;
        // A block of its own, so that AddressSanitizer watches its ends; all ones is NaN in every precision.
        void* p = ::operator new (static_cast<std::size_t>(bytes), std::align_val_t{256});
        std::memset(p, 0xff, static_cast<std::size_t>(bytes));
        return p;
    }
    static void release(void* p) noexcept { ::operator delete (p, std::align_val_t{256}); }
    static void upload(void* to, const void* from, kdna::index_t bytes, stream) {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    static void download(void* to, const void* from, kdna::index_t bytes, stream) {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    static void synchronize(stream) {}

    template <class Program>
    void launch(const kdna::cuda::grid_size& grid, const typename Program::arguments& arguments, stream) {
        kdna::cuda::check_grid<Program>(grid);
        std::vector<typename Program::registers> registers(Program::threads);
        std::vector<std::vector<int>> orders(5, std::vector<int>(Program::threads));
        for (auto& order : orders) {
            std::iota(order.begin(), order.end(), 0);
            shuffle(order);
        }
        const measuring counted(measure_ ? &meter_ : nullptr);
        if (measure_) meter_.begin_program(traffic_[Program::name], Program::threads);
        std::vector<int> blocks(static_cast<std::size_t>(grid.x * grid.y * grid.z));
        std::iota(blocks.begin(), blocks.end(), 0);
        shuffle(blocks);
        for (const int i : blocks) {
            shared_.begin_block(static_cast<std::size_t>(Program::shared_bytes(arguments)));
            emulated_block<typename Program::registers> b(shared_, registers, orders, measure_ ? &meter_ : nullptr);
            b.x = i % grid.x;
            b.y = i / grid.x % grid.y;
            b.z = i / grid.x / grid.y;
            // Registers hold nothing when a block begins; all ones is NaN.
            static_assert(std::is_trivially_copyable_v<typename Program::registers>);
            std::memset(static_cast<void*>(registers.data()), 0xff, registers.size() * sizeof(registers[0]));
            try {
                Program::run(b, arguments);
            } catch (const kdna::error& e) {
                throw kdna::error(kdna::concat(Program::name, " block ", b.x, ", ", b.y, ", ", b.z, ": ", e.where()),
                                  e.expected(), e.found());
            }
        }
        ++launches_;
    }
    /// How many programs were launched, and how often memory was allocated.
    [[nodiscard]] kdna::index_t launches() const noexcept { return launches_; }
    [[nodiscard]] kdna::index_t allocations() const noexcept { return allocations_; }

    /// Forgets what was counted; from now on counts what programs move, or no longer. Counting is off at first.
    /// It multiplies the time that a program takes.
    void measure(bool on) {
        traffic_.clear();
        measure_ = on;
    }
    /// What was counted, by the names of programs; all launches together.
    [[nodiscard]] const std::map<std::string, program_traffic, std::less<>>& traffic() const noexcept {
        return traffic_;
    }

    /// Stands for a vendor's library in tests of how networks use one. Empty: there is none.
    struct library_convolution {
        std::function<void(const kdna::cuda::plain_convolution_call&)> work{};
        kdna::index_t scratch = 0;
        [[nodiscard]] kdna::index_t scratch_bytes() const noexcept { return scratch; }
        [[nodiscard]] static std::string explain() { return "library"; }
        void run(const kdna::cuda::plain_convolution_call& c, stream) const { work(c); }
    };
    std::function<std::shared_ptr<const library_convolution>(const kdna::cuda::plain_convolution&)> library{};
    [[nodiscard]] std::shared_ptr<const library_convolution> plan_plain(const kdna::cuda::plain_convolution& c) const {
        return library ? library(c) : nullptr;
    }

    /// Nothing is gained by recording here; it runs what it was given.
    class recording {
    public:
        void operator()(stream s) const { work_(s); }

    private:
        friend class emulator;
        std::function<void(stream)> work_;
    };
    [[nodiscard]] static recording record(std::function<void(stream)> work) {
        recording r;
        r.work_ = std::move(work);
        return r;
    }

private:
    /// While it lives, the meter is told of the accesses of this thread to device memory.
    struct measuring {
        explicit measuring(traffic_meter* meter) noexcept
            : before(std::exchange(kdna::cuda::device_access_observer, meter)) {}
        measuring(const measuring&) = delete;
        measuring& operator=(const measuring&) = delete;
        ~measuring() { kdna::cuda::device_access_observer = before; }
        kdna::cuda::access_observer* before;
    };

    void shuffle(std::vector<int>& v) {
        for (std::size_t i = v.size(); i > 1; --i) {
            state_ = state_ * 6364136223846793005U + 1442695040888963407U;
            std::swap(v[i - 1], v[(state_ >> 33U) % i]);
        }
    }

    int multiprocessors_;
    std::uint64_t state_;
    kdna::index_t launches_ = 0, allocations_ = 0;
    bool measure_ = false;
    std::map<std::string, program_traffic, std::less<>> traffic_{};
    traffic_meter meter_{};
    emulated_shared_memory shared_;
};
static_assert(kdna::cuda::device_api<emulator>);

}  // namespace kdna_test
