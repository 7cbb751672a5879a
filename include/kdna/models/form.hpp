// The forms of a network: the method that its convolutions are made by.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cstddef>
#include <string_view>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI::models {

/// plain: torchvision's network and keys. The others: the keys of the method's public code. How many kernels are mixed and
/// how large warehouses are is not part of the form, it follows from the tensors.
enum class form { kernel_dna, plain, odconv, kernel_warehouse, dyconv, dcd };

inline constexpr std::array<std::string_view, 6> form_names{"kernel_dna",       "plain",  "odconv",
                                                            "kernel_warehouse", "dyconv", "dcd"};

/// Throws kdna::error if there is no form of this name.
[[nodiscard]] inline form form_of(std::string_view name) {
    for (std::size_t i = 0; i < form_names.size(); ++i)
        if (form_names[i] == name) return static_cast<form>(i);
    throw error("form", "kernel_dna, plain, odconv, kernel_warehouse, dyconv or dcd", concat("\"", name, "\""));
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
