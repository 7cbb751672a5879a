// A user's file with warnings as errors, to which the headers are not a system's.
#include <kdna/dna/acdc.hpp>
#include <kdna/dna/dyconv.hpp>
#include <kdna/dna/kernel_warehouse.hpp>
#include <kdna/dna/odconv.hpp>
#include <kdna/dna/sparse_kernel.hpp>
#include <kdna/kdna.hpp>
#include <kdna/nn/dcd_conv2d.hpp>
#include <kdna/nn/network.hpp>
#include <kdna/nn/position_conv2d.hpp>
#include <kdna/nn/x_volution.hpp>
#ifdef WITH_IO
#include <kdna/models.hpp>
#endif

float use(const kdna::dense_kernel& kernel, const kdna::mixture_kernel& mixture, const kdna::squeeze_excite& gate,
          const kdna::odconv_router& attention, const kdna::tensor_view<const float>& x) {
    const kdna::conv2d plain(kernel, {.pad = 1}, {.act = kdna::activation::relu});
    const kdna::conv2d gated(kernel, {.pad = 1}, {.residual = true}, gate);
    const kdna::conv2d mixed(mixture, {.pad = 1}, {}, attention);
    const kdna::conv2d<kdna::dense_kernel, kdna::no_router, kdna::backend::reference> oracle(kernel, {.pad = 1});
    const kdna::x_volution attending(kernel, 0.5F);
    const auto a = plain(x), b = gated(x, a.view()), c = mixed(x), d = oracle(x), e = attending(x);
    return a(0, 0, 0, 0) + b(0, 0, 0, 0) + c(0, 0, 0, 0) + d(0, 0, 0, 0) + e(0, 0, 0, 0);
}

#ifdef WITH_IO
std::string load_and_run(const std::string& file, const kdna::tensor_view<const float>& image) {
    const auto net = kdna::models::load(kdna::models::arch::resnet18, file);
    const auto plan = net.plan(image.shape);
    return net(image).size() > 0 ? plan.explain() : std::string();
}
#endif
