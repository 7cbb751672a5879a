// oneDNN 2 (3 has no Winograd): source, weights and destination in the layouts that it asks for, reordered beforehand;
// BatchNorm folded, ReLU fused.
#pragma once

#include <dnnl.hpp>
#include <memory>
#include <unordered_map>

#include "item.hpp"

namespace peers {

namespace detail {

/// A copy in memory of its own.
inline dnnl::memory reordered(const dnnl::engine& engine, dnnl::memory from, const dnnl::memory::desc& wanted) {
    dnnl::memory to(wanted, engine);
    dnnl::stream stream(engine);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
    return to;
}

/// What comes after the ':' in "brgconv:avx512_core".
inline std::string instruction_set(const std::string& implementation) {
    const auto colon = implementation.find(':');
    return colon == std::string::npos ? implementation : implementation.substr(colon);
}

}  // namespace detail

/// oneDNN's first choice for the algorithm, or its second if that is for the same instruction set: it is sometimes faster.
inline runnable onednn_layer(const layer& item, dnnl::algorithm algorithm, bool second_choice) {
    using dnnl::memory;
    using tag = memory::format_tag;
    const auto f32 = memory::data_type::f32;
    const auto& k = item.kernel;
    if (algorithm == dnnl::algorithm::convolution_winograd && (k.kh != 3 || k.groups != 1 || item.params.stride.h != 1))
        throw not_applicable();

    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    const memory::dims in{item.in.n, item.in.c, item.in.h, item.in.w};
    const memory::dims out{item.out.n, item.out.c, item.out.h, item.out.w};
    const memory::dims bias{k.o}, stride{item.params.stride.h, item.params.stride.w};
    const memory::dims before{item.params.pad.top, item.params.pad.left};
    const memory::dims after{item.params.pad.bottom, item.params.pad.right};
    memory::dims weights{k.o, k.i, k.kh, k.kw};
    if (k.groups > 1) weights = {k.groups, k.filters_per_group(), k.channels_per_group(), k.kh, k.kw};

    dnnl::post_ops after_conv;
    after_conv.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(after_conv);
    const dnnl::convolution_forward::desc wanted(dnnl::prop_kind::forward_inference, algorithm, {in, f32, tag::any},
                                                 {weights, f32, tag::any}, {bias, f32, tag::x}, {out, f32, tag::any},
                                                 stride, before, after);
    dnnl::convolution_forward::primitive_desc chosen(wanted, attributes, engine);
    if (const std::string first = chosen.impl_info_str();
        second_choice &&
        (!chosen.next_impl() || detail::instruction_set(chosen.impl_info_str()) != detail::instruction_set(first)))
        throw not_applicable();

    const auto moved = [&](const std::string& name, const memory::dims& dims, tag order, const memory::desc& to) {
        // oneDNN takes pointers that may be written to, and does not write here.
        const memory given({dims, f32, order}, engine, const_cast<float*>(item.values(name).data()));
        return detail::reordered(engine, given, to);
    };
    struct state {
        dnnl::engine engine;
        dnnl::stream stream;
        dnnl::convolution_forward conv;
        std::unordered_map<int, memory> arguments;
        memory::dims out;
    };
    const auto s = std::make_shared<state>(
        state{engine,
              dnnl::stream(engine),
              dnnl::convolution_forward(chosen),
              {{DNNL_ARG_SRC, moved("x", in, tag::nchw, chosen.src_desc())},
               {DNNL_ARG_WEIGHTS,
                moved("folded.weight", weights, k.groups > 1 ? tag::goihw : tag::oihw, chosen.weights_desc())},
               {DNNL_ARG_BIAS, moved("folded.bias", bias, tag::x, chosen.bias_desc())},
               {DNNL_ARG_DST, memory(chosen.dst_desc(), engine)}},
              out});
    return {[s] {
                s->conv.execute(s->stream, s->arguments);
                s->stream.wait();
            },
            [s] {
                const memory::desc plain(s->out, memory::data_type::f32, tag::nchw);
                const memory y = detail::reordered(s->engine, s->arguments.at(DNNL_ARG_DST), plain);
                const auto* first = static_cast<const float*>(y.get_data_handle());
                return std::vector<float>(first, first + plain.get_size() / sizeof(float));
            },
            chosen.impl_info_str()};
}

}  // namespace peers
