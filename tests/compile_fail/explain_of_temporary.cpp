// The text of a temporary plan would be gone at the end of the statement.
// expect: deleted
// expect: give the plan a name
#include <kdna/nn/dcd_conv2d.hpp>
#include <kdna/nn/position_conv2d.hpp>
#include <kdna/nn/runtime_conv2d.hpp>
#include <kdna/nn/x_volution.hpp>

// Each layer's plan refuses it.
template <class Layer>
concept explains_temporaries = requires(typename Layer::plan_type plan) {
    std::move(plan).explain();
};
static_assert(!explains_temporaries<kdna::conv2d<>> && !explains_temporaries<kdna::runtime_conv2d> &&
              !explains_temporaries<kdna::dcd_conv2d> && !explains_temporaries<kdna::x_volution> &&
              !explains_temporaries<kdna::position_conv2d<kdna::dot_product_attention>>);

template <class Layer>
std::size_t length(const Layer& layer) {
#ifdef SHOULD_NOT_COMPILE
    const std::string& text = layer.plan({1, 4, 8, 8}).explain();
#else
    const auto plan = layer.plan({1, 4, 8, 8});
    const std::string& text = plan.explain();
#endif
    return text.size();
}

std::size_t use(const kdna::conv2d<>& a, const kdna::runtime_conv2d& b, const kdna::dcd_conv2d& c,
                const kdna::position_conv2d<kdna::dot_product_attention>& d, const kdna::x_volution& e) {
    return length(a) + length(b) + length(c) + length(d) + length(e);
}
