// Random layers of all methods in all precisions. `Make` gives the device that a case runs on.
#pragma once

#include "cuda/device_layers.hpp"

namespace kdna_test {

inline constexpr precision all_precisions[] = {precision::f32, precision::tf32, precision::f16, precision::bf16};

template <method Kind, class Make>
void check_random_layers(std::uint64_t stream, int count, precision p) {
    for (int i = 0; i < scaled(count); ++i) {
        rng r(stream + static_cast<std::uint64_t>(p) * 100, static_cast<std::uint64_t>(i));
        const conv_case c = random_case(r, Kind, 2e5);
        KDNA_TEST_CASE_INFO(i, kdna::concat(kdna::cuda::to_string(p), " ", c.describe()));
        auto device = Make::make(r);
        kdna::cuda::device_options options{.numbers = p};
        if (r.chance(0.5)) options.assembly_budget = 1;
        check_case<Kind>(device, c, r, options, {});
    }
}

template <class Make>
void check_plain_layers() {
    for (const precision p : all_precisions) check_random_layers<method::plain, Make>(900, 150, p);
}
/// Every activation, with and without wide stores, products and depthwise layers.
template <class Make>
void check_activations() {
    for (const precision p : all_precisions)
        for (const kdna::activation_kind kind : all_activation_kinds())
            for (int i = 0; i < 2; ++i) {
                rng r(914 + static_cast<std::uint64_t>(p) * 100,
                      static_cast<std::uint64_t>(kind) * 2 + (i == 0 ? 0 : 1));
                conv_case c = random_case(r, method::plain, 1e5);
                c.act = {r, kind, c.kernel.o};
                KDNA_TEST_CASE_INFO(i, kdna::concat(kdna::cuda::to_string(p), " ", c.describe()));
                auto device = Make::make(r);
                check_case<method::plain>(device, c, r, {.numbers = p}, {});
            }
}
template <class Make>
void check_gated_layers() {
    for (const precision p : all_precisions) check_random_layers<method::gated, Make>(901, 150, p);
}
template <class Make>
void check_routed_layers() {
    for (const precision p : all_precisions) check_random_layers<method::odconv, Make>(902, 80, p);
}
template <class Make>
void check_mixtures() {
    for (const precision p : all_precisions) {
        check_random_layers<method::condconv, Make>(903, 50, p);
        check_random_layers<method::dyconv, Make>(904, 50, p);
        check_random_layers<method::odconv_n, Make>(905, 80, p);
    }
}
template <class Make>
void check_warehouses() {
    for (const precision p : all_precisions) check_random_layers<method::warehouse, Make>(908, 100, p);
}
template <class Make>
void check_decompositions() {
    for (const precision p : all_precisions) check_random_layers<method::dcd, Make>(909, 100, p);
}
template <class Make>
void check_runtime_kernels() {
    for (const precision p : all_precisions)
        for (int i = 0; i < scaled(80); ++i) {
            rng r(910 + static_cast<std::uint64_t>(p) * 100, static_cast<std::uint64_t>(i));
            const conv_case c = random_case(r, method::plain, 2e5);
            KDNA_TEST_CASE_INFO(i, kdna::concat(kdna::cuda::to_string(p), " given ", c.describe()));
            auto device = Make::make(r);
            kdna::cuda::device_options options{.numbers = p};
            if (r.chance(0.5)) options.assembly_budget = 1;
            check_given_kernels(device, c, r, options, {});
        }
}
template <class Make>
void check_x_volutions() {
    for (const precision p : all_precisions)
        for (int i = 0; i < scaled(60); ++i) {
            rng r(911 + static_cast<std::uint64_t>(p) * 100, static_cast<std::uint64_t>(i));
            const conv_case any = random_case(r, method::plain, 5e4);
            conv_case c;
            c.in = any.in;
            c.params.stride = any.params.stride;
            c.residual = any.residual;
            c.kernel = {.o = c.in.c, .i = c.in.c, .kh = r.pick<index_t>({1, 3, 5}), .kw = r.pick<index_t>({1, 3})};
            c.act = random_activation(r, c.kernel.o);
            c.params.dilation = r.between(1, 2);
            c.params.pad = {c.kernel.kh, c.kernel.kw};
            c.in.h = std::max<index_t>(c.in.h, 9);
            c.in.w = std::max<index_t>(c.in.w, 5);
            randomise_tensors(r, c);
            KDNA_TEST_CASE_INFO(i, kdna::concat(kdna::cuda::to_string(p), " x-volution ", c.describe()));
            auto device = Make::make(r);
            check_x_volution(device, c, r, {.numbers = p}, {});
        }
}
template <class Make>
void check_static_sources() {
    check_random_layers<method::acdc, Make>(906, 10, precision::f32);
    check_random_layers<method::sparse, Make>(907, 10, precision::f32);
}

}  // namespace kdna_test
