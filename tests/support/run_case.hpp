// Runs a convolution case on both backends against the oracle.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "support/conv_cases.hpp"
#include "support/executors.hpp"
#include "support/random_machine.hpp"

namespace kdna_test {

struct case_result {
    std::string problem;                            ///< empty: as it must be
    std::string plan;                               ///< explain() of the CPU plan
    double cpu_error = 0.0, reference_error = 0.0;  ///< in units of the tolerance
};

/// What is wrong with the means [N][C] that were taken of y, whose own values are exact here.
inline std::string wrong_means(const kdna::tensor_view<const float>& y, const std::vector<float>& means) {
    const double pixels = static_cast<double>(y.shape.h * y.shape.w);
    for (index_t n = 0; n < y.shape.n; ++n)
        for (index_t c = 0; c < y.shape.c; ++c) {
            double sum = 0.0, size = 0.0;
            for (index_t h = 0; h < y.shape.h; ++h)
                for (index_t w = 0; w < y.shape.w; ++w) {
                    sum += static_cast<double>(y(n, c, h, w));
                    size += std::abs(static_cast<double>(y(n, c, h, w)));
                }
            // One rounding for each addition, two for the factor and the product, as for any order of a sum.
            const double bound = (pixels + 2.0) * std::numeric_limits<float>::epsilon() * size / pixels + 1e-37;
            const double found = static_cast<double>(means[static_cast<std::size_t>(n * y.shape.c + c)]);
            if (!(std::abs(found - sum / pixels) <= bound))
                return kdna::concat("mean of channel ", c, " is ", found, ", not ", sum / pixels, "; ");
        }
    return {};
}

template <method Kind>
case_result run_case(rng& r, const conv_case& c) {
    frame x(r, c.in, c.x_at);
    x.fill(r);
    const kdna::shape4 out = kdna::output_shape(c.in, c.kernel, c.params);
    frame residual(r, out, c.in_place ? c.y_at : c.residual_at);
    residual.fill(r);
    const kdna::tensor_view<const float> added =
        c.residual ? kdna::tensor_view<const float>(residual.view()) : kdna::tensor_view<const float>{};
    const expectation e = expected(c, x.view(), added);

    case_result result;
    shuffling_executor threads(c.threads, r.bits());
    const bool takes_means = r.chance(0.4);
    std::vector<float> means(takes_means ? static_cast<std::size_t>(out.n * out.c) : 0);
    const auto run = [&](const auto& layer, const std::vector<double>& tolerance) {
        frame y(r, out, c.y_at);
        if (c.in_place) y.assign(residual.view());
        auto plan = layer.plan(c.in, {.executor = threads,
                                      .order = c.order,
                                      .transform_budget = c.may_transform ? std::numeric_limits<index_t>::max() : 0,
                                      .target = c.target,
                                      .channel_means = takes_means});
        const auto y_view = y.view();
        layer.run(plan, x.view(), y_view, c.in_place ? kdna::tensor_view<const float>(y_view) : added,
                  {.output = takes_means ? means.data() : nullptr});
        result.plan = plan.explain();
        if (takes_means) result.problem += wrong_means(y.view(), means);
        if (plan.output_shape() != e.shape) result.problem += "output shape; ";
        if (!y.guards_intact()) result.problem += "wrote outside its output; ";
        if (!x.guards_intact() || !residual.guards_intact()) result.problem += "wrote to its input; ";
        const double worst = worst_error(values_of(y.view()), e.value, tolerance, result.plan);
        if (!(worst <= 1.0)) result.problem += kdna::concat("error of ", worst, " tolerances; ");
        return worst;
    };
    result.reference_error = run(make_layer<Kind, kdna::backend::reference>(c), e.double_tolerance);
    if (!result.problem.empty()) result.problem = "reference: " + result.problem;
    result.cpu_error = run(make_layer<Kind, kdna::backend::cpu>(c), e.float_tolerance);
    return result;
}

/// What a case is an example of.
inline std::set<std::string> features_of(const conv_case& c, const case_result& result) {
    std::set<std::string> out{to_string(c.x_at), kdna::concat("to ", to_string(c.y_at))};
    const auto note = [&](const char* name, bool holds) {
        if (holds) out.insert(name);
    };
    const bool routed_spatial = c.router.widths().spatial > 0, depthwise = c.kernel.depthwise();
    const kdna::shape4 shape = kdna::output_shape(c.in, c.kernel, c.params);
    for (const char* words :
         {": direct,", ": im2col,", ": depthwise,", ": planes,", ": winograd", "input copied if strided",
          "input copied with its padding", "input copied with its circular padding", "gate in the copy",
          "gate in a panel copy", "gate in the input transform", "spatial between taps", "spatial in a panel copy",
          "spatial in the transformed kernel"})
        note(words, result.plan.find(words) != std::string::npos);
    if (c.params.mode == kdna::padding_mode::circular && c.params.pad != kdna::padding(0))
        for (const char* words : {": direct,", ": im2col,", ": depthwise,", ": planes,", ": winograd"})
            if (result.plan.find(words) != std::string::npos) out.insert(kdna::concat("circular padding", words));
    note("promised order", c.order == kdna::conv::input_order::nhwc);
    note("1x1 map", shape.h == 1 && shape.w == 1);
    note("residual in place", c.in_place);
    note("groups", c.kernel.groups > 1 && !depthwise);
    note("depthwise multiplier", c.kernel.groups == c.kernel.i && c.kernel.o > c.kernel.i && c.kernel.i > 1);
    note("depthwise with spatial adapter", depthwise && !c.spatial.empty());
    note("static and routed spatial factors", routed_spatial && !c.spatial.empty());
    note("depthwise with routed spatial factors", routed_spatial && depthwise);
    note("depthwise with channel factors",
         depthwise && (c.kind == method::gated || c.router.widths().channel > 0 || !c.odconv.channel.weight.empty()));
    note("depthwise", depthwise);
    note("1x1 kernel", c.kernel.taps() == 1);
    note("2x2 pooling", c.dcd.grid == 2);
    note("16 bits", c.storage != kdna::number_format::float32);
    note("basis cells", !c.warehouse.fc3.weight.empty());
    note("pieces of cells", c.kind == method::warehouse && c.warehouse.cell.taps() != c.kernel.taps());
    return out;
}

/// What the cases of a method must have been examples of.
inline std::set<std::string> required_features(method kind) {
    if (kind > method::mixed) {  // of the machinery they share the others have shown every part
        std::set<std::string> out{": direct,", ": im2col,", "1x1 kernel", "residual in place"};
        if (kind != method::dcd) out.insert({": depthwise,", "groups", "depthwise", "depthwise multiplier"});
        if (kind == method::odconv || kind == method::odconv_n) out.insert("depthwise with channel factors");
        if (kind == method::dcd) out.insert("2x2 pooling");
        if (kind == method::warehouse) out.insert({"basis cells", "pieces of cells"});
        if (is_static(kind)) out.insert(": winograd");
        if (kind != method::acdc && kind != method::sparse) out.insert("16 bits");
        return out;
    }
    std::set<std::string> out{": direct,",
                              ": im2col,",
                              ": depthwise,",
                              ": planes,",
                              "input copied if strided",
                              "input copied with its padding",
                              "circular padding: direct,",
                              "circular padding: im2col,",
                              "circular padding: depthwise,",
                              "circular padding: planes,",
                              "spatial between taps",
                              "spatial in a panel copy",
                              "promised order",
                              "1x1 map",
                              "residual in place",
                              "groups",
                              "depthwise multiplier",
                              "depthwise with spatial adapter",
                              "broadcast",
                              "16 bits"};
    for (const placement p : {placement::nchw, placement::nhwc, placement::padded_nchw, placement::padded_nhwc,
                              placement::permuted, placement::reversed}) {
        out.insert(to_string(p));
        out.insert(kdna::concat("to ", to_string(p)));
    }
    if (kind == method::plain || kind == method::gated)
        out.insert({": winograd", "circular padding: winograd", "spatial in the transformed kernel"});
    if (kind == method::gated)
        out.insert({"depthwise with channel factors", "gate in the copy", "gate in a panel copy",
                    "gate in the input transform"});
    if (kind == method::routed || kind == method::mixed)
        out.insert({"static and routed spatial factors", "depthwise with routed spatial factors",
                    "depthwise with channel factors"});
    return out;
}

/// `count` random cases of a method; stops at the first that fails.
template <method Kind>
void run_random_cases(std::uint64_t stream, int count) {
    double cpu = 0.0, reference = 0.0;
    std::set<std::string> seen;
    for (int i = 0; i < scaled(count); ++i) {
        rng r(stream, static_cast<std::uint64_t>(i));
        conv_case c = random_case(r, Kind);
        if (r.chance(0.03)) c.threads = r.between(2, 4);
        if (rng other(stream, static_cast<std::uint64_t>(i) + (1U << 30U)); other.chance(0.6)) {
            c.target = random_machine(other);
            if (other.chance(0.4) && Kind != method::acdc && Kind != method::sparse)
                c.store_in(other.pick({kdna::number_format::float16, kdna::number_format::bfloat16}));
        }
        const case_result result = run_case<Kind>(r, c);
        cpu = std::max(cpu, result.cpu_error);
        reference = std::max(reference, result.reference_error);
        seen.merge(features_of(c, result));
        if (result.problem.empty()) continue;
        KDNA_TEST_CASE_INFO(i, c.describe() + "\n" + result.plan);
        FAIL(result.problem);
    }
    // Not vacuous: rounding must show somewhere.
    CHECK(cpu > 0.01);
    CHECK(cpu <= 1.0);
    CHECK(reference <= 1.0);
    if (scaled(count) < 300) return;
    for (const std::string& feature : required_features(Kind)) {
        INFO(feature);
        CHECK(seen.contains(feature));
    }
}

}  // namespace kdna_test
