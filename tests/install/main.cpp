// A user's program: a parent, and a child that shares its kernel.
#include <cmath>
#include <cstdio>
#include <vector>

#include <kdna/kdna.hpp>

int main() {
    const std::vector<float> weights(8 * 8 * 9, 0.1F), filter(8, 1.0F), x(8 * 6 * 6, 1.0F);
    const auto parent = kdna::parent_kernel::pack({.o = 8, .i = 8, .kh = 3, .kw = 3}, weights);
    const kdna::conv2d plain(parent, {.pad = 1});
    const kdna::conv2d child(parent.child({.filter = filter}), {.pad = 1});

    const auto view = kdna::nchw_view(x.data(), 1, 8, 6, 6);
    const float a = plain(view)(0, 0, 2, 2), b = child(view)(0, 0, 2, 2);
    std::printf("plain %g, child %g\n", static_cast<double>(a), static_cast<double>(b));
    return std::abs(a - 7.2F) < 1e-4F && std::abs(b - 14.4F) < 1e-4F ? 0 : 1;
}
