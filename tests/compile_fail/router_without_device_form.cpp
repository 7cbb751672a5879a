// A router that nothing is known of has no place on a device, and the message says how to give it one.
// expect: take_apart

#include <kdna/cuda/layers/conv2d.hpp>
#include "../cuda/emulator/emulator.hpp"

namespace mine {

struct half_gate {
    using optional_members = kdna::members<>;

    [[nodiscard]] static kdna::index_t input_channels() { return 8; }
    [[nodiscard]] static kdna::route_widths widths() { return {.channel = 8}; }
    [[nodiscard]] static kdna::index_t scratch_floats() { return 0; }
    void operator()(const float*, const kdna::route& out, float*) const noexcept {
        for (int c = 0; c < 8; ++c) out.channel[c] = 0.5F;
    }
};
#ifndef SHOULD_NOT_COMPILE
kdna::cuda::router_recipe take_apart(const half_gate&) { return {}; }
#endif

}  // namespace mine

using layer = kdna::conv2d<kdna::dense_kernel, mine::half_gate, kdna::cuda::on<kdna_test::emulator>>;
kdna::shape4 use(const layer& l) { return l.plan({.n = 1, .c = 8, .h = 8, .w = 8}).output_shape(); }
