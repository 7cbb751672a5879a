// A layer whose coefficients come with each call cannot be run without them.
// expect: run
#include <kdna/kdna.hpp>

void use(const kdna::conv2d<kdna::runtime_kernel, kdna::given_mixture>& layer,
         kdna::conv_plan<kdna::backend::cpu>& plan, kdna::tensor_view<const float> x, kdna::given_coefficients weights,
         kdna::tensor_view<float> y) {
#ifdef SHOULD_NOT_COMPILE
    static_cast<void>(weights);
    layer.run(plan, x, y);
#else
    layer.run(plan, x, weights, y);
#endif
}
