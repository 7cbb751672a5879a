// A kernel source and a router of your own: a kernel that the input interpolates between two parents.
#include <cmath>
#include <iostream>
#include <kdna/kdna.hpp>
#include <vector>

using namespace kdna;

/// W = a * W0 + (1 - a) * W1, with one routed coefficient a per sample. Panels are blended one at a time, in scratch.
struct interpolated_kernel {
    using optional_members = members<member::assembly_terms, member::prepare>;

    dense_kernel first, second;

    const panel_layout& layout() const { return first.layout(); }
    index_t mixture_size() const { return 1; }
    index_t scratch_floats() const { return layout().panel_floats(); }
    index_t assembly_terms() const { return 2; }
    const float* panel(index_t group, index_t p, const float* a, float* scratch) const noexcept {
        const float *w0 = first.panel(group, p, nullptr, nullptr), *w1 = second.panel(group, p, nullptr, nullptr);
        for (index_t i = 0; i < layout().depth() * layout().width_of(p); ++i) scratch[i] = w1[i] + *a * (w0[i] - w1[i]);
        return scratch;
    }
    double weight(index_t o, index_t c, index_t t, const float* a) const {
        return *a * first.weight(o, c, t, nullptr) + (1.0 - *a) * second.weight(o, c, t, nullptr);
    }
    void prepare() const {  // when a layer is planned: the panels of both
        first.prepare();
        second.prepare();
    }
    template <class F>
    void for_each_storage(F&& f) const {
        first.for_each_storage(f);
        second.for_each_storage(f);
    }
};

/// a = sigmoid of the mean over all channels: bright inputs use the first kernel, dark ones the second.
struct brightness_router {
    using optional_members = members<>;

    index_t channels;

    index_t input_channels() const { return channels; }
    route_widths widths() const { return {.mixture = 1}; }
    index_t scratch_floats() const { return 0; }
    void operator()(const float* pooled, const route& out, float*) const noexcept {
        float mean = 0.0F;
        for (index_t c = 0; c < channels; ++c) mean += pooled[c] / static_cast<float>(channels);
        out.mixture[0] = 1.0F / (1.0F + std::exp(-mean));
    }
};

int main() {
    const kernel_shape k{.o = 8, .i = 4, .kh = 3, .kw = 3};
    const std::vector<float> w0(8 * 4 * 9, 0.5F), w1(8 * 4 * 9, -0.5F);
    const interpolated_kernel kernel{dense_kernel::pack(k, w0), dense_kernel::pack(k, w1)};
    const conv2d fast(kernel, {.pad = 1}, {.name = "interpolated"}, brightness_router{4});
    const conv2d<interpolated_kernel, brightness_router, backend::reference> oracle(kernel, {.pad = 1}, {},
                                                                                    brightness_router{4});

    tensor<float> x({.n = 2, .c = 4, .h = 6, .w = 6});
    for (index_t i = 0; i < x.size(); ++i) x.data()[i] = i < x.size() / 2 ? 2.0F : -1.0F;
    const tensor<float> y = fast(x.view()), expected = oracle(x.view());
    const auto plan = fast.plan(x.shape());
    std::cout << plan.explain() << "\nbright " << y(0, 0, 3, 3) << ", dark " << y(1, 0, 3, 3) << "\n";
    for (index_t i = 0; i < y.size(); ++i)
        if (std::abs(y.data()[i] - expected.data()[i]) > 1e-5F) return 1;
}
