// The shared memory of an emulated block: its bytes, asynchronous copies under way, and who touched what since the last
// barrier.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <kdna/core/error.hpp>

namespace kdna_test {

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
        if (at > size_ || bytes > size_ - at) fail(kdna::concat("bytes inside [0, ", size_, ")"), "byte ", at);
        if (at % bytes != 0) fail(kdna::concat("an access aligned to ", bytes, " bytes"), "byte ", at);
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
        throw kdna::error("shared memory", std::move(expected), kdna::concat(found, at));
    }

    std::vector<unsigned char> bytes_;
    std::vector<cell> cells_;
    std::vector<std::vector<copy>> copies_;
    std::vector<copy> open_copies_;
    std::size_t size_ = 0;
    std::uint64_t epoch_ = 0, first_epoch_ = 0;
};

}  // namespace kdna_test
