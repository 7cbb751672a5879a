// The edges of the loop nests by name: every kind of remainder of tiles, panels, blocks, runs and windows. Each name
// must have run, on the algorithm that it is about.
#include <map>

#include "support/run_case.hpp"

using namespace kdna_test;
using kdna::kernel_shape;
using kdna::conv::input_order;

namespace {

constexpr index_t width = 2 * lanes, tallest = kdna::conv::max_tile_height;
constexpr index_t shortest = kdna::conv::shortest_direct_run;

/// Ways through the loop nests, by the words of explain() that tell them: rows read in place, rows of a copy, kernel rows of
/// a padded copy, copied windows, and depthwise.
enum class way { in_place, copied, kernel_rows, im2col, depthwise };

std::string words_of(way w) {
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
    void run(const std::string& name, way w, const kernel_shape& k, const kdna::conv_params& params,
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
            c.order = in_order ? input_order::nhwc : input_order::any;
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

/// A map of so many output pixels, as square as it gets.
kdna::shape4 map_of(index_t pixels, index_t channels) {
    index_t h = 1;
    for (index_t i = 1; i * i <= pixels; ++i)
        if (pixels % i == 0) h = i;
    return {1, channels, h, pixels / h};
}

}  // namespace

TEST_CASE("Every remainder of pixels by tile height is computed") {
    edge_runner e;
    for (const way w : {way::in_place, way::copied}) {
        const auto pixels = [&](const char* name, index_t count) {
            e.run(name, w, {.o = 5, .i = shortest}, {}, map_of(count, shortest));
            e.run(name, w, {.o = width + 1, .i = shortest, .kh = 3, .kw = 3}, {.pad = 1}, map_of(count, shortest));
        };
        pixels("pixels == tile", tallest);
        for (index_t p = 1; p < tallest; ++p) pixels("pixels < tile", p);
        for (index_t p = tallest + 1; p < 2 * tallest; ++p) pixels("pixels > tile", p);
        pixels("pixels % tile == 0", 3 * tallest);
        pixels("7x7 and 14x14", 49);
        pixels("7x7 and 14x14", 196);
        for (const index_t p : {31, 61, 127}) pixels("prime pixels", p);
    }
    e.require_ran(
        {"pixels == tile", "pixels < tile", "pixels > tile", "pixels % tile == 0", "7x7 and 14x14", "prime pixels"});
}

TEST_CASE("Every remainder of filters by panel width is computed") {
    edge_runner e;
    for (const way w : {way::in_place, way::copied}) {
        const auto filters = [&](const char* name, index_t o) {
            e.run(name, w, {.o = o, .i = 9, .kh = 3, .kw = 3}, {.pad = 1}, {2, 9, 3, 5});
            e.run(name, w, {.o = 3 * o, .i = 27, .groups = 3}, {}, {1, 27, 3, 5});
        };
        filters("one filter", 1);
        filters("filters == lanes - 1", lanes - 1);
        filters("filters == lanes", lanes);
        filters("filters == lanes + 1", lanes + 1);
        filters("filters == panel - 1", width - 1);
        filters("filters == panel", width);
        filters("filters == panel + 1", width + 1);
        filters("narrow last panel", 2 * width + lanes);
        filters("wide last panel", 2 * width + lanes + 1);
        filters("filters % panel == 0", 3 * width);
    }
    e.require_ran({"one filter", "filters == lanes - 1", "filters == lanes", "filters == lanes + 1",
                   "filters == panel - 1", "filters == panel", "filters == panel + 1", "narrow last panel",
                   "wide last panel", "filters % panel == 0"});
}

TEST_CASE("Every length of a channel run is computed by the right algorithm") {
    edge_runner e;
    const kernel_shape three{.o = 6, .i = 1, .kh = 3, .kw = 3};
    const auto run = [&](const char* name, way w, index_t channels, index_t groups = 1) {
        kernel_shape k = three;
        k.i = channels * groups;
        k.o = 6 * groups;
        k.groups = groups;
        e.run(name, w, k, {.pad = 1}, {1, k.i, 5, 6});
    };
    run("run == shortest_direct_run", way::in_place, shortest);
    run("run > shortest_direct_run", way::in_place, shortest + 1);
    run("run > shortest_direct_run", way::in_place, 8 * shortest + 3);
    run("run == shortest_direct_run, grouped", way::in_place, shortest, 3);
    for (index_t c = 1; c < shortest; ++c) {
        run("run < shortest_direct_run", way::kernel_rows, c);
        run("run < shortest_direct_run, grouped", way::im2col, c, 2);
    }
    run("run of any length copied", way::copied, 3 * lanes + 1, 2);
    e.run("one tap, short run", way::in_place, {.o = 4, .i = 3}, {}, {1, 3, 4, 4});
    e.run("one tap, one channel", way::in_place, {.o = 4, .i = 1}, {}, {2, 1, 4, 4});
    e.require_ran({"run < shortest_direct_run", "run < shortest_direct_run, grouped", "run == shortest_direct_run",
                   "run > shortest_direct_run", "run == shortest_direct_run, grouped", "run of any length copied",
                   "one tap, short run", "one tap, one channel"});
}

TEST_CASE("Every remainder of depthwise channels is computed") {
    edge_runner e;
    const auto channels = [&](const char* name, index_t c) {
        for (const index_t extent : {1, 5, 7})
            e.run(name, way::depthwise, {.o = c, .i = c, .kh = 3, .kw = 3, .groups = c}, {.stride = {1, 2}, .pad = 1},
                  {2, c, extent, extent + 1});
        e.run(name, way::depthwise, {.o = c, .i = c, .kh = 5, .kw = 1, .groups = c},
              {.pad = {3, 0, 0, 2}, .dilation = 2}, {1, c, 9, 3});
        e.run(name, way::depthwise, {.o = c, .i = c, .groups = c}, {}, {1, c, 3, 3}, 5);
    };
    channels("two channels", 2);
    channels("channels == lanes - 1", lanes - 1);
    channels("channels == lanes", lanes);
    channels("channels == lanes + 1", lanes + 1);
    channels("channels == panel - 1", width - 1);
    channels("channels == panel", width);
    channels("channels == panel + 1", width + 1);
    channels("narrow last panel", 2 * width + lanes - 1);
    channels("wide last panel", 2 * width + lanes + 1);
    e.require_ran({"two channels", "channels == lanes - 1", "channels == lanes", "channels == lanes + 1",
                   "channels == panel - 1", "channels == panel", "channels == panel + 1", "narrow last panel",
                   "wide last panel"});
}

TEST_CASE("Every position of a window against the edges of its input is computed") {
    edge_runner e;
    for (const way w : {way::in_place, way::copied, way::depthwise}) {
        const bool depthwise = w == way::depthwise;
        const auto window = [&](const char* name, index_t kh, index_t kw, const kdna::conv_params& p, index_t h,
                                index_t columns) {
            const index_t c = depthwise ? lanes + 1 : 9;
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
        window("one column", 3, 1, {.pad = {1, 0}}, 11, 1);
    }
    e.require_ran({"kernel larger than the map", "kernel fills the map", "1x1 output of a 1x1 map",
                   "windows wholly in the padding", "padding on one side", "stride larger than the kernel",
                   "stride leaves a remainder", "one stride per axis", "dilation over the padding",
                   "dilation skips the whole map", "one row", "one column"});
}

TEST_CASE("Every cut of the work into blocks, chunks and threads is computed", "[threads]") {
    edge_runner e;
    // Rows of 4 KiB and more: the blocks of pixels are only a few tiles high.
    e.run("many blocks, copied input", way::copied, {.o = 3, .i = 120, .kh = 3, .kw = 3}, {.pad = 1}, {1, 120, 14, 17});
    e.run("many blocks, rows in place", way::in_place, {.o = 2, .i = 1031}, {}, {1, 1031, 29, 31});
    e.run("blocks of one tile", way::im2col, {.o = 7, .i = 7 * (shortest - 1), .kh = 13, .kw = 13, .groups = 7},
          {.pad = 6}, {1, 7 * (shortest - 1), 6, 17});
    e.run("a remnant that joins the last block", way::in_place, {.o = 1, .i = 1031}, {},
          {1, 1031, 1, 14 * 5 * tallest + 1});
    for (const index_t threads : {2, 3, 5, 16}) {
        e.run("more threads than tasks", way::in_place, {.o = 3, .i = 8}, {}, {1, 8, 1, 1}, threads);
        e.run("panels shared out", way::in_place, {.o = 4 * width + 1, .i = 8, .kh = 3, .kw = 3}, {.pad = 1},
              {1, 8, 2, 3}, threads);
        e.run("panels shared out", way::copied, {.o = 4 * width + 1, .i = 8, .kh = 3, .kw = 3}, {.pad = 1},
              {1, 8, 2, 3}, threads);
        e.run("blocks shared out", way::copied, {.o = 3, .i = 8, .kh = 3, .kw = 3}, {.pad = 1}, {1, 8, 13, 11},
              threads);
        e.run("groups and samples shared out", way::im2col, {.o = 6, .i = 6, .kh = 3, .kw = 3, .groups = 3}, {},
              {3, 6, 5, 5}, threads);
        e.run("rows shared out", way::depthwise, {.o = width, .i = width, .kh = 3, .kw = 3, .groups = width},
              {.pad = 1}, {1, width, 11, 4}, threads);
        e.run("channel panels shared out", way::depthwise,
              {.o = 5 * width, .i = 5 * width, .kh = 3, .kw = 3, .groups = 5 * width}, {.pad = 1}, {1, 5 * width, 3, 3},
              threads);
    }
    e.require_ran({"many blocks, copied input", "many blocks, rows in place", "blocks of one tile",
                   "a remnant that joins the last block", "more threads than tasks", "panels shared out",
                   "blocks shared out", "groups and samples shared out", "rows shared out",
                   "channel panels shared out"});
}
