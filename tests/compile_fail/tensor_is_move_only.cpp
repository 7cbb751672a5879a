// An owning tensor is never copied by accident: it moves, and kdna::copy says when elements are copied.
// expect: deleted
#include <utility>

#include <kdna/tensor/tensor.hpp>

kdna::tensor<float> take(kdna::tensor<float>& x) {
#ifdef SHOULD_NOT_COMPILE
    return kdna::tensor<float>(x);
#else
    return kdna::tensor<float>(std::move(x));
#endif
}
