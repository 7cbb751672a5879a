// kdna itself: the layer or the network that the peers are measured against.
#pragma once

#include <kdna/kdna.hpp>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "item.hpp"

namespace peers {

namespace detail {

/// Keeps the layer, its plan and its memory alive in the two functions of the runnable.
template <class Layer>
runnable run_layer(Layer made, const layer& item, const kdna::plan_options& options) {
    struct state {
        Layer conv;
        typename Layer::plan_type plan;
        kdna::tensor<float> x, y;
        std::optional<kdna::tensor<float>> residual;
    };
    auto plan = made.plan(item.in, options);
    const std::string text = plan.explain();
    const auto s = std::make_shared<state>(state{std::move(made), std::move(plan), item.channels_last("x", item.in),
                                                 kdna::tensor<float>(item.out, kdna::layout::nhwc), std::nullopt});
    kdna::tensor_view<const float> residual;
    if (item.residual) residual = s->residual.emplace(item.channels_last("residual", item.out)).view();
    return {[s, residual] { s->conv.run(s->plan, s->x.view(), s->y.view(), residual); },
            [s] { return channels_first(s->y.view()); }, text};
}

}  // namespace detail

/// `form`: plain or child. `shared` forbids Winograd, so that a child runs on its parent's own panels.
inline runnable our_layer(const layer& item, const std::string& form, bool shared, kdna::executor_ref executor) {
    const kdna::plan_options options{.executor = executor,
                                     .order = kdna::input_order::nhwc,
                                     .transform_budget = shared ? 0 : std::numeric_limits<kdna::index_t>::max()};
    const auto parent = kdna::parent_kernel::pack(item.kernel, item.values("weight"));
    const kdna::conv_options around{
        .bn = item.bn("bn"), .residual = item.residual, .act = kdna::activation::relu, .name = "layer"};
    if (form == "plain") return detail::run_layer(kdna::conv2d(parent, item.params, around), item, options);
    const kdna::static_adapter adapter{.spatial = item.values("spatial"), .filter = item.values("filter")};
    const kdna::squeeze_excite gate({.fc1 = item.values("gate.fc1"),
                                     .bn = item.bn("gate.bn"),
                                     .fc2 = item.values("gate.fc2"),
                                     .fc2_bias = item.values("gate.bias")});
    return detail::run_layer(kdna::conv2d(parent.child(adapter), item.params, around, gate), item, options);
}

/// `form`: plain or child, the whole network in KernelDNA form. Images are NCHW.
inline runnable our_network(const json& item, const kdna::state_dict& tensors, const std::string& form, bool shared,
                            kdna::executor_ref executor) {
    struct state {
        kdna::network net;
        kdna::network_plan plan;
        kdna::tensor<float> x, y;
    };
    const bool plain = form == "plain";
    kdna::network net = kdna::models::load(kdna::models::arch_of(item.at("arch").get<std::string>()),
                                           item.at(plain ? "weights_plain" : "weights_child").get<std::string>(),
                                           plain ? kdna::models::form::plain : kdna::models::form::kernel_dna);
    const auto& extents = tensors.at("x").shape();
    const kdna::shape4 in{extents.at(0), extents.at(1), extents.at(2), extents.at(3)};
    kdna::network_plan plan = net.plan(
        in, {.executor = executor, .transform_budget = shared ? 0 : std::numeric_limits<kdna::index_t>::max()});
    const kdna::shape4 out = plan.output_shape();
    const std::string text = plan.explain();
    const auto s =
        std::make_shared<state>(state{std::move(net), std::move(plan), kdna::tensor<float>(in, kdna::layout::nchw),
                                      kdna::tensor<float>(out, kdna::layout::nchw)});
    const auto image = tensors.at("x").values<float>("x");
    std::copy(image.begin(), image.end(), s->x.data());
    return {[s] { s->net.run(s->plan, s->x.view(), s->y.view()); }, [s] { return channels_first(s->y.view()); }, text};
}

}  // namespace peers
