// kdna::cuda_compiled: the programs of layers and networks on a GPU. Defining the classes has every program that they launch compiled.
#include <kdna/cuda/cuda.hpp>

namespace kdna::inline KDNA_ABI::cuda {
template class device_conv<gpu>;
template class detail::network_body<gpu>;
template class basic_network<gpu>;
}  // namespace kdna::inline KDNA_ABI::cuda
