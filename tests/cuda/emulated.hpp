// The emulated device's layers and networks, compiled once (emulated.cpp) for all tests.
#pragma once

#include <kdna/cuda/emulator.hpp>
#include <kdna/cuda/layers/network.hpp>

extern template class kdna::cuda::device_conv<kdna::cuda::emulator>;
extern template class kdna::cuda::detail::network_body<kdna::cuda::emulator>;
extern template class kdna::cuda::basic_network<kdna::cuda::emulator>;
