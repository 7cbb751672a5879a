// The edges of the depthwise nest by name: every kind of remainder of channels, windows and blocks.
#include "conv/edge_runner.hpp"

using namespace kdna_test;

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
    channels("channels == panel - 1", panel_width - 1);
    channels("channels == panel", panel_width);
    channels("channels == panel + 1", panel_width + 1);
    channels("narrow last panel", 2 * panel_width + lanes - 1);
    channels("wide last panel", 2 * panel_width + lanes + 1);
    e.require_ran({"two channels", "channels == lanes - 1", "channels == lanes", "channels == lanes + 1",
                   "channels == panel - 1", "channels == panel", "channels == panel + 1", "narrow last panel",
                   "wide last panel"});
}

TEST_CASE("Every position of a window against the edges of its input is computed by the depthwise nest") {
    edge_runner e;
    run_windows(e, way::depthwise);
}

TEST_CASE("Rows slide over every padding, stride and remainder of columns") {
    edge_runner e;
    const index_t c = lanes == 4 ? 36 : 40 / lanes * lanes;  // whole vectors, and too many for planes
    const auto slide = [&](const char* name, index_t kh, index_t kw, const kdna::conv_params& p, index_t h,
                           index_t columns) {
        e.run(name, way::depthwise, {.o = c, .i = c, .kh = kh, .kw = kw, .groups = c}, p, {2, c, h, columns});
    };
    for (const index_t taps : {3, 5, 7})
        for (const index_t stride : {1, 2}) {
            for (index_t columns = taps; columns < taps + 6; ++columns)
                slide("columns leave a remainder", taps, taps, {.stride = stride, .pad = taps / 2}, taps + 4, columns);
            for (index_t columns = 1; columns < taps; ++columns)
                slide("fewer columns than taps", taps, taps, {.stride = stride, .pad = taps - 1}, 3, columns);
            for (const index_t pad : {0, 1, 2, 4, 7})
                slide("unequal padding", taps, taps, {.stride = stride, .pad = {1, 0, pad, 7 - pad}}, taps + 1, 6);
            for (index_t rows = 1; rows < taps + 3; ++rows)
                slide("rows of taps in the padding", taps, taps, {.stride = {1, stride}, .pad = taps - 1}, rows, 7);
            slide("dilated rows", taps, taps, {.stride = {2, stride}, .pad = {3, 1}, .dilation = {2, 1}}, 11, 7);
            for (index_t kh = 1; kh < taps; ++kh)
                slide("lower than wide", kh, taps, {.stride = stride, .pad = {kh / 2, 1}}, 5, 6);
        }
    e.require_ran({"columns leave a remainder", "fewer columns than taps", "unequal padding",
                   "rows of taps in the padding", "dilated rows", "lower than wide"});
}

TEST_CASE("Every cut of a depthwise convolution into blocks and threads is computed", "[threads]") {
    edge_runner e;
    for (const index_t threads : {2, 3, 5, 16}) {
        e.run("rows shared out", way::depthwise,
              {.o = panel_width, .i = panel_width, .kh = 3, .kw = 3, .groups = panel_width}, {.pad = 1},
              {1, panel_width, 11, 4}, threads);
        e.run("channel panels shared out", way::depthwise,
              {.o = 5 * panel_width, .i = 5 * panel_width, .kh = 3, .kw = 3, .groups = 5 * panel_width}, {.pad = 1},
              {1, 5 * panel_width, 3, 3}, threads);
    }
    e.require_ran({"rows shared out", "channel panels shared out"});
}
