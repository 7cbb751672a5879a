// All programs, for a GPU.
#include "cuda/gpu/device.hpp"

template class kdna::cuda::device_conv<kdna::cuda::gpu>;
template class kdna::cuda::detail::network_body<kdna::cuda::gpu>;
template class kdna::cuda::basic_network<kdna::cuda::gpu>;
