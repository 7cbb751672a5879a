// A router without a list of its optional members is an error, so that a misspelt one cannot be lost.
// expect: router
// expect: optional_members
#include <kdna/nn/conv2d.hpp>

struct half_gate {
#ifndef SHOULD_NOT_COMPILE
    using optional_members = kdna::members<>;
#endif
    [[nodiscard]] static kdna::index_t input_channels() noexcept { return 4; }
    [[nodiscard]] static kdna::route_widths widths() noexcept { return {.channel = 4}; }
    [[nodiscard]] static kdna::index_t scratch_floats() noexcept { return 0; }
    void operator()(const float*, const kdna::route& out, float*) const noexcept {
        for (kdna::index_t c = 0; c < 4; ++c) out.channel[c] = 0.5F;
    }
};

void use(const kdna::dense_kernel& kernel) {
    const kdna::conv2d<kdna::dense_kernel, half_gate> layer(kernel, {.pad = 1});
}
