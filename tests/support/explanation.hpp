// What a plan says of itself, where the plan is not needed otherwise.
#pragma once

#include <string>

#include <kdna/core/shape.hpp>
#include <kdna/nn/conv2d.hpp>

namespace kdna_test {

template <class Layer>
[[nodiscard]] std::string explanation_of(const Layer& layer, const kdna::shape4& in,
                                         const kdna::plan_options& options = {}) {
    const auto plan = layer.plan(in, options);
    return plan.explain();
}

}  // namespace kdna_test
