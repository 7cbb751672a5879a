// The view of a temporary tensor would point into memory that is given back at the end of the statement.
// expect: deleted
// expect: give the tensor a name
#include <kdna/nn/conv2d.hpp>

float use(const kdna::conv2d<>& layer, const kdna::tensor_view<const float>& x) {
#ifdef SHOULD_NOT_COMPILE
    const auto y = layer(x).view();
    return y(0, 0, 0, 0);
#else
    const auto y = layer(x);
    return y.view()(0, 0, 0, 0);
#endif
}
