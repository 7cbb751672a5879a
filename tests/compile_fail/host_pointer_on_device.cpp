// A device view is made of a pointer that is named as one of the device's; a host view or pointer does not turn into one.
// expect: device_view
#include <kdna/cuda/device/memory.hpp>

void run(const kdna::cuda::device_view<const float>& x);

void use(const float* data) {
#ifdef SHOULD_NOT_COMPILE
    run(data);
    run(kdna::nchw_view(data, 1, 3, 8, 8));
#else
    run(kdna::cuda::device_view<const float>::from_device_pointer(data, {1, 3, 8, 8}, kdna::layout::nchw));
#endif
}
