// Layers and networks on a CUDA device, under short names. Files that include this are compiled by nvcc.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/gpu.hpp>
#include <kdna/cuda/layers/conv2d.hpp>
#include <kdna/cuda/layers/network.hpp>
#include <kdna/cuda/layers/runtime_conv2d.hpp>

namespace kdna::inline KDNA_ABI::cuda {

using context = basic_context<gpu>;
using network = basic_network<gpu>;
using network_plan = basic_network_plan<gpu>;
template <class T>
using device_tensor = basic_device_tensor<T, gpu>;

}  // namespace kdna::inline KDNA_ABI::cuda

namespace kdna::inline KDNA_ABI::backend {

/// A CUDA device.
using cuda = on<KDNA_ABI::cuda::gpu>;

}  // namespace kdna::inline KDNA_ABI::backend

#include <kdna/core/macros_pop.hpp>
