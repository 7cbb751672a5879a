// The published networks by name, from a state_dict or a .safetensors file.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <string_view>

#include <kdna/io/safetensors.hpp>
#include <kdna/models/mobilenet_v2.hpp>
#include <kdna/models/resnet.hpp>

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

/// A published network with the given weights. Throws kdna::error naming the tensor that is missing, superfluous, or of the
/// wrong type or shape, or the form in which the network does not come. `where`: see build().
template <layer_backend B = backend::cpu, class... Where>
[[nodiscard]] typename network_on<B>::type load(arch a, form f, state_dict weights, const Where&... where) {
    const auto name = [](const auto& names, auto i) { return std::string(names[static_cast<std::size_t>(i)]); };
    if (!published(a, f)) throw error(name(arch_names, a), "a form in which it was published", name(form_names, f));
    const auto layers = [&](const auto& m, const value& x) {
        switch (a) {
            case arch::resnet18: return resnet18(m, x, f);
            case arch::resnet50: return resnet50(m, x, f);
            case arch::mobilenet_v2: return mobilenet_v2(m, x, f, true);
            case arch::mobilenet_v2_1d2: return mobilenet_v2(m, x, f, false);
        }
        throw error("architecture", "one of the four published networks", concat(static_cast<int>(a)));
    };
    return build<B>(std::move(weights), 3, layers, where...);
}

/// The same from a .safetensors file. Throws kdna::error also for anything wrong with the file.
template <layer_backend B = backend::cpu, class... Where>
[[nodiscard]] typename network_on<B>::type load(arch a, const std::filesystem::path& file, form f = form::kernel_dna,
                                                const Where&... where) {
    state_dict weights = load_safetensors(file);
    try {
        return load<B>(a, f, std::move(weights), where...);
    } catch (const error& e) {
        throw error(concat(file.string(), ", ", e.where()), e.expected(), e.found());
    }
}

}  // namespace kdna::inline KDNA_ABI::models
