// A reference to an object of any type, which is found again by that type.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <typeinfo>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI {

/// A reference to an object of any type, or to none. The object must outlive it.
class any_ref {
public:
    any_ref() = default;
    template <class T>
    [[nodiscard]] static any_ref to(const T& object) noexcept {
        any_ref r;
        r.type_ = &typeid(T);
        r.object_ = &object;
        return r;
    }
    template <class T>
    static any_ref to(const T&& object) = delete;  // it would be gone

    /// The object if it was named as a T, else null.
    template <class T>
    [[nodiscard]] const T* as() const noexcept {
        return type_ != nullptr && *type_ == typeid(T) ? static_cast<const T*>(object_) : nullptr;
    }

private:
    const std::type_info* type_ = nullptr;
    const void* object_ = nullptr;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
