// kdna::compiled: layers on the CPU and networks.
#include <kdna/nn/arena.ipp>
#include <kdna/nn/autotune.ipp>
#include <kdna/nn/bands.ipp>
#include <kdna/nn/conv_layer.ipp>
#include <kdna/nn/layer.ipp>
#include <kdna/nn/network.ipp>
#include <kdna/nn/network_builder.ipp>
#include <kdna/nn/ops/concat.ipp>
#include <kdna/nn/ops/copy.ipp>
#include <kdna/nn/ops/elementwise.ipp>
#include <kdna/nn/ops/matmul.ipp>
#include <kdna/nn/ops/norm.ipp>
#include <kdna/nn/ops/pad.ipp>
#include <kdna/nn/ops/pool2d.ipp>
#include <kdna/nn/ops/reduce.ipp>
#include <kdna/nn/ops/resize.ipp>
#include <kdna/nn/ops/softmax.ipp>
#include <kdna/nn/pool.ipp>

namespace kdna::inline KDNA_ABI {
template class conv_layer<backend::cpu>;
template class convolution_operation<backend::cpu>;
template class linear_operation<backend::cpu>;
}  // namespace kdna::inline KDNA_ABI
