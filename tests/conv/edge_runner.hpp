// Runs the edges of the loop nests by name. Each name must have run, on the algorithm that it is about.
#pragma once

#include <initializer_list>
#include <map>
#include <string>

#include "support/catch.hpp"
#include "support/run_case.hpp"

namespace kdna_test {

/// Filters of a panel.
inline constexpr index_t panel_width = 2 * lanes;

/// Ways through the loop nests, by the words of explain() that tell them: rows read in place, rows of a copy, kernel
/// rows of a padded copy, copied windows, and depthwise.
enum class way { in_place, copied, kernel_rows, im2col, depthwise };

inline std::string words_of(way w) {
    switch (w) {
        case way::in_place:
        case way::copied: return ": direct, ";
        case way::kernel_rows: return "input copied with its padding";
        case way::im2col: return ": im2col, ";
        case way::depthwise: return ": depthwise, ";
    }
    return "?";
}

/// Runs variants of a named edge: with and without residual and adapter, from both kinds of layout.
class edge_runner {
public:
    void run(const std::string& name, way w, const kdna::kernel_shape& k, const kdna::conv_params& params,
             const kdna::shape4& in, index_t threads = 1) {
        for (int variant = 0; variant < 4; ++variant) {
            rng r(100, static_cast<std::uint64_t>(cases_));
            conv_case c;
            c.kernel = k;
            c.params = params;
            c.in = in;
            c.threads = threads;
            randomise_call(r, c);
            randomise_tensors(r, c);
            c.may_transform = false;
            const bool in_order = w == way::in_place || (w != way::copied && variant % 2 == 0);
            c.x_at = in_order ? r.pick({placement::nhwc, placement::padded_nhwc}) : placement::nchw;
            c.order = in_order ? kdna::conv::input_order::nhwc : kdna::conv::input_order::any;
            c.residual = variant >= 2;
            c.in_place = c.in_place && c.residual;
            const case_result result = run_case<method::plain>(r, c);
            KDNA_TEST_CASE_INFO(cases_, name + ": " + c.describe() + "\n" + result.plan);
            if (!result.problem.empty()) FAIL(result.problem);
            ++cases_;
            // Few channels may be computed in planes; such a case counts for no name here (see planes.cpp).
            if (w == way::depthwise && result.plan.find(": planes, ") != std::string::npos) continue;
            REQUIRE(result.plan.find(words_of(w)) != std::string::npos);
            REQUIRE((result.plan.find("input copied if strided") != std::string::npos) ==
                    (w == way::copied || (w != way::kernel_rows && !in_order)));
            ++ran_[name];
        }
    }
    void require_ran(std::initializer_list<const char*> names) {
        for (const char* name : names) {
            INFO(name);
            CHECK(ran_[name] > 0);
        }
        CHECK(ran_.size() == names.size());
    }

private:
    int cases_ = 0;
    std::map<std::string, int> ran_;
};

/// Every position of a window against the edges of its input.
inline void run_windows(edge_runner& e, way w) {
    const bool depthwise = w == way::depthwise;
    const auto window = [&](const char* name, index_t kh, index_t kw, const kdna::conv_params& p, index_t h,
                            index_t columns) {
        // With vectors of 4 and 8, fewer channels than these are computed in planes; with 4, so is a vector's rest.
        const index_t c = depthwise ? (lanes == 4 ? 36 : lanes == 8 ? 33 : lanes + 1) : 9;
        e.run(name, w, {.o = depthwise ? c : 7, .i = c, .kh = kh, .kw = kw, .groups = depthwise ? c : 1}, p,
              {2, c, h, columns});
    };
    window("kernel larger than the map", 7, 5, {.pad = {3, 2}}, 2, 1);
    window("kernel fills the map", 4, 5, {}, 4, 5);
    window("1x1 output of a 1x1 map", 3, 3, {.pad = 1}, 1, 1);
    window("windows wholly in the padding", 2, 1, {.pad = {5, 4, 3, 6}}, 3, 2);
    window("padding on one side", 3, 3, {.pad = {2, 0, 0, 0}}, 4, 5);
    window("padding on one side", 3, 3, {.pad = {0, 2, 0, 0}}, 4, 5);
    window("padding on one side", 3, 3, {.pad = {0, 0, 2, 0}}, 4, 5);
    window("padding on one side", 3, 3, {.pad = {0, 0, 0, 2}}, 4, 5);
    window("stride larger than the kernel", 2, 2, {.stride = {3, 4}, .pad = {1, 0}}, 8, 9);
    window("stride leaves a remainder", 3, 3, {.stride = 2}, 8, 8);
    window("one stride per axis", 3, 3, {.stride = {1, 3}, .pad = 1}, 6, 8);
    window("dilation over the padding", 3, 3, {.pad = {4, 3, 2, 5}, .dilation = {3, 4}}, 5, 4);
    window("dilation skips the whole map", 3, 3, {.pad = 5, .dilation = 5}, 2, 2);
    window("one row", 1, 3, {.pad = {0, 1}}, 1, 11);
    window("one column", 3, 1, {.pad = {1, 0}}, 9, 1);
    e.require_ran({"kernel larger than the map", "kernel fills the map", "1x1 output of a 1x1 map",
                   "windows wholly in the padding", "padding on one side", "stride larger than the kernel",
                   "stride leaves a remainder", "one stride per axis", "dilation over the padding",
                   "dilation skips the whole map", "one row", "one column"});
}

}  // namespace kdna_test
