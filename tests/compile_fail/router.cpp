// conv2d takes any type that models router, and says so of one that does not.
// expect: router
#include <kdna/kdna.hpp>

// Gates every channel with one half. For SHOULD_NOT_COMPILE it forgets what it routes.
struct half_gate {
    using optional_members = kdna::members<>;

    [[nodiscard]] static kdna::index_t input_channels() noexcept { return 4; }
#ifndef SHOULD_NOT_COMPILE
    [[nodiscard]] static kdna::route_widths widths() noexcept { return {.channel = 4}; }
#endif
    [[nodiscard]] static kdna::index_t scratch_floats() noexcept { return 0; }
    void operator()(const float*, const kdna::route& out, float*) const noexcept {
        for (kdna::index_t c = 0; c < 4; ++c) out.channel[c] = 0.5F;
    }
};

void use(kdna::dense_kernel kernel) {
    const kdna::conv2d<kdna::dense_kernel, half_gate> layer(std::move(kernel), {.pad = 1}, {}, half_gate{});
}
