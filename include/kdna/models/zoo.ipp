// Definitions of zoo.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <utility>

#include <kdna/models/load_on.hpp>
#include <kdna/models/zoo.hpp>

namespace kdna::inline KDNA_ABI::models {

KDNA_FUNC network load(arch a, form f, state_dict weights) { return load<backend::cpu>(a, f, std::move(weights)); }

KDNA_FUNC network load(arch a, const std::filesystem::path& file, form f, const load_options& options) {
    load_report report;
    return load(a, file, f, report, options);
}

KDNA_FUNC network load(arch a, form f, state_dict weights, load_report& report) {
    return load<backend::cpu>(a, f, std::move(weights), report);
}

KDNA_FUNC network load(arch a, const std::filesystem::path& file, form f, load_report& report,
                       const load_options& options) {
    return load_file<backend::cpu>(a, file, f, options, report);
}

}  // namespace kdna::inline KDNA_ABI::models

#include <kdna/core/macros_pop.hpp>
