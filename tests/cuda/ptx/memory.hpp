// The memory that interpreted programs touch, and what is wrong with how they do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <kdna/core/error.hpp>

namespace kdna_test::ptx {

/// What a program did wrong; the place is added where it is known (interpreter.cpp).
struct fault {
    std::string expected, found;
};

/// Device memory: blocks of the host's, which live until they are released.
class device_heap {
public:
    device_heap() = default;
    device_heap(const device_heap&) = delete;
    device_heap& operator=(const device_heap&) = delete;
    ~device_heap() {
        for (const auto& [begin, bytes] : blocks_) free(reinterpret_cast<void*>(begin));
    }
    /// 256-byte aligned, as cudaMalloc's; all ones is NaN in every precision.
    [[nodiscard]] void* allocate(std::size_t bytes) {
        void* p = ::operator new (bytes, std::align_val_t{alignment});
        std::memset(p, 0xff, bytes);
        blocks_[reinterpret_cast<std::uintptr_t>(p)] = bytes;
        return p;
    }
    void release(void* p) noexcept {
        blocks_.erase(reinterpret_cast<std::uintptr_t>(p));
        last_ = {};
        free(p);
    }
    /// The memory at an address of a program's. Throws fault.
    [[nodiscard]] std::byte* at(std::uint64_t address, std::size_t bytes, std::size_t aligned) {
        if (address % aligned != 0)
            throw fault{kdna::concat("an address aligned to ", aligned, " bytes"), kdna::concat(address)};
        if (bytes != 0 && (address < last_.first || address - last_.first > last_.second ||
                           bytes > last_.second - (address - last_.first)))
            find(address, bytes);
        return reinterpret_cast<std::byte*>(address);
    }

private:
    static constexpr std::size_t alignment = 256;
    static void free(void* p) noexcept { ::operator delete (p, std::align_val_t{alignment}); }

    void find(std::uint64_t address, std::size_t bytes) {
        auto i = blocks_.upper_bound(address);
        if (i == blocks_.begin()) throw fault{"device memory that was allocated", "an address below all of it"};
        --i;
        const std::uint64_t from = address - i->first;
        if (from > i->second || bytes > i->second - from)
            throw fault{"device memory that was allocated",
                        kdna::concat("bytes ", from, " to ", from + bytes, " of a block of ", i->second)};
        last_ = *i;
    }

    std::map<std::uintptr_t, std::size_t> blocks_{};
    std::pair<std::uintptr_t, std::size_t> last_{};  // where the access before was
};

/// The shared memory of one block at a time, with a record of who touched what since the last barrier, as the emulator has it.
class shared_memory {
public:
    /// Where its window begins: not at 0, as nobody has promised that.
    static constexpr std::uint64_t window = 0x400;
    /// In the place of a thread: more than one of them.
    static constexpr int many = -1;

    /// `cell_bytes`: the smallest access of the program.
    void begin_program(std::size_t bytes, std::size_t cell_bytes) {
        bytes_.assign(bytes, std::byte{0xff});
        cell_bytes_ = cell_bytes;
        cells_.assign(bytes / cell_bytes + 1, {});
        epoch_ = first_epoch_ = 1;
    }
    void begin_block() { first_epoch_ = ++epoch_; }
    void sync() { ++epoch_; }

    void read(int thread, std::uint64_t address, std::size_t bytes, void* to) {
        const std::size_t at = require(address, bytes);
        for (std::size_t i = at / cell_bytes_; i <= (at + bytes - 1) / cell_bytes_; ++i) {
            cell& c = cells_[i];
            if (c.write_epoch < first_epoch_) fail("shared memory that was written", address);
            if (c.pending) fail("a copy to shared memory that has been waited for", address);
            if (c.write_epoch == epoch_ && c.writer != thread)
                fail("a barrier before a read of shared memory", address);
            c.reader = c.read_epoch == epoch_ && c.reader != thread ? many : thread;
            c.read_epoch = epoch_;
        }
        std::memcpy(to, bytes_.data() + at, bytes);
    }
    void write(int thread, std::uint64_t address, std::size_t bytes, const void* from) {
        std::memcpy(bytes_.data() + note_write(thread, address, bytes, false), from, bytes);
    }
    /// That an asynchronous copy of the thread's has begun.
    void begin_copy(int thread, std::uint64_t address, std::size_t bytes) { note_write(thread, address, bytes, true); }

private:
    struct cell {
        std::uint32_t write_epoch = 0, read_epoch = 0;
        int writer = 0, reader = 0;
        bool pending = false;
    };

    [[noreturn]] static void fail(const char* expected, std::uint64_t address) {
        throw fault{expected, kdna::concat("byte ", address - window)};
    }
    [[nodiscard]] std::size_t require(std::uint64_t address, std::size_t bytes) const {
        const std::uint64_t at = address - window;
        if (at > bytes_.size() || bytes > bytes_.size() - at)
            throw fault{kdna::concat("shared memory inside [0, ", bytes_.size(), ")"),
                        kdna::concat(bytes, " bytes at ", static_cast<std::int64_t>(at))};
        if (at % bytes != 0)
            throw fault{kdna::concat("shared memory aligned to ", bytes, " bytes"), kdna::concat("byte ", at)};
        return static_cast<std::size_t>(at);
    }
    std::size_t note_write(int thread, std::uint64_t address, std::size_t bytes, bool pending) {
        const std::size_t at = require(address, bytes);
        for (std::size_t i = at / cell_bytes_; i <= (at + bytes - 1) / cell_bytes_; ++i) {
            cell& c = cells_[i];
            if (c.write_epoch == epoch_ && c.writer != thread)
                fail("a barrier between writes of two threads to shared memory", address);
            if (c.read_epoch == epoch_ && c.reader != thread)
                fail("a barrier before a write to shared memory", address);
            c.write_epoch = epoch_;
            c.writer = thread;
            c.pending = pending;
        }
        return at;
    }

    std::vector<std::byte> bytes_{};
    std::vector<cell> cells_{};
    std::size_t cell_bytes_ = 1;
    std::uint32_t epoch_ = 1, first_epoch_ = 1;
};

}  // namespace kdna_test::ptx
