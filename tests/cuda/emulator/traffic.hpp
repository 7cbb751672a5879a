// What programs move, as the emulator counts it: properties that decide about speed, and that need no GPU to be tested.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <kdna/core/config.hpp>
#include <kdna/cuda/device/access.hpp>

namespace kdna_test {

using kdna::index_t;

/// Accesses of one kind, summed over the warps. Moved is what the hardware has to move for them, least what would do
/// for as many bytes: wavefronts of shared memory, 32-byte sectors of device memory.
struct access_counts {
    index_t accesses = 0;  ///< of a warp: instructions
    index_t bytes = 0;     ///< that lanes asked for; two lanes with one address count twice
    index_t moved = 0, least = 0;
    /// 1 where nothing is wasted, and where nothing was moved.
    [[nodiscard]] double waste() const noexcept {
        return least == 0 ? 1.0 : static_cast<double>(moved) / static_cast<double>(least);
    }
    access_counts& operator+=(const access_counts& other) noexcept {
        accesses += other.accesses;
        bytes += other.bytes;
        moved += other.moved;
        least += other.least;
        return *this;
    }
};

/// Of a program. An asynchronous copy reads device memory, unless it writes zeros, and writes shared memory.
struct program_traffic {
    access_counts shared_loads{}, shared_stores{}, shared_copies{};
    access_counts device_loads{}, device_stores{}, device_copies{};
};

/// Assembles the accesses of warps from those of threads.
///
/// The emulator runs a part of a program thread by thread. The k-th access of a lane, counted within the part and
/// within its kind, is taken to be one with the k-th of the other lanes of its warp. So it is where all lanes take the
/// same way, or leave early. Lanes that skip an access and make a later one of the same kind are combined with others
/// than on a GPU, and so are the two sides of a branch: what such a part costs is an estimate. Caches are not modelled:
/// a sector counts every time.
///
/// Shared memory has 32 banks of 4 bytes. A warp's access of up to 4 bytes a lane is one, of 8 bytes two halves, of 16
/// bytes four quarters; each takes as many wavefronts as there are different words in its fullest bank. Lanes with the
/// same word are served together, those of different quarters are not.
class traffic_meter final : public kdna::cuda::access_observer {
public:
    enum kind { shared_load, shared_store, shared_copy, device_load, device_store, device_copy, kinds };

    void begin_program(program_traffic& to, std::size_t threads) {
        to_ = &to;
        threads_.resize(threads);
        leave();
    }
    /// Between this and end_part, accesses are those of `thread`.
    void begin_thread(int thread) noexcept { thread_ = &threads_[static_cast<std::size_t>(thread)]; }
    void device_access(kdna::cuda::access_kind k, std::uintptr_t address, std::size_t bytes) override {
        note(k == kdna::cuda::access_kind::load ? device_load : device_store, address, bytes);
    }
    void note(kind k, std::uintptr_t address, std::size_t bytes) {
        if (thread_ != nullptr) (*thread_)[k].push_back({address, bytes});
    }
    void end_part() {
        for (std::size_t first = 0; first < threads_.size(); first += 32)
            for (int k = 0; k < kinds; ++k) {
                std::size_t longest = 0;
                for (std::size_t lane = 0; lane < 32; ++lane)
                    longest = std::max(longest, threads_[first + lane][static_cast<std::size_t>(k)].size());
                for (std::size_t i = 0; i < longest; ++i)
                    for (std::size_t bytes = 1; bytes <= 16; bytes *= 2) {
                        warp w{};
                        for (std::size_t lane = 0; lane < 32; ++lane) {
                            const auto& list = threads_[first + lane][static_cast<std::size_t>(k)];
                            if (i < list.size() && list[i].bytes == bytes) w.set(lane, list[i].address);
                        }
                        if (w.any) add(static_cast<kind>(k), w, bytes);
                    }
            }
        leave();
    }

    /// An access that the lanes of a warp make together.
    struct warp {
        std::array<std::uintptr_t, 32> address{};
        std::array<bool, 32> active{};
        bool any = false;
        void set(std::size_t lane, std::uintptr_t at) {
            address[lane] = at;
            active[lane] = any = true;
        }
    };
    void add(kind k, const warp& w, std::size_t bytes) {
        const bool shared = k <= shared_copy;
        access_counts c = shared ? wavefronts(w, bytes) : sectors(w, bytes);
        c.accesses = 1;
        for (const bool lane : w.active) c.bytes += lane ? static_cast<index_t>(bytes) : 0;
        constexpr std::array<access_counts program_traffic::*, kinds> counts{
            &program_traffic::shared_loads, &program_traffic::shared_stores, &program_traffic::shared_copies,
            &program_traffic::device_loads, &program_traffic::device_stores, &program_traffic::device_copies};
        to_->*counts[static_cast<std::size_t>(k)] += c;
    }

private:
    struct access {
        std::uintptr_t address;
        std::size_t bytes;
    };

    void leave() noexcept {
        for (auto& thread : threads_)
            for (auto& list : thread) list.clear();
        thread_ = nullptr;
    }
    [[nodiscard]] static index_t without_repeats(std::vector<std::uintptr_t>& v) {
        std::sort(v.begin(), v.end());
        v.erase(std::unique(v.begin(), v.end()), v.end());
        return static_cast<index_t>(v.size());
    }
    [[nodiscard]] static access_counts wavefronts(const warp& w, std::size_t bytes) {
        access_counts c;
        const std::size_t at_once = bytes <= 4 ? 32 : 128 / bytes;
        for (std::size_t first = 0; first < 32; first += at_once) {
            std::vector<std::uintptr_t> words;
            for (std::size_t lane = first; lane < first + at_once; ++lane)
                for (std::size_t b = 0; w.active[lane] && b < bytes; b += 4) words.push_back((w.address[lane] + b) / 4);
            if (words.empty()) continue;
            c.least += (without_repeats(words) + 31) / 32;
            std::array<index_t, 32> in_bank{};
            for (const std::uintptr_t word : words) ++in_bank[word % 32];
            c.moved += *std::max_element(in_bank.begin(), in_bank.end());
        }
        return c;
    }
    [[nodiscard]] static access_counts sectors(const warp& w, std::size_t bytes) {
        // Aligned accesses of one size are the same or apart.
        std::vector<std::uintptr_t> addresses, touched;
        for (std::size_t lane = 0; lane < 32; ++lane)
            if (w.active[lane]) {
                addresses.push_back(w.address[lane]);
                touched.push_back(w.address[lane] / 32);
            }
        access_counts c;
        c.least = (without_repeats(addresses) * static_cast<index_t>(bytes) + 31) / 32;
        c.moved = without_repeats(touched);
        return c;
    }

    program_traffic* to_ = nullptr;
    std::vector<std::array<std::vector<access>, kinds>> threads_{};
    std::array<std::vector<access>, kinds>* thread_ = nullptr;
};

}  // namespace kdna_test
