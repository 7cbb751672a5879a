// Depthwise convolutions of few channels on planes: every remainder of columns, rows and taps, strides, and threads.
#include <map>

#include <kdna/conv/planes/plan.hpp>

#include "support/run_case.hpp"

using namespace kdna_test;
using kdna::kernel_shape;
using kdna::padding_mode;

namespace {

constexpr index_t tile_rows = kdna::conv::planes::tile_rows, most_taps = kdna::conv::planes::tap_rows;

/// Runs variants of a case, with both modes of padding, and notes under which name it ran on planes.
class plane_runner {
public:
    void run(const std::string& name, index_t channels, index_t kh, index_t kw, kdna::conv_params params, index_t h,
             index_t w, index_t threads = 1, index_t samples = 1) {
        for (const padding_mode mode : {padding_mode::zeros, padding_mode::circular}) {
            rng r(150, static_cast<std::uint64_t>(cases_++));
            conv_case c;
            c.kernel = {.o = channels, .i = channels, .kh = kh, .kw = kw, .groups = channels};
            c.params = params;
            c.params.mode = mode;
            c.in = {samples, channels, h, w};
            c.threads = threads;
            randomise_call(r, c);
            randomise_tensors(r, c);
            const case_result result = run_case<method::plain>(r, c);
            KDNA_TEST_CASE_INFO(cases_, name + ": " + c.describe() + "\n" + result.plan);
            if (!result.problem.empty()) FAIL(result.problem);
            if (result.plan.find(": planes, ") != std::string::npos) ++ran_[name];
        }
    }
    /// At least `least` cases of a name, and every name, ran on planes.
    void require_ran(std::initializer_list<const char*> names, int least = 2) {
        for (const char* name : names) {
            INFO(name);
            CHECK(ran_[name] >= least);
        }
        CHECK(ran_.size() == names.size());
    }

private:
    int cases_ = 0;
    std::map<std::string, int> ran_;
};

}  // namespace

TEST_CASE("Every remainder of columns and rows is computed on planes") {
    plane_runner e;
    for (const index_t w :
         {2 * lanes, 2 * lanes + 1, 3 * lanes - 1, 3 * lanes, 3 * lanes + 1, 4 * lanes, 4 * lanes + 3})
        e.run("columns", 3, 5, 5, {.pad = 2}, 7, w);
    for (index_t h = 1; h <= 2 * tile_rows + 1; ++h)
        e.run("rows", 2, 7, 7, {.pad = {h < 3 ? h : 3, 3}}, h + 6, 3 * lanes);
    e.run("one channel", 1, 11, 11, {.pad = 5}, 13, 2 * lanes);
    e.run("several samples", 3, 5, 7, {.pad = {2, 3}}, 9, 2 * lanes, 1, 3);
    e.require_ran({"columns", "rows", "one channel", "several samples"});
}

TEST_CASE("Every number of taps is computed on planes") {
    plane_runner e;
    for (index_t k = 2; k <= 3 * most_taps + 1; ++k) {
        e.run("rows of taps", 2, k, 3, {.pad = {k / 2, 1}}, std::max<index_t>(k, 5), 2 * lanes + 1);
        e.run("columns of taps", 2, 3, k, {.pad = {1, k / 2}}, 5, std::max(k, 2 * lanes));
        e.run("kernels without padding", 3, k, k, {}, k + 5, 3 * lanes + k);
    }
    e.run("a kernel as large as the map", 3, 15, 15, {.pad = 15}, 15, 15);
    e.run("padding on one side", 3, 5, 5, {.pad = {4, 0, 0, 0}}, 9, 2 * lanes);
    e.run("padding on one side", 3, 5, 5, {.pad = {0, 4, 0, 0}}, 9, 2 * lanes);
    e.run("padding on one side", 3, 5, 5, {.pad = {0, 0, 4, 0}}, 9, 2 * lanes);
    e.run("padding on one side", 3, 5, 5, {.pad = {0, 0, 0, 4}}, 9, 2 * lanes);
    e.require_ran({"rows of taps", "columns of taps", "kernels without padding", "a kernel as large as the map",
                   "padding on one side"});
}

TEST_CASE("Strides and dilations are computed on planes", "[threads]") {
    plane_runner e;
    for (index_t stride = 1; stride <= 6; ++stride)
        for (const index_t k : {3, 11, 19})
            for (const index_t more : {0, 1, 5})
                e.run("strides", 3, k, k, {.stride = stride, .pad = k / 2}, 2 * k + more, (lanes + more) * stride + k);
    e.run("one stride per axis", 3, 7, 5, {.stride = {1, 3}, .pad = {3, 2}}, 11, 5 * lanes);
    e.run("one stride per axis", 3, 7, 5, {.stride = {4, 1}, .pad = {3, 2}}, 31, 2 * lanes);
    for (const index_t dilation : {2, 3, 4})
        for (const index_t stride : {1, 2, 4})
            e.run("dilations", 3, 5, 5, {.stride = stride, .pad = 2 * dilation, .dilation = dilation}, 19,
                  3 * lanes * stride);
    for (const index_t threads : {2, 3, 5, 16}) {
        e.run("threads", 3, 11, 11, {.pad = 5}, 23, 2 * lanes, threads);
        e.run("threads", 1, 7, 7, {.stride = 2, .pad = 3}, 61, 2 * lanes, threads, 2);
    }
    e.require_ran({"strides", "one stride per axis", "dilations", "threads"});
}
