// A reference to an object of any type, which is found again by that type.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// A variable for each type, whose address stands for the type: typeid is not there where a program is compiled without RTTI. Not
/// constant, because linkers may merge constants that are alike.
template <class T>
struct type_mark {
    inline static char of = 0;
};

}  // namespace detail

/// A reference to an object of any type, or to none. The object must outlive it. A type named in another shared library is the same
/// where the two share inline variables, as they do by default on Linux.
class any_ref {
public:
    any_ref() = default;
    template <class T>
    [[nodiscard]] static any_ref to(const T& object) noexcept {
        any_ref r;
        r.type_ = &detail::type_mark<T>::of;
        r.object_ = &object;
        return r;
    }
    template <class T>
    static any_ref to(const T&& object) = delete;  // it would be gone

    /// The object if it was named as a T, else null.
    template <class T>
    [[nodiscard]] const T* as() const noexcept {
        return type_ == &detail::type_mark<T>::of ? static_cast<const T*>(object_) : nullptr;
    }

private:
    const char* type_ = nullptr;
    const void* object_ = nullptr;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
