// kdna::compiled: layers on the CPU and networks.
#include <kdna/nn/arena.ipp>
#include <kdna/nn/autotune.ipp>
#include <kdna/nn/bands.ipp>
#include <kdna/nn/conv_layer.ipp>
#include <kdna/nn/conv_transpose2d.ipp>
#include <kdna/nn/extents.ipp>
#include <kdna/nn/frequency_bands.ipp>
#include <kdna/nn/given_position_conv2d.ipp>
#include <kdna/nn/layer.ipp>
#include <kdna/nn/network.ipp>
#include <kdna/nn/network_builder.ipp>
#include <kdna/nn/network_functions.ipp>
#include <kdna/nn/network_graph.ipp>
#include <kdna/nn/network_image_functions.ipp>
#include <kdna/nn/network_schedule.ipp>
#include <kdna/nn/network_storage.ipp>
#include <kdna/nn/pool.ipp>
#include <kdna/nn/position_layer.ipp>

namespace kdna::inline KDNA_ABI {
template class conv_layer<backend::cpu>;
template class convolution_operation<backend::cpu>;
template class linear_operation<backend::cpu>;
}  // namespace kdna::inline KDNA_ABI
