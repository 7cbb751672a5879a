// A device that is not there: runs kernels on the host, block by block, and finds what is wrong with them.
//
// Kernels are written for a whole block of threads (block_program below). On a GPU every thread runs the program; here it is run
// once, and each of its parallel parts once per thread, in an order that is shuffled from part to part. So the arithmetic of
// indices, the predicates, the layout of shared memory, the stages of asynchronous copies, and the epilogue are the very code
// that a GPU runs. The emulator throws kdna::error where a kernel
//   - touches device memory outside of what it was given, or not aligned (span.hpp),
//   - reads shared memory that nobody wrote, or that an asynchronous copy has still to write,
//   - lets two threads touch the same shared memory, one of them writing, without a barrier between them.
// Device memory that was not written reads as NaN. It knows nothing of time, of warps that diverge, or of races between blocks; but
// it counts, where asked to, what moves through shared and device memory (traffic.hpp).
#pragma once

#include <algorithm>
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
#error "kdna: <kdna/cuda/emulator.hpp> runs kernels as host functions; compile the file as C++, not as CUDA"
#endif

#include <kdna/core/error.hpp>
#include <kdna/cuda/device/device.hpp>
#include <kdna/cuda/device/numbers.hpp>
#include <kdna/cuda/traffic.hpp>

namespace kdna::inline KDNA_ABI::cuda {

namespace detail {

/// The shared memory of one block at a time, with a record of who touched what since the last barrier.
class emulated_shared_memory {
public:
    /// In the place of a thread: more than one of them, or the lanes of a warp together.
    static constexpr int many = -1;

    void begin_block(std::size_t bytes) {
        if (bytes > bytes_.size()) {
            bytes_.resize(bytes);
            cells_.resize(bytes / cell_bytes + 1);
        }
        size_ = bytes;
        first_epoch_ = ++epoch_;
        copies_.clear();
        open_copies_.clear();
    }
    void sync() { ++epoch_; }

    template <class V>
    V read(int thread, std::size_t at) {
        require(at, sizeof(V));
        for (std::size_t i = at / cell_bytes; i <= (at + sizeof(V) - 1) / cell_bytes; ++i) {
            cell& c = cells_[i];
            if (c.write_epoch < first_epoch_) fail("memory that was written", "none at byte ", at);
            if (c.pending) fail("a copy that has been waited for", "one under way at byte ", at);
            if (c.write_epoch == epoch_ && c.writer != thread) fail("a barrier before a read", "none at byte ", at);
            c.reader = c.read_epoch == epoch_ && c.reader != thread ? many : thread;
            c.read_epoch = epoch_;
        }
        V v;
        std::memcpy(&v, bytes_.data() + at, sizeof(V));
        return v;
    }
    template <class V>
    void write(int thread, std::size_t at, const V& v) {
        note_write(thread, at, sizeof(V), false);
        std::memcpy(bytes_.data() + at, &v, sizeof(V));
    }
    /// `from` null: zeros.
    void copy_async(int thread, std::size_t at, const void* from, std::size_t bytes) {
        note_write(thread, at, bytes, true);
        open_copies_.push_back({thread, at, from, bytes});
    }
    void commit() { copies_.push_back(std::exchange(open_copies_, {})); }
    void wait_all_but(std::size_t groups) {
        while (copies_.size() > groups) {
            for (const copy& c : copies_.front()) {
                note_write(c.thread, c.at, c.bytes, false);
                if (c.from == nullptr)
                    std::memset(bytes_.data() + c.at, 0, c.bytes);
                else
                    std::memcpy(bytes_.data() + c.at, c.from, c.bytes);
            }
            copies_.erase(copies_.begin());
        }
    }

private:
    static constexpr std::size_t cell_bytes = 2;  // half a word: the smallest element
    struct cell {
        std::uint64_t write_epoch = 0, read_epoch = 0;
        int writer = 0, reader = 0;
        bool pending = false;
    };
    struct copy {
        int thread;
        std::size_t at;
        const void* from;
        std::size_t bytes;
    };

    void require(std::size_t at, std::size_t bytes) const {
        if (at > size_ || bytes > size_ - at) fail(concat("bytes inside [0, ", size_, ")"), "byte ", at);
        if (at % bytes != 0) fail(concat("an access aligned to ", bytes, " bytes"), "byte ", at);
    }
    void note_write(int thread, std::size_t at, std::size_t bytes, bool pending) {
        require(at, bytes);
        for (std::size_t i = at / cell_bytes; i <= (at + bytes - 1) / cell_bytes; ++i) {
            cell& c = cells_[i];
            if (c.write_epoch == epoch_ && c.writer != thread)
                fail("a barrier between writes of two threads", "none at byte ", at);
            if (c.read_epoch == epoch_ && c.reader != thread) fail("a barrier before a write", "none at byte ", at);
            c.write_epoch = epoch_;
            c.writer = thread;
            c.pending = pending;
        }
    }
    [[noreturn]] static void fail(std::string expected, const char* found, std::size_t at) {
        throw error("shared memory", std::move(expected), concat(found, at));
    }

