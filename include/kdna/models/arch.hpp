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

/// Whether a network was published in this form: all are plain and KernelDNA, resnet18 is everything, mobilenet_v2 also ODConv
/// and KernelWarehouse.
[[nodiscard]] constexpr bool published(arch a, form f) noexcept {
    switch (f) {
        case form::kernel_dna:
        case form::plain: return true;
        case form::odconv:
        case form::kernel_warehouse: return a == arch::resnet18 || a == arch::mobilenet_v2;
        default: return a == arch::resnet18;
    }
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
