// Which networks were published, and in which forms.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <string_view>

#include <kdna/core/error.hpp>
#include <kdna/models/form.hpp>

namespace kdna::inline KDNA_ABI::models {

enum class arch { resnet18, resnet50, mobilenet_v2, mobilenet_v2_1d2 };

inline constexpr std::array<std::string_view, 4> arch_names{"resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2"};

/// Throws kdna::error if there is no network of this name.
[[nodiscard]] inline arch arch_of(std::string_view name) {
    for (std::size_t i = 0; i < arch_names.size(); ++i)
        if (arch_names[i] == name) return static_cast<arch>(i);
    throw error("architecture", "resnet18, resnet50, mobilenet_v2 or mobilenet_v2_1d2", concat("\"", name, "\""));
}

/// Whether a network was published in this form: resnet18 in all of them, the others in all but DyConv and DCD.
[[nodiscard]] constexpr bool published(arch a, form f) noexcept {
    switch (f) {
        case form::dyconv:
        case form::dcd: return a == arch::resnet18;
        default: return true;
    }
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
