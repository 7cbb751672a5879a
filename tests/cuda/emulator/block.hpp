// An emulated block of threads.
#pragma once

#include <cstdint>
#include <vector>

#include <kdna/core/error.hpp>
#include <kdna/cuda/device/numbers.hpp>

#include "shared_memory.hpp"
#include "tensor_cores.hpp"
#include "traffic.hpp"

namespace kdna_test {

/// The block that a program works with (kdna/cuda/device/program.hpp), emulated: the program runs once, and each of its
/// parallel parts runs once for every thread.
template <class Registers>
class emulated_block {
public:
    /// `meter` null: nothing is counted.
    emulated_block(emulated_shared_memory& shared, std::vector<Registers>& registers,
                   std::vector<std::vector<int>>& orders, traffic_meter* meter)
        : shared_(&shared), registers_(&registers), orders_(&orders), meter_(meter) {}

    int x = 0, y = 0, z = 0;  ///< which block of the grid it is

    template <class F>
    void parallel(F&& f) {
        const std::vector<int>& order = (*orders_)[next_order_++ % orders_->size()];
        for (const int t : order) {
            if (meter_ != nullptr) meter_->begin_thread(t);
            f(t, (*registers_)[static_cast<std::size_t>(t)]);
        }
        if (meter_ != nullptr) meter_->end_part();
    }
    template <class Multiply, class Operands>
    void multiply(Operands&& operands) {
        const auto threads = static_cast<int>(registers_->size());
        for (int first = 0; first < threads; first += 32)
            emulated_tensor_cores<Multiply>::multiply([&](int lane) -> auto& {
                return operands((*registers_)[static_cast<std::size_t>(first + lane)]);
            });
    }
    template <int Count, class At, class Take>
    void load_matrices(At&& at, Take&& take) {
        const auto threads = static_cast<int>(registers_->size());
        for (int first = 0; first < threads; first += 32)
            for (int i = 0; i < Count; ++i) {
                kdna::cuda::pack<std::uint32_t, 4> rows[32];
                kinds::warp all;
                for (int lane = 0; lane < 32; ++lane) {
                    const int from = at(first + lane, i);
                    rows[lane] = shared_->template read<kdna::cuda::pack<std::uint32_t, 4>>(
                        shared_->many, static_cast<std::size_t>(from));
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
    void sync() { shared_->sync(); }

    template <class T, int N = 1>
    kdna::cuda::pack<T, N> load(int thread, int at) {
        note(kinds::shared_load, at, sizeof(kdna::cuda::pack<T, N>));
        return shared_->template read<kdna::cuda::pack<T, N>>(thread, static_cast<std::size_t>(at));
    }
    template <class T, int N>
    void store(int thread, int at, const kdna::cuda::pack<T, N>& v) {
        note(kinds::shared_store, at, sizeof(v));
        shared_->write(thread, static_cast<std::size_t>(at), v);
    }
    template <int Bytes>
    void copy_async(int thread, int at, const void* from, bool valid) {
        static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "kdna: asynchronous copies are of 4, 8 or 16 bytes");
        if (reinterpret_cast<std::uintptr_t>(from) % Bytes != 0)
            throw kdna::error("device memory", kdna::concat("a copy aligned to ", Bytes, " bytes"), "another address");
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
    using kinds = traffic_meter;
    void note(kinds::kind kind, int at, std::size_t bytes) {
        if (meter_ != nullptr) meter_->note(kind, static_cast<std::uintptr_t>(at), bytes);
    }

    emulated_shared_memory* shared_;
    std::vector<Registers>* registers_;
    std::vector<std::vector<int>>* orders_;
    traffic_meter* meter_;
    std::size_t next_order_ = 0;
};

}  // namespace kdna_test
