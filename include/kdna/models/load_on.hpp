// The published networks for a backend that the caller names: load<backend::reference>(...).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <filesystem>
#include <string>
#include <utility>

#include <kdna/io/safetensors.hpp>
#include <kdna/models/arch.hpp>
#include <kdna/models/mobilenet_v2.hpp>
#include <kdna/models/resnet.hpp>

namespace kdna::inline KDNA_ABI::models {

/// A published network with the given weights. Throws kdna::error naming the tensor that is missing, superfluous, or of the
/// wrong type or shape, or the form in which the network does not come. `where`: see build().
template <layer_backend B, class... Where>
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
template <layer_backend B, class... Where>
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

#include <kdna/core/macros_pop.hpp>
