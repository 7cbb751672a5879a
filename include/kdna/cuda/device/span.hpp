// Device memory as programs see it.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstdint>
#include <type_traits>

#include <kdna/core/error.hpp>
#include <kdna/cuda/device/access.hpp>
#include <kdna/cuda/device/numbers.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// `size` elements of device memory, as an argument of a program. Indices are 32 bits: plans refuse larger tensors.
/// Where a program runs on a host, every access is checked for its bounds and its alignment, and observers are told of
/// it (access.hpp).
template <class T>
struct device_span {
    T* data = nullptr;
    int size = 0;

    using value_type = std::remove_const_t<T>;

    KDNA_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
    KDNA_DEVICE value_type load(int i) const {
        touch(access_kind::load, i, 1);
        return data[i];
    }
    /// Elements i ... i + N - 1; i is a multiple of N.
    template <int N>
    KDNA_DEVICE pack<value_type, N> load(int i) const {
        touch(access_kind::load, i, N);
        return *reinterpret_cast<const pack<value_type, N>*>(data + i);
    }
    KDNA_DEVICE void store(int i, value_type v) const {
        touch(access_kind::store, i, 1);
        data[i] = v;
    }
    template <int N>
    KDNA_DEVICE void store(int i, const pack<value_type, N>& v) const {
        touch(access_kind::store, i, N);
        *reinterpret_cast<pack<value_type, N>*>(data + i) = v;
    }
    /// Where element i lies, for a copy of N elements from there on.
    template <int N>
    KDNA_DEVICE T* at(int i) const {
        require(i, N);
        return data + i;
    }
    KDNA_HOST_DEVICE operator device_span<const T>() const  // NOLINT(google-explicit-constructor)
        requires(!std::is_const_v<T>) {
        return {data, size};
    }

private:
#if defined(__CUDACC__)
    KDNA_DEVICE static void require(int, int) {}
    KDNA_DEVICE static void touch(access_kind, int, int) {}
#else
    void require(int i, int count) const {
        if (i < 0 || i > size - count)
            throw error("device memory", concat("elements inside [0, ", size, ")"),
                        concat(i, " and ", count - 1, " more"));
        if (reinterpret_cast<std::uintptr_t>(data + i) % (sizeof(T) * static_cast<std::size_t>(count)) != 0)
            throw error("device memory", concat("an access aligned to ", count, " elements"), concat("element ", i));
    }
    void touch(access_kind kind, int i, int count) const {
        require(i, count);
        if (device_access_observer != nullptr)
            device_access_observer->device_access(kind, reinterpret_cast<std::uintptr_t>(data + i),
                                                  sizeof(T) * static_cast<std::size_t>(count));
    }
#endif
};

/// Factors of the algebra on the device: those of sample n begin at n * stride; 0: one set for all samples. Without
/// data: ones.
struct device_factors {
    device_span<const float> values{};
    int stride = 0;
    KDNA_HOST_DEVICE explicit operator bool() const { return static_cast<bool>(values); }
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
