// The reference backend for larger layers whose kernels are put together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <kdna/backend/reference.hpp>
#include <kdna/nn/conv2d.hpp>

namespace kdna_test {

using kdna::index_t;

/// A kernel of one sample, all weights written out.
class written_out {
public:
    written_out(const kdna::source_ref& source, const float* mixture) : layout_(source.layout()) {
        const kdna::kernel_shape& k = layout_.shape();
        for (index_t o = 0; o < k.o; ++o)
            for (index_t c = 0; c < k.channels_per_group(); ++c)
                for (index_t t = 0; t < k.taps(); ++t) weights_.push_back(source.weight(o, c, t, mixture));
    }
    [[nodiscard]] const kdna::panel_layout& layout() const noexcept { return layout_; }
    [[nodiscard]] static index_t mixture_size() noexcept { return 0; }
    [[nodiscard]] static index_t scratch_floats() noexcept { return 0; }
    [[nodiscard]] static const float* panel(index_t, index_t, const float*, float*) noexcept { return nullptr; }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float*) const noexcept {
        const kdna::kernel_shape& k = layout_.shape();
        return weights_[static_cast<std::size_t>((o * k.channels_per_group() + c) * k.taps() + t)];
    }
    template <class F>
    void for_each_storage(F&&) const {}

private:
    kdna::panel_layout layout_;
    std::vector<double> weights_;
};

/// The reference backend, but it asks for a weight once per sample and not once per pixel, and says that putting kernels
/// together is all that costs: DCD's weights are dear where the low-rank part is in the kernel.
struct patient_reference {
    struct plan : kdna::backend::reference::plan {
        double predicted_cycles = 0.0;
    };
    [[nodiscard]] static plan make_plan(const kdna::conv::problem& q, const kdna::shape4& in,
                                        kdna::conv::input_order order, index_t threads, std::string_view where) {
        return {kdna::backend::reference::make_plan(q, in, order, threads, where),
                static_cast<double>(q.assembly_terms * q.kernel().floats())};
    }
    [[nodiscard]] static std::string explain(const kdna::conv::problem& q, const plan& p) {
        return kdna::backend::reference::explain(q, p);
    }
    static void run(const plan& p, const kdna::conv::call& c, std::byte* workspace,
                    const kdna::executor_ref& executor) noexcept {
        plan one = p;
        one.in.n = one.out.n = 1;
        for (index_t n = 0; n < p.out.n; ++n) {
            const auto sample = [&](kdna::factor_set::per_sample& f) {
                if (f) f.data = f.of(n);
            };
            kdna::conv::call call = c;
            const written_out kernel(c.source, c.factors.mixture.of(n));
            call.source = kdna::source_ref(kernel);
            call.x = c.x.samples(n, 1);
            call.y = c.y.samples(n, 1);
            if (c.residual.data != nullptr) call.residual = c.residual.samples(n, 1);
            for (auto* f : {&call.factors.channel, &call.factors.spatial, &call.factors.scale, &call.factors.shift})
                sample(*f);
            if (c.channel_means != nullptr) call.channel_means = c.channel_means + n * p.out.c;
            kdna::backend::reference::run(one, call, workspace, executor);
        }
    }
};
static_assert(kdna::conv_backend<patient_reference>);

}  // namespace kdna_test
