// A view of const elements reads only; one that may write converts to it, never the other way round.
// expect: read-only\|const-qualified
// expect: tensor_view<float>\|tensor_view<const float>
#include <kdna/tensor/view.hpp>

void write(kdna::tensor_view<float> y) { y(0, 0, 0, 0) = 1.0F; }

void use(float* data) {
    const kdna::tensor_view<const float> x = kdna::nchw_view(data, 1, 1, 1, 1);
#ifdef SHOULD_NOT_COMPILE
    x(0, 0, 0, 0) = 1.0F;
    write(x);
#else
    write(kdna::nchw_view(data, 1, 1, 1, 1));
    static_cast<void>(x);
#endif
}
