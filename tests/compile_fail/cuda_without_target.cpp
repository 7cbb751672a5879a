// Asking for CUDA in a build without it names the remedy.
// expect: KDNA_ENABLE_CUDA=ON
// expect: kdna::cuda
#ifdef SHOULD_NOT_COMPILE
#include <kdna/cuda/device/runtime.hpp>
#else
#include <kdna/cuda/device/device.hpp>
#endif
