// One layer at a time: tensors, kernels, routers, convolution, pooling. Networks are in kdna/models.hpp, files in
// kdna/io/.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <concepts>

#include <kdna/backend/reference.hpp>
#include <kdna/dna/condconv.hpp>
#include <kdna/dna/kernel_dna.hpp>
#include <kdna/nn/conv2d.hpp>
#include <kdna/nn/pool.hpp>
#include <kdna/nn/runtime_conv2d.hpp>

namespace kdna::inline KDNA_ABI {

namespace cuda {
class gpu;
}  // namespace cuda

namespace backend {
/// A CUDA device. Files that name it are compiled by nvcc, include <kdna/cuda/cuda.hpp>, and link kdna::cuda. It is
/// declared here so that other files learn that from the compiler.
using cuda = on<KDNA_ABI::cuda::gpu>;
}  // namespace backend

template <std::same_as<cuda::gpu> Device>
struct host_backend_required<backend::on<Device>> {
    static_assert(!std::same_as<Device, cuda::gpu>,
                  "kdna: backend::cuda needs CUDA in this file; configure with -DKDNA_ENABLE_CUDA=ON, link the target "
                  "kdna::cuda, include <kdna/cuda/cuda.hpp>, and compile the file as CUDA (name it .cu)");
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
