// Times of work in a stream, by CUDA events.
#pragma once

#include <algorithm>
#include <functional>
#include <kdna/cuda/device/gpu.hpp>
#include <vector>

namespace kdna_bench {

using kdna::index_t;

/// An event.
class device_event {
public:
    device_event() { kdna::cuda::check(cudaEventCreate(&handle_), "cudaEventCreate"); }
    device_event(const device_event&) = delete;
    device_event& operator=(const device_event&) = delete;
    ~device_event() { static_cast<void>(cudaEventDestroy(handle_)); }
    void record(kdna::cuda::stream_ref s) { kdna::cuda::check(cudaEventRecord(handle_, s.handle), "cudaEventRecord"); }
    /// Milliseconds from an earlier event to this one; waits for both.
    [[nodiscard]] double since(const device_event& earlier) const {
        kdna::cuda::check(cudaEventSynchronize(handle_), "cudaEventSynchronize");
        float ms = 0;
        kdna::cuda::check(cudaEventElapsedTime(&ms, earlier.handle_, handle_), "cudaEventElapsedTime");
        return static_cast<double>(ms);
    }

private:
    cudaEvent_t handle_ = nullptr;
};

/// Microseconds of one call: the median over `samples` groups of calls, each group long enough for its events not to count.
/// call(i) puts call number i into the stream; numbers go on, so that calls can take turns with their buffers.
inline double median_microseconds(const std::function<void(index_t)>& call, kdna::cuda::stream_ref s,
                                  int samples = 31) {
    index_t next = 0;
    const auto group = [&](index_t calls) {
        device_event begin, end;
        begin.record(s);
        for (index_t i = 0; i < calls; ++i) call(next++);
        end.record(s);
        return end.since(begin);
    };
    // Warm: clocks, caches, lazily loaded device functions.
    double one = group(10) / 10;
    while (one < 50 && next < 2000 && one * static_cast<double>(next) < 50) one = group(10) / 10;
    const auto calls = static_cast<index_t>(std::clamp(2.0 / std::max(one, 1e-4), 1.0, 200.0));
    std::vector<double> times;
    for (int i = 0; i < samples; ++i) times.push_back(1000 * group(calls) / static_cast<double>(calls));
    std::nth_element(times.begin(), times.begin() + samples / 2, times.end());
    return times[static_cast<std::size_t>(samples / 2)];
}

/// How many sets of `bytes` outgrow the L2 cache twice.
inline index_t sets_beyond_l2(index_t bytes) {
    int device = 0, l2 = 0;
    kdna::cuda::check(cudaGetDevice(&device), "cudaGetDevice");
    kdna::cuda::check(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, device), "cudaDeviceGetAttribute");
    return std::clamp<index_t>(2 * static_cast<index_t>(l2) / std::max<index_t>(bytes, 1) + 1, 2, 64);
}

}  // namespace kdna_bench
