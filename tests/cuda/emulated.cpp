// All kernels, for the emulated device.
#include "cuda/emulated.hpp"

template class kdna::cuda::device_conv<kdna::cuda::emulator>;
template class kdna::cuda::detail::network_body<kdna::cuda::emulator>;
template class kdna::cuda::basic_network<kdna::cuda::emulator>;