    std::vector<unsigned char> bytes_;
    std::vector<cell> cells_;
    std::vector<std::vector<copy>> copies_;
    std::vector<copy> open_copies_;
    std::size_t size_ = 0;
    std::uint64_t epoch_ = 0, first_epoch_ = 0;
};

}  // namespace detail

/// What a block program works with: see the members, which gpu_block (gpu.hpp) has as well.
template <class Registers>
class emulated_block {
public:
    /// `meter` null: nothing is counted.
    emulated_block(detail::emulated_shared_memory& shared, std::vector<Registers>& registers,
                   std::vector<std::vector<int>>& orders, detail::traffic_meter* meter)
        : shared_(&shared), registers_(&registers), orders_(&orders), meter_(meter) {}

    int x = 0, y = 0, z = 0;  ///< which block of the grid it is

    /// f(thread, its registers) for every thread. There is no barrier before or after it.
    template <class F>
    void parallel(F&& f) {
        const std::vector<int>& order = (*orders_)[next_order_++ % orders_->size()];
        for (const int t : order) {
            if (meter_ != nullptr) meter_->begin_thread(t);
            f(t, (*registers_)[static_cast<std::size_t>(t)]);
        }
        if (meter_ != nullptr) meter_->end_part();
    }
    /// The same for warps, whose lanes have to act together: Multiply::step takes the lanes' operands and sums.
    template <class Multiply, class Operands>
    void multiply(Operands&& operands) {
        const auto threads = static_cast<int>(registers_->size());
        for (int first = 0; first < threads; first += 32)
            Multiply::emulate([&](int lane) -> auto& {
                return operands((*registers_)[static_cast<std::size_t>(first + lane)]);
            });
    }
    /// Loads Count times four matrices of eight 16-byte rows, as a warp together, from shared memory: row r of matrix m begins at byte
    /// at(thread, i) of lane 8m + r. take(registers, i, words) gets a lane's words of them: word l % 4 of row l / 4 of each.
    template <int Count, class At, class Take>
    void load_matrices(At&& at, Take&& take) {
        const auto threads = static_cast<int>(registers_->size());
        for (int first = 0; first < threads; first += 32)
            for (int i = 0; i < Count; ++i) {
                pack<std::uint32_t, 4> rows[32];
                kinds::warp all;
                for (int lane = 0; lane < 32; ++lane) {
                    const int from = at(first + lane, i);
                    rows[lane] =
                        shared_->template read<pack<std::uint32_t, 4>>(shared_->many, static_cast<std::size_t>(from));
                    if (meter_ != nullptr) all.set(static_cast<std::size_t>(lane), static_cast<std::uintptr_t>(from));
                }
                if (meter_ != nullptr) meter_->add(kinds::shared_load, all, 16);
                for (int lane = 0; lane < 32; ++lane) {
                    const auto word = [&](int m) { return rows[8 * m + lane / 4].v[lane % 4]; };
                    take((*registers_)[static_cast<std::size_t>(first + lane)], i,
                         {word(0), word(1), word(2), word(3)});
                }
            }
    }
    /// A barrier for all threads of the block.
    void sync() { shared_->sync(); }

    /// N elements of shared memory at a byte offset, a multiple of their size.
    template <class T, int N = 1>
    pack<T, N> load(int thread, int at) {
        note(kinds::shared_load, at, sizeof(pack<T, N>));
        return shared_->template read<pack<T, N>>(thread, static_cast<std::size_t>(at));
    }
    template <class T, int N>
    void store(int thread, int at, const pack<T, N>& v) {
        note(kinds::shared_store, at, sizeof(v));
        shared_->write(thread, static_cast<std::size_t>(at), v);
    }
    /// Starts a copy of 4, 8 or 16 bytes of device memory, or of zeros, to shared memory; commit() closes a group of copies, and
    /// wait<N>() returns when all but the last N groups of the calling thread have arrived.
    template <int Bytes>
    void copy_async(int thread, int at, const void* from, bool valid) {
        static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "kdna: asynchronous copies are of 4, 8 or 16 bytes");
        if (reinterpret_cast<std::uintptr_t>(from) % Bytes != 0)
            throw error("device memory", concat("a copy aligned to ", Bytes, " bytes"), "another address");
        note(kinds::shared_copy, at, Bytes);
        if (valid && meter_ != nullptr) meter_->note(kinds::device_copy, reinterpret_cast<std::uintptr_t>(from), Bytes);
        shared_->copy_async(thread, static_cast<std::size_t>(at), valid ? from : nullptr, Bytes);
    }
    void commit() { shared_->commit(); }
    template <int N>
    void wait() {
        shared_->wait_all_but(N);
    }

private:
    using kinds = detail::traffic_meter;
    void note(kinds::kind kind, int at, std::size_t bytes) {
        if (meter_ != nullptr) meter_->note(kind, static_cast<std::uintptr_t>(at), bytes);
    }

    detail::emulated_shared_memory* shared_;
    std::vector<Registers>* registers_;
    std::vector<std::vector<int>>* orders_;
    detail::traffic_meter* meter_;
    std::size_t next_order_ = 0;
};

