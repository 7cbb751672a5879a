// A router of a mixture has nothing to mix where there is one kernel.
// expect: this router routes coefficients of a mixture
#include <kdna/dna/dyconv.hpp>
#include <kdna/nn/conv2d.hpp>

#ifdef SHOULD_NOT_COMPILE
using source = kdna::dense_kernel;
#else
using source = kdna::mixture_kernel;
#endif
void use(const source& kernel, const kdna::dyconv_router& router) {
    const kdna::conv2d layer(kernel, {.pad = 1}, {}, router);
}
