// position_conv2d takes any type that models position_kernel, and says so of one that does not.
// expect: position_kernel
#include <kdna/nn/position_conv2d.hpp>

// A mean over a 3x3 window. For SHOULD_NOT_COMPILE it may throw, which a run could not survive.
struct window_mean {
    [[nodiscard]] static kdna::index_t channels() noexcept { return 4; }
    [[nodiscard]] static kdna::index_t groups() noexcept { return 1; }
    [[nodiscard]] static kdna::extent2 window() noexcept { return 3; }
    void operator()(const kdna::neighbourhood&, float* weights) const
#ifndef SHOULD_NOT_COMPILE
        noexcept
#endif
    {
        for (int i = 0; i < 9; ++i) weights[i] = 1.0F / 9.0F;
    }
};

void use() { const kdna::position_conv2d<window_mean> layer(window_mean{}); }
