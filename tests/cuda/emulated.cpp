// All programs, for the emulated device.
#include "cuda/emulated.hpp"

template class kdna::cuda::device_conv<kdna_test::emulator>;
template class kdna::cuda::detail::network_body<kdna_test::emulator>;
template class kdna::cuda::basic_network<kdna_test::emulator>;
