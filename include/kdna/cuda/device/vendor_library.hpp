// A layer that a library of the device's vendor can run as well.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/activation.hpp>
#include <kdna/core/shape.hpp>
#include <kdna/cuda/device/numbers.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// y = clamp( scale * conv(x, w) + shift + residual ), w [O][KH][KW][C], all tensors dense and channels last.
struct plain_convolution {
    precision numbers = precision::f32;
    shape4 in{}, out{};
    kernel_shape kernel{};
    conv_params params{};
    bool residual = false;
    clamp_range range = range_of(activation_kind::none);  ///< its activation, which is a clamp
};
/// Its tensors in device memory; `scale` and `shift` float32 [O].
struct plain_convolution_call {
    const void *x = nullptr, *w = nullptr;
    void* y = nullptr;
    const void* residual = nullptr;
    const float *scale = nullptr, *shift = nullptr;
    void* scratch = nullptr;
    friend bool operator==(const plain_convolution_call&, const plain_convolution_call&) = default;
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
