// Layers on devices have no form of a router that reads a context, and the message says so.
// expect: do not read a context

#include <kdna/cuda/layers/conv2d.hpp>
#include <kdna/dna/modulated.hpp>
#include "../cuda/emulator/emulator.hpp"

#ifdef SHOULD_NOT_COMPILE
using router_type = kdna::modulated_router;
#else
using router_type = kdna::squeeze_excite;
#endif

using layer = kdna::conv2d<kdna::dense_kernel, router_type, kdna::cuda::on<kdna_test::emulator>>;
kdna::shape4 use(const layer& l) { return l.plan({.n = 1, .c = 8, .h = 8, .w = 8}).output_shape(); }
