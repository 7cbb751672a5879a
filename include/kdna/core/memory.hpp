// Aligned memory from a std::pmr resource, and the layout of a workspace that is allocated in one piece.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <kdna/core/arithmetic.hpp>
#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI {

/// Alignment in bytes of everything kdna allocates: a cache line and the widest vector. Fixed, whatever the instruction set.
inline constexpr std::size_t alignment = 64;

/// Tells Linux that large pages would be welcome for a large block; call it before the block is written. Kernels that do not
/// fit the caches are read front to back, and with pages of 4 KiB each of them costs a walk of the page table: a plan with
/// transformed kernels in memory ran 3 to 8 % faster with pages of 2 MiB (Zen 4, `madvise` mode).
inline void prefer_large_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr std::size_t page = 4096, worthwhile = std::size_t{4} << 20;
    if (bytes < worthwhile) return;
    const std::size_t before_page = (page - reinterpret_cast<std::uintptr_t>(data) % page) % page;
    // Advice only: where it is refused, nothing changes.
    static_cast<void>(
        madvise(static_cast<std::byte*>(data) + before_page, (bytes - before_page) / page * page, MADV_HUGEPAGE));
#endif
}

/// Owns `size()` zero-initialised elements of a trivial type, 64-byte aligned, taken from a memory resource. Move only.
template <class T>
class buffer {
    static_assert(std::is_trivially_copyable_v<T>, "kdna::buffer holds plain numbers");

public:
    buffer() = default;
    explicit buffer(index_t count, std::pmr::memory_resource* resource = std::pmr::get_default_resource())
        : resource_(resource), size_(static_cast<std::size_t>(count)) {
        const auto bytes = static_cast<std::size_t>(checked_mul(count, static_cast<index_t>(sizeof(T)), "buffer"));
        if (bytes == 0) return;
        data_ = static_cast<T*>(resource_->allocate(bytes, alignment));
        prefer_large_pages(data_, bytes);
        for (std::size_t i = 0; i < size_; ++i) data_[i] = T{};
    }
    buffer(buffer&& other) noexcept { swap(other); }
    buffer& operator=(buffer&& other) noexcept {
        buffer(std::move(other)).swap(*this);
        return *this;
    }
    buffer(const buffer&) = delete;
    buffer& operator=(const buffer&) = delete;
    ~buffer() {
        if (data_ != nullptr) resource_->deallocate(data_, size_ * sizeof(T), alignment);
    }

    void swap(buffer& other) noexcept {
        std::swap(resource_, other.resource_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
    }

    [[nodiscard]] T* data() noexcept { return data_; }
    [[nodiscard]] const T* data() const noexcept { return data_; }
    [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(size_); }
    [[nodiscard]] index_t bytes() const noexcept { return static_cast<index_t>(size_ * sizeof(T)); }
    [[nodiscard]] std::span<T> span() noexcept { return {data_, size_}; }
    [[nodiscard]] std::span<const T> span() const noexcept { return {data_, size_}; }
    T& operator[](index_t i) noexcept { return data_[i]; }
    const T& operator[](index_t i) const noexcept { return data_[i]; }

private:
    std::pmr::memory_resource* resource_ = nullptr;
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Adds up the aligned regions of a workspace while a plan is made; the offsets stay valid for any 64-byte aligned base.
class workspace_layout {
public:
    /// Reserves room for `count` elements of T and returns its offset in bytes.
    template <class T>
    index_t add(index_t count) {
        return reserve(count, static_cast<index_t>(sizeof(T)));
    }
    [[nodiscard]] index_t bytes() const noexcept { return bytes_; }

private:
    index_t reserve(index_t count, index_t element) {
        const index_t offset = bytes_, size = checked_mul(count, element, "workspace");
        const auto step = static_cast<index_t>(alignment);
        bytes_ = checked_add(bytes_, checked_mul(checked_add(size, step - 1, "workspace") / step, step, "workspace"),
                             "workspace");
        return offset;
    }
    index_t bytes_ = 0;
};

/// The region at `offset` of a workspace as an array of T.
template <class T>
[[nodiscard]] T* at_offset(std::byte* base, index_t offset) noexcept {
    return reinterpret_cast<T*>(base + offset);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
