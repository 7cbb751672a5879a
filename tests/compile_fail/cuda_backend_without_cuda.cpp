// A layer or network on backend::cuda, in a file that is not compiled for CUDA, names the remedy.
// expect: KDNA_ENABLE_CUDA=ON
// expect: kdna::cuda
#include <kdna/kdna.hpp>
#include <kdna/nn/network_builder.hpp>

#ifdef SHOULD_NOT_COMPILE
using where = kdna::backend::cuda;
#else
using where = kdna::backend::cpu;
#endif

kdna::shape4 use(const kdna::conv2d<kdna::dense_kernel, kdna::no_router, where>& layer) {
    return layer.output_shape({.n = 1, .c = 4, .h = 8, .w = 8});
}
kdna::index_t use(const kdna::network_on<where>::type& net) { return net.step_count(); }
