// The edges of the matrix product's nest by name: every kind of remainder of tiles, panels, blocks, runs and windows.
#include <kdna/conv/product/planner.hpp>

#include "conv/edge_runner.hpp"

using namespace kdna_test;
using kdna::kernel_shape;

namespace {

constexpr index_t tallest = kdna::conv::product::max_tile_height;
constexpr index_t shortest = kdna::conv::product::shortest_direct_run;

/// A map of `pixels` pixels, as square as it gets.
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
            e.run(name, w, {.o = panel_width + 1, .i = shortest, .kh = 3, .kw = 3}, {.pad = 1},
                  map_of(count, shortest));
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
        filters("filters == panel - 1", panel_width - 1);
        filters("filters == panel", panel_width);
        filters("filters == panel + 1", panel_width + 1);
        filters("narrow last panel", 2 * panel_width + lanes);
        filters("wide last panel", 2 * panel_width + lanes + 1);
        filters("filters % panel == 0", 3 * panel_width);
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

TEST_CASE("Every position of a window against the edges of its input is computed by matrix products") {
    for (const way w : {way::in_place, way::copied}) {
        edge_runner e;
        run_windows(e, w);
    }
}

TEST_CASE("Every cut of a matrix product into blocks, chunks and threads is computed", "[threads]") {
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
        e.run("panels shared out", way::in_place, {.o = 4 * panel_width + 1, .i = 8, .kh = 3, .kw = 3}, {.pad = 1},
              {1, 8, 2, 3}, threads);
        e.run("panels shared out", way::copied, {.o = 4 * panel_width + 1, .i = 8, .kh = 3, .kw = 3}, {.pad = 1},
              {1, 8, 2, 3}, threads);
        e.run("blocks shared out", way::copied, {.o = 3, .i = 8, .kh = 3, .kw = 3}, {.pad = 1}, {1, 8, 13, 11},
              threads);
        e.run("groups and samples shared out", way::im2col, {.o = 6, .i = 6, .kh = 3, .kw = 3, .groups = 3}, {},
              {3, 6, 5, 5}, threads);
    }
    e.require_ran({"many blocks, copied input", "many blocks, rows in place", "blocks of one tile",
                   "a remnant that joins the last block", "more threads than tasks", "panels shared out",
                   "blocks shared out", "groups and samples shared out"});
}
