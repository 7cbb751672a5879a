// Numbers in memory, of any format that weights are stored in.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <span>

#include <kdna/core/config.hpp>
#include <kdna/core/number_format.hpp>

namespace kdna::inline KDNA_ABI {

/// Where numbers of one format begin: a pointer to const numbers whose type is known at run time.
class stored_numbers {
public:
    stored_numbers() = default;
    stored_numbers(const void* data, number_format format) noexcept
        : data_(static_cast<const std::byte*>(data)), format_(format) {}

    [[nodiscard]] number_format format() const noexcept { return format_; }
    /// f(const float*), f(const float16*) or f(const bfloat16*).
    template <class F>
    decltype(auto) visit(F&& f) const {
        switch (format_) {
            case number_format::float32: break;
            case number_format::float16: return f(as<float16>());
            case number_format::bfloat16: return f(as<bfloat16>());
        }
        return f(as<float>());
    }
    /// The numbers themselves, which must be float32.
    [[nodiscard]] const float* floats() const noexcept { return as<float>(); }
    /// Those from the n-th on.
    [[nodiscard]] stored_numbers operator+(index_t n) const noexcept { return {data_ + n * size_of(format_), format_}; }
    [[nodiscard]] float operator[](index_t n) const noexcept {
        return visit([n](const auto* numbers) { return widen(numbers[n]); });
    }
    /// The memory of the first n.
    [[nodiscard]] std::span<const std::byte> bytes(index_t n) const noexcept {
        return {data_, static_cast<std::size_t>(n * size_of(format_))};
    }

private:
    template <class T>
    [[nodiscard]] const T* as() const noexcept {
        return reinterpret_cast<const T*>(data_);
    }
    const std::byte* data_ = nullptr;
    number_format format_ = number_format::float32;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
