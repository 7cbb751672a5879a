// Replaces the global operator new by one that counts. Include it in exactly one file of an executable.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace kdna_test {

/// All allocations of the program so far, and the bytes that are allocated now.
inline std::atomic<std::size_t> allocations{0};
inline std::atomic<std::size_t> live_bytes{0};

namespace detail {

struct block_header {
    void* start;
    std::size_t size;
};

inline void* counted_allocate(std::size_t size, std::size_t alignment) {
    const std::size_t slack = alignment <= alignof(std::max_align_t) ? 0 : alignment;
    auto* start = static_cast<std::byte*>(std::malloc(size + sizeof(block_header) + slack));
    if (start == nullptr) throw std::bad_alloc();
    std::byte* p = start + sizeof(block_header);
    if (slack > 0) p += (alignment - reinterpret_cast<std::uintptr_t>(p) % alignment) % alignment;
    const block_header header{start, size};
    std::memcpy(p - sizeof header, &header, sizeof header);
    ++allocations;
    live_bytes += size;
    return p;
}

inline void counted_free(void* p) noexcept {
    if (p == nullptr) return;
    block_header header;
    std::memcpy(&header, static_cast<std::byte*>(p) - sizeof header, sizeof header);
    live_bytes -= header.size;
    std::free(header.start);
}

}  // namespace detail
}  // namespace kdna_test

void* operator new(std::size_t size) { return kdna_test::detail::counted_allocate(size, 1); }
void* operator new[](std::size_t size) { return kdna_test::detail::counted_allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t a) {
    return kdna_test::detail::counted_allocate(size, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t size, std::align_val_t a) {
    return kdna_test::detail::counted_allocate(size, static_cast<std::size_t>(a));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return kdna_test::detail::counted_allocate(size, 1);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return kdna_test::detail::counted_allocate(size, 1);
}
void operator delete(void* p, const std::nothrow_t&) noexcept { kdna_test::detail::counted_free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { kdna_test::detail::counted_free(p); }
void operator delete(void* p) noexcept { kdna_test::detail::counted_free(p); }
void operator delete[](void* p) noexcept { kdna_test::detail::counted_free(p); }
void operator delete(void* p, std::size_t) noexcept { kdna_test::detail::counted_free(p); }
void operator delete[](void* p, std::size_t) noexcept { kdna_test::detail::counted_free(p); }
void operator delete(void* p, std::align_val_t) noexcept { kdna_test::detail::counted_free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { kdna_test::detail::counted_free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { kdna_test::detail::counted_free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { kdna_test::detail::counted_free(p); }
