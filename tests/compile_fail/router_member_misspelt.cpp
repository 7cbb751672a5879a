// A router lists its optional members too: one that is misspelt is an error.
// expect: router
// expect: pool_grid
#include <kdna/nn/conv2d.hpp>

struct grid_gate {
    using optional_members = kdna::members<kdna::member::pool_grid>;

#ifdef SHOULD_NOT_COMPILE
    [[nodiscard]] static kdna::index_t pool_gird() noexcept { return 2; }
#else
    [[nodiscard]] static kdna::index_t pool_grid() noexcept { return 2; }
#endif
    [[nodiscard]] static kdna::index_t input_channels() noexcept { return 4; }
    [[nodiscard]] static kdna::route_widths widths() noexcept { return {.channel = 4}; }
    [[nodiscard]] static kdna::index_t scratch_floats() noexcept { return 0; }
    void operator()(const float* pooled, const kdna::route& out, float*) const noexcept {
        for (kdna::index_t c = 0; c < 4; ++c) out.channel[c] = pooled[4 * c];
    }
};

void use(const kdna::dense_kernel& kernel) {
    const kdna::conv2d<kdna::dense_kernel, grid_gate> layer(kernel, {.pad = 1});
}
