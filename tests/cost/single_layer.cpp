// A source file with the single-layer header, and one KernelDNA layer run.
#include <vector>

#include <kdna/kdna.hpp>

float cost(const std::vector<float>& weights, const std::vector<float>& filter, const kdna::squeeze_excite& gate,
           const std::vector<float>& x) {
    const auto parent = kdna::parent_kernel::pack({.o = 32, .i = 32, .kh = 3, .kw = 3}, weights);
    const kdna::conv2d child(parent.child({.filter = filter}), {.pad = 1}, {.act = kdna::activation::relu}, gate);
    const auto y = child(kdna::nchw_view(x.data(), 1, 32, 8, 8));
    return y(0, 0, 0, 0);
}
