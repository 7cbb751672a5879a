// kdna's dynamic layers and networks, as dynamic.py asks for them.
#pragma once

#include <memory>
#include <random>
#include <utility>

#include "item.hpp"
#include "support/dynamic_layers.hpp"
#include "support/networks.hpp"

namespace peers {

namespace detail {

/// The tensors of a file by name.
class file_tensors {
public:
    explicit file_tensors(const std::string& path) : tensors_(kdna::load_safetensors(path)) {}
    [[nodiscard]] std::span<const float> values(const std::string& name,
                                                const std::vector<kdna::index_t>& shape) const {
        const auto& t = tensors_.at(name);
        if (t.shape() != shape) throw kdna::error(name, "the shape of the layer's weights", "another");
        return t.values<float>(name);
    }

private:
    kdna::state_dict tensors_;
};

/// The item's input; noise if it has none, each sample with means of its own.
inline void fill_input(const json& item, kdna::tensor<float>& x, kdna::layout order) {
    const kdna::shape4& s = x.shape();
    if (item.contains("file")) {
        const auto tensors = kdna::load_safetensors(item.at("file").get<std::string>());
        kdna::copy(kdna::make_view(tensors.at("x").values<float>("x").data(), s, kdna::layout::nchw), x.view());
        return;
    }
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    const auto view = kdna::make_view(x.data(), s, order);
    for (kdna::index_t n = 0; n < s.n; ++n)
        for (kdna::index_t c = 0; c < s.c; ++c) {
            const float mean = normal(generator);
            for (kdna::index_t h = 0; h < s.h; ++h)
                for (kdna::index_t w = 0; w < s.w; ++w) view(n, c, h, w) = mean + normal(generator);
        }
}

/// `Net`: a layer or a network; its plan and its memory live as long as the functions.
template <class Net>
runnable run_dynamic(const json& item, Net made, const kdna::shape4& in, kdna::layout order,
                     const kdna::plan_options& options) {
    using plan_type = decltype(made.plan(in, options));
    struct state {
        Net net;
        plan_type plan;
        kdna::tensor<float> x, y;
    };
    plan_type plan = made.plan(in, options);
    const std::string text = plan.explain();
    const kdna::shape4 out = plan.output_shape();
    const auto s = std::make_shared<state>(
        state{std::move(made), std::move(plan), kdna::tensor<float>(in, order), kdna::tensor<float>(out, order)});
    fill_input(item, s->x, order);
    return {[s] { s->net.run(s->plan, s->x.view(), s->y.view()); }, [s] { return channels_first(s->y.view()); }, text};
}

template <class Method>
runnable dynamic_layer(const json& item, const kdna_bench::layer_shape& shape, const kdna::plan_options& options) {
    kdna::shape4 in = shape.input();
    in.n = item.at("batch").get<kdna::index_t>();
    const auto run = [&](auto&& tensors) {
        return run_dynamic(item, Method::template make<kdna::backend::cpu>(shape, tensors), in, kdna::layout::nhwc,
                           options);
    };
    if (item.contains("weights")) return run(file_tensors(item.at("weights").get<std::string>()));
    return run(kdna_bench::random_tensors());
}

/// `name` as in tools/kdna_torch. Images are NCHW.
inline runnable dynamic_network(const json& item, const std::string& name, const kdna::plan_options& options) {
    using kdna::models::form;
    const auto a = kdna::models::arch_of(item.at("arch").get<std::string>());
    const std::string suffix = name.substr(kdna_bench::name_of(a).size());
    const form f = suffix.starts_with("_odconv")   ? form::odconv
                   : suffix.starts_with("_dyconv") ? form::dyconv
                   : suffix.starts_with("_kw")     ? form::kernel_warehouse
                   : suffix == "_dcd"              ? form::dcd
                   : suffix == "_plain"            ? form::plain
                                                   : form::kernel_dna;
    const auto weights = [&] {
        if (item.contains("weights")) return kdna::load_safetensors(item.at("weights").get<std::string>());
        return f == form::plain ? kdna_bench::plain_network::random(a) : kdna_bench::random_by_keys(name);
    };
    const kdna::shape4 in{item.at("batch").get<kdna::index_t>(), 3, 224, 224};
    return run_dynamic(item, kdna::models::load(a, f, weights()), in, kdna::layout::nchw, options);
}

}  // namespace detail

/// `form`: a layer's method, or a network's name. Without a file of weights they are random, and without one of tensors
/// the input is.
inline runnable our_dynamic(const json& item, const std::string& form, kdna::executor_ref executor) {
    if (item.contains("arch")) return detail::dynamic_network(item, form, {.executor = executor});
    const auto channels = item.at("channels").get<kdna::index_t>();
    const kdna_bench::layer_shape s{.kernel = {.o = channels, .i = channels, .kh = 3, .kw = 3},
                                    .extent = item.at("extent").get<kdna::index_t>()};
    const kdna::plan_options options{.executor = executor, .order = kdna::input_order::nhwc};
    using namespace kdna_bench;
    if (form == "plain") return detail::dynamic_layer<plain_method>(item, s, options);
    if (form == "odconv_1x") return detail::dynamic_layer<odconv_1x_method>(item, s, options);
    if (form == "odconv_4x") return detail::dynamic_layer<odconv_4x_method>(item, s, options);
    if (form == "condconv_4x") return detail::dynamic_layer<condconv_4x_method>(item, s, options);
    if (form == "dyconv_4x") return detail::dynamic_layer<dyconv_4x_method>(item, s, options);
    if (form == "dcd") return detail::dynamic_layer<dcd_method>(item, s, options);
    if (form == "kernel_warehouse_1x") return detail::dynamic_layer<warehouse_method>(item, s, options);
    if (form == "acdc") return detail::dynamic_layer<acdc_method>(item, s, options);
    if (form == "dymn_4x") return detail::dynamic_layer<dymn_4x_method>(item, s, options);
    if (form == "modulated") return detail::dynamic_layer<modulated_method>(item, s, options);
    if (form == "fdconv") return detail::dynamic_layer<fdconv_method<true>>(item, s, options);
    if (form == "fdconv_kernels") return detail::dynamic_layer<fdconv_method<false>>(item, s, options);
    if (form == "lsconv") return detail::dynamic_layer<lsconv_method>(item, s, options);
    if (form == "child") return detail::dynamic_layer<child_method>(item, s, options);
    throw std::invalid_argument("no method \"" + form + "\"");
}

}  // namespace peers
