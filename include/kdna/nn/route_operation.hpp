// A router as a step of a network, for layers that apply what it gives to another value than the one it reads.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include <kdna/dna/router.hpp>
#include <kdna/nn/operation.hpp>
#include <kdna/nn/pool.hpp>

namespace kdna::inline KDNA_ABI {

/// What a router writes for an image [N, C, H, W], as a value [N, n]: of each sample the mixture's coefficients and then the filters'
/// factors, as a layer with a `given_mixture` takes them.
template <router Router>
class route_operation final : public operation {
public:
    /// Throws kdna::error, naming `name`, if the router gives channel or spatial factors, or reads windows of the image.
    route_operation(Router r, std::string name) : router_(std::move(r)), name_(std::move(name)) {
        const route_widths w = router_.widths();
        if (w.channel > 0 || w.spatial > 0 || router_ref(router_).pool_grid() != 1)
            throw error(name_, "a router of a mixture and of filters that reads means of channels", "another");
    }
    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override {
        const shape4 x = image_shape(in.front(), name_);
        if (x.c != router_.input_channels())
            throw error(name_, concat("an input of ", router_.input_channels(), " channels"), to_string(x));
        return {x.n, router_.widths().total()};
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                        const plan_options& options) const override {
        static_cast<void>(output_shape(in));
        return std::make_unique<state>(router_, options);
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        auto& own = static_cast<state&>(s);
        const tensor_view<const float> x = c.x();
        const route_widths w = router_.widths();
        float *const mean = own.memory.data(), *const out = mean + x.shape.c, *const scratch = out + w.total();
        for (index_t n = 0; n < x.shape.n; ++n) {
            if (c.means.input == nullptr) global_average(x, n, mean);
            router_(c.means.input != nullptr ? c.means.input + n * x.shape.c : mean,
                    {.mixture = w.mixture > 0 ? out : nullptr, .filter = w.filter > 0 ? out + w.mixture : nullptr},
                    scratch);
            const nd_view<float>& y = c.output;
            for (index_t i = 0; i < w.total(); ++i) y.data[n * y.stride[0] + i * y.stride[1]] = out[i];
        }
    }
    [[nodiscard]] bool reads_channel_means() const noexcept override { return true; }
    void for_each_storage(const storage_visitor& f) const override {
        f(&router_, router_ref(router_).floats() * static_cast<index_t>(sizeof(float)));
    }
    [[nodiscard]] any_ref computes() const noexcept override { return any_ref::to(router_); }

private:
    struct state final : operation_state {
        state(const Router& r, const plan_options& options)
            : memory(r.input_channels() + r.widths().total() + r.scratch_floats(), options.memory) {}
        [[nodiscard]] std::string explain() const override { return "routes for another layer"; }
        buffer<float> memory;
    };
    Router router_;
    std::string name_;
};

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
