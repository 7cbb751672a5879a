// A kernel that is put together from routed coefficients needs a router that routes some.
// expect: this kernel source is combined with routed coefficients
#include <kdna/dna/condconv.hpp>
#include <kdna/nn/conv2d.hpp>

void use(const kdna::mixture_kernel& kernel, const kdna::condconv_router& router) {
#ifdef SHOULD_NOT_COMPILE
    const kdna::conv2d layer(kernel, {.pad = 1});
#else
    const kdna::conv2d layer(kernel, {.pad = 1}, {}, router);
#endif
}