/// The emulated device, for tests and for looking at kernels without a GPU. Models device_api (device.hpp).
class emulator {
public:
    using stream = int;

    /// `multiprocessors` is what plans are told; `seed` decides in which order blocks and threads run.
    explicit emulator(int multiprocessors = 4, std::uint64_t seed = 1)
        : multiprocessors_(multiprocessors), state_(seed) {}

    [[nodiscard]] int multiprocessors() const noexcept { return multiprocessors_; }

    [[nodiscard]] void* allocate(index_t bytes) {
        ++allocations_;
        // A block of its own, so that AddressSanitizer watches its ends; all ones is NaN in every precision.
        void* p = ::operator new (static_cast<std::size_t>(bytes), std::align_val_t{256});
        std::memset(p, 0xff, static_cast<std::size_t>(bytes));
        return p;
    }
    static void release(void* p) noexcept { ::operator delete (p, std::align_val_t{256}); }
    static void upload(void* to, const void* from, index_t bytes, stream) {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    static void download(void* to, const void* from, index_t bytes, stream) {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    static void synchronize(stream) {}

    template <class Kernel>
    void launch(const grid_size& grid, const typename Kernel::arguments& arguments, stream) {
        check_grid<Kernel>(grid);
        std::vector<typename Kernel::registers> registers(Kernel::threads);
        std::vector<std::vector<int>> orders(5, std::vector<int>(Kernel::threads));
        for (auto& order : orders) {
            std::iota(order.begin(), order.end(), 0);
            shuffle(order);
        }
        const measuring counted(measure_ ? &meter_ : nullptr);
        if (measure_) meter_.begin_kernel(traffic_[Kernel::name], Kernel::threads);
        std::vector<int> blocks(static_cast<std::size_t>(grid.x * grid.y * grid.z));
        std::iota(blocks.begin(), blocks.end(), 0);
        shuffle(blocks);
        for (const int i : blocks) {
            shared_.begin_block(static_cast<std::size_t>(Kernel::shared_bytes(arguments)));
            emulated_block<typename Kernel::registers> b(shared_, registers, orders, measure_ ? &meter_ : nullptr);
            b.x = i % grid.x;
            b.y = i / grid.x % grid.y;
            b.z = i / grid.x / grid.y;
            // Registers hold nothing when a block begins; all ones is NaN.
            static_assert(std::is_trivially_copyable_v<typename Kernel::registers>);
            std::memset(static_cast<void*>(registers.data()), 0xff, registers.size() * sizeof(registers[0]));
            try {
                Kernel::run(b, arguments);
            } catch (const error& e) {
                throw error(concat(Kernel::name, " block ", b.x, ", ", b.y, ", ", b.z, ": ", e.where()), e.expected(),
                            e.found());
            }
        }
        ++launches_;
    }
    /// How many kernels were launched, and how often memory was allocated.
    [[nodiscard]] index_t launches() const noexcept { return launches_; }
    [[nodiscard]] index_t allocations() const noexcept { return allocations_; }

    /// Forgets what was counted; from now on counts what kernels move, or no longer. Off, as it is to begin with, it costs nothing
    /// worth mentioning; on, several times what the kernels take.
    void measure(bool on) {
        traffic_.clear();
        measure_ = on;
    }
    /// What was counted, by the names of kernels; all launches together.
    [[nodiscard]] const std::map<std::string, kernel_traffic, std::less<>>& traffic() const noexcept {
        return traffic_;
    }

    /// A vendor's library, played by whoever tests how networks use one. Empty: there is none.
    struct library_convolution {
        std::function<void(const plain_convolution_call&)> work{};
        index_t scratch = 0;
        [[nodiscard]] index_t scratch_bytes() const noexcept { return scratch; }
        [[nodiscard]] static std::string explain() { return "library"; }
        void run(const plain_convolution_call& c, stream) const { work(c); }
    };
    std::function<std::shared_ptr<const library_convolution>(const plain_convolution&)> library{};
    [[nodiscard]] std::shared_ptr<const library_convolution> plan_plain(const plain_convolution& c) const {
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
    /// Has device memory's accesses of this thread told to the meter, for as long as it lives.
    struct measuring {
        explicit measuring(detail::traffic_meter* meter) noexcept
            : before(std::exchange(detail::device_meter, meter)) {}
        measuring(const measuring&) = delete;
        measuring& operator=(const measuring&) = delete;
        ~measuring() { detail::device_meter = before; }
        detail::traffic_meter* before;
    };

    void shuffle(std::vector<int>& v) {
        for (std::size_t i = v.size(); i > 1; --i) {
            state_ = state_ * 6364136223846793005U + 1442695040888963407U;
            std::swap(v[i - 1], v[(state_ >> 33U) % i]);
        }
    }

    int multiprocessors_;
    std::uint64_t state_;
    index_t launches_ = 0, allocations_ = 0;
    bool measure_ = false;
    std::map<std::string, kernel_traffic, std::less<>> traffic_{};
    detail::traffic_meter meter_{};
    detail::emulated_shared_memory shared_;
};
static_assert(device_api<emulator>);

}  // namespace kdna::inline KDNA_ABI::cuda
