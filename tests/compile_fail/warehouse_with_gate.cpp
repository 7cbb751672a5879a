// A router that routes something else than the coefficients will not do.
// expect: this kernel source is combined with routed coefficients
#include <kdna/dna/kernel_dna.hpp>
#include <kdna/dna/kernel_warehouse.hpp>
#include <kdna/nn/conv2d.hpp>

#ifdef SHOULD_NOT_COMPILE
using router = kdna::squeeze_excite;
#else
using router = kdna::warehouse_router;
#endif
using layer = kdna::conv2d<kdna::warehouse_kernel, router>;
static_assert(sizeof(layer) > 0);
