// The published networks for a backend that the caller names: load<backend::reference>(...).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <kdna/io/safetensors.hpp>
#include <kdna/models/arch.hpp>
#include <kdna/models/mobilenet_v2.hpp>
#include <kdna/models/resnet.hpp>

namespace kdna::inline KDNA_ABI::models {

/// What stands before every name in files of the published networks: those of wrappers, and what training code calls the network.
inline constexpr std::array<std::string_view, 3> network_prefixes{"module.", "_orig_mod.", "model."};

namespace detail {

/// How many channels a network's stem reads.
[[nodiscard]] inline index_t input_channels(const state_dict_reader& weights, arch a, form f) {
    if (a == arch::resnet18 || a == arch::resnet50) return weights.extent("conv1.weight", 1, 4);
    if (f == form::kernel_warehouse) return weights.extent("features.0.0.attention.fc1.weight", 1, 2);
    return weights.extent("features.0.0.weight", 1, 4);
}

/// What adds the layers of a published network. Throws kdna::error for a form that it was not published in.
[[nodiscard]] inline auto layers_of(arch a, form f) {
    const auto name = [](const auto& names, auto i) { return std::string(names[static_cast<std::size_t>(i)]); };
    if (!published(a, f)) throw error(name(arch_names, a), "a form in which it was published", name(form_names, f));
    return [a, f](const auto& m, const value& x) {
        switch (a) {
            case arch::resnet18: return resnet18(m, x, f);
            case arch::resnet50: return resnet50(m, x, f);
            case arch::mobilenet_v2: return mobilenet_v2(m, x, f, true);
            case arch::mobilenet_v2_1d2: return mobilenet_v2(m, x, f, false);
        }
        throw error("architecture", "one of the four published networks", concat(static_cast<int>(a)));
    };
}

}  // namespace detail

/// A published network with the given weights, from whose shapes the numbers of input channels and of classes follow. `report` gets
/// what was converted and which prefix was removed from the names. Throws kdna::error naming the tensor that is missing, unexpected,
/// or of the wrong type or shape, or the form that the network was not published in. `where`: see build().
template <layer_backend B, class... Where>
[[nodiscard]] typename network_on<B>::type load(arch a, form f, state_dict weights, load_report& report,
                                                const Where&... where) {
    const auto layers = detail::layers_of(a, f);
    report.prefix = weights.strip_prefixes(network_prefixes);
    const auto channels = [&](const state_dict_reader& reader) { return detail::input_channels(reader, a, f); };
    return detail::build_stripped<B>(weights, channels, layers, report, where...);
}
template <layer_backend B, class... Where>
[[nodiscard]] typename network_on<B>::type load(arch a, form f, state_dict weights, const Where&... where) {
    load_report report;
    return load<B>(a, f, std::move(weights), report, where...);
}

/// The same from a .safetensors file, or the index of a sharded one, with options. Throws kdna::error also for anything wrong with
/// the file.
template <layer_backend B, class... Where>
[[nodiscard]] typename network_on<B>::type load_file(arch a, const std::filesystem::path& file, form f,
                                                     const load_options& options, load_report& report,
                                                     const Where&... where) {
    state_dict weights = load_safetensors(file, options);
    try {
        return load<B>(a, f, std::move(weights), report, where...);
    } catch (const error& e) {
        throw error(concat(file.string(), ", ", e.where()), e.expected(), e.found());
    }
}
template <layer_backend B, class... Where>
[[nodiscard]] typename network_on<B>::type load(arch a, const std::filesystem::path& file, form f, load_report& report,
                                                const Where&... where) {
    return load_file<B>(a, file, f, {}, report, where...);
}
template <layer_backend B, class... Where>
[[nodiscard]] typename network_on<B>::type load(arch a, const std::filesystem::path& file, form f = form::kernel_dna,
                                                const Where&... where) {
    load_report report;
    return load<B>(a, file, f, report, where...);
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
