// Random layers of all methods, as on the emulated device (../layers.cpp), by nvcc's programs.
#include "cuda/ptx/device.hpp"
#include "cuda/random_layers.hpp"

using namespace kdna_test;

namespace {

struct make_device {
    // With few processors large tiles are taken, with many the depth is cut.
    static ptx_device make(rng& r) { return ptx_device(r.pick({1, 4, 100}), r.bits()); }
};

template <method Kind>
void check_all_precisions(std::uint64_t stream, int count) {
    for (const precision p : all_precisions) check_random_layers<Kind, make_device>(stream, count, p);
}

/// More filters than a small tile has, and one processor: channels by all ways of staging.
template <method Kind>
void check_large_tiles(std::uint64_t stream) {
    for (const precision p : all_precisions)
        for (const index_t channels : {4, 6, 13, 32}) {
            rng r(stream, static_cast<std::uint64_t>(channels));
            conv_case c;
            c.kind = Kind;
            c.kernel = {.o = 96 + channels, .i = channels, .kh = 3, .kw = 3};
            c.in = {2, channels, 11, 9};
            c.params.pad = 1;
            c.residual = true;
            randomise_tensors(r, c);
            if (Kind == method::plain) c.spatial.clear();  // no factors
            KDNA_TEST_CASE_INFO(channels, kdna::concat(kdna::cuda::to_string(p), " ", c.describe()));
            ptx_device device(1);
            check_case<Kind>(device, c, r, {.numbers = p}, {});
        }
}

}  // namespace

TEST_CASE("Plain layers by nvcc's programs are the formula's") { check_all_precisions<method::plain>(900, 60); }
TEST_CASE("Every activation by nvcc's programs is the formula's") { check_activations<make_device>(); }
TEST_CASE("Gated layers by nvcc's programs are the formula's") { check_all_precisions<method::gated>(901, 60); }
TEST_CASE("Layers with all factors routed, by nvcc's programs, are the formula's") {
    check_all_precisions<method::odconv>(902, 30);
}
TEST_CASE("Mixtures by nvcc's programs are the formula's") {
    check_all_precisions<method::condconv>(903, 15);
    check_all_precisions<method::dyconv>(904, 15);
    check_all_precisions<method::odconv_n>(905, 25);
}
TEST_CASE("Layers of a warehouse's cells by nvcc's programs are the formula's") {
    check_all_precisions<method::warehouse>(908, 25);
}
TEST_CASE("DCD layers by nvcc's programs are the formula's") { check_all_precisions<method::dcd>(909, 25); }
TEST_CASE("Kernels that come with a call, by nvcc's programs, are the formula's") {
    check_runtime_kernels<make_device>();
}
TEST_CASE("X-volutions by nvcc's programs are the formula's") { check_x_volutions<make_device>(); }
TEST_CASE("Layers of large tiles by nvcc's programs are the formula's") {
    check_large_tiles<method::plain>(912);
    check_large_tiles<method::gated>(913);
}
TEST_CASE("Static sources by nvcc's programs are the formula's") { check_static_sources<make_device>(); }
