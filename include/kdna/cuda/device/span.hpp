// Device memory as kernels see it.
#pragma once

#include <type_traits>

#include <kdna/core/error.hpp>
#include <kdna/cuda/device/numbers.hpp>
#if !defined(__CUDACC__)
#include <kdna/cuda/traffic.hpp>
#endif

namespace kdna::inline KDNA_ABI::cuda {

/// `size` elements of device memory, as an argument of a kernel. Indices are 32 bits: plans refuse larger tensors. In the
/// emulator every access is checked for its bounds and its alignment, and counted where that was asked for.
template <class T>
struct device_span {
    T* data = nullptr;
    int size = 0;

    using value_type = std::remove_const_t<T>;

    KDNA_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
    KDNA_DEVICE value_type load(int i) const {
        load_of(i, 1);
        return data[i];
    }
    /// Elements i ... i + N - 1; i is a multiple of N.
    template <int N>
    KDNA_DEVICE pack<value_type, N> load(int i) const {
        load_of(i, N);
        return *reinterpret_cast<const pack<value_type, N>*>(data + i);
    }
    KDNA_DEVICE void store(int i, value_type v) const {
        store_of(i, 1);
        data[i] = v;
    }
    template <int N>
    KDNA_DEVICE void store(int i, const pack<value_type, N>& v) const {
        store_of(i, N);
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
    KDNA_DEVICE static void load_of(int, int) {}
    KDNA_DEVICE static void store_of(int, int) {}
#else
    void require(int i, int count) const {
        if (i < 0 || i > size - count)
            throw error("device memory", concat("elements inside [0, ", size, ")"),
                        concat(i, " and ", count - 1, " more"));
        if (reinterpret_cast<std::uintptr_t>(data + i) % (sizeof(T) * static_cast<std::size_t>(count)) != 0)
            throw error("device memory", concat("an access aligned to ", count, " elements"), concat("element ", i));
    }
    void note(detail::traffic_meter::kind kind, int i, int count) const {
        require(i, count);
        if (detail::device_meter != nullptr)
            detail::device_meter->note(kind, reinterpret_cast<std::uintptr_t>(data + i),
                                       sizeof(T) * static_cast<std::size_t>(count));
    }
    void load_of(int i, int count) const { note(detail::traffic_meter::device_load, i, count); }
    void store_of(int i, int count) const { note(detail::traffic_meter::device_store, i, count); }
#endif
};

/// Factors of the algebra on the device: those of sample n begin at n * stride; 0: one set for all samples. Without data: ones.
struct device_factors {
    device_span<const float> values{};
    int stride = 0;
    KDNA_HOST_DEVICE explicit operator bool() const { return static_cast<bool>(values); }
};

}  // namespace kdna::inline KDNA_ABI::cuda
