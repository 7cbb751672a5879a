// The emulated device's layers and networks, compiled once (emulated.cpp) for all tests.
#pragma once

#include <kdna/cuda/layers/network.hpp>

#include "cuda/emulator/emulator.hpp"

extern template class kdna::cuda::device_conv<kdna_test::emulator>;
extern template class kdna::cuda::detail::network_body<kdna_test::emulator>;
extern template class kdna::cuda::basic_network<kdna_test::emulator>;
