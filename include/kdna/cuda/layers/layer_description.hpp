// A layer for a device before it has memory there: its recipe, checked, and how its weights will lie.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/cuda/device/indices.hpp>
#include <kdna/cuda/layers/recipe.hpp>
#include <kdna/cuda/layers/weight_layout.hpp>
#include <kdna/cuda/programs/assembly.hpp>
#include <kdna/cuda/programs/attention.hpp>
#include <kdna/cuda/programs/router.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// How a layer or a network is put on a device.
struct device_options {
    precision numbers = precision::f32;
    /// Bytes that the kernels of a chunk of samples may take, where every sample has a kernel of its own.
    index_t assembly_budget = index_t{64} << 20;
};

/// Whether a layer may read an input that is stored with more channels than its kernel has: zeros meet zeros there, and
/// no factor and no sum of channels sees them.
[[nodiscard]] inline bool takes_more_channels(const conv_recipe& r) noexcept {
    return r.kernel.shape.groups == 1 && !r.kernel.shape.depthwise() && r.kernel.form == kernel_form::stored &&
           !r.attention && r.router.empty();
}

/// Immutable once made.
class layer_description {
public:
    /// `in_channels`: of a pixel of the input as it is stored, where that is more than the kernel has; the others are
    /// zeros. Throws kdna::error, naming the layer, where a device cannot run it.
    layer_description(conv_recipe recipe, const device_options& options, index_t in_channels = 0)
        : recipe_(std::move(recipe)), options_(options), in_channels_(in_channels == 0 ? kernel().i : in_channels) {
        const kernel_shape& k = kernel();
        if (in_channels_ < k.i || (in_channels_ > k.i && !takes_more_channels(recipe_)))
            throw error(name(), concat("an input stored with ", k.i, " channels"), concat(in_channels_));
        if (k.groups * 16 > 65535 && !k.depthwise())
            throw error(name(), "at most 4095 groups on a device", concat(k.groups));
        check_router();
        constexpr index_t most_taps = attention_program<float, 1>::most_taps;
        if (recipe_.attention && k.taps() > most_taps)
            throw error(name(), concat("attention over at most ", most_taps, " positions on a device"),
                        concat(k.taps()));
        layout_ = weight_layout::of(k, group_channels(), numbers(), name());
        static_cast<void>(detail::checked_int(layout_.size, name()));
    }

    [[nodiscard]] const conv_recipe& recipe() const noexcept { return recipe_; }
    [[nodiscard]] const std::string& name() const noexcept { return recipe_.name; }
    [[nodiscard]] const kernel_shape& kernel() const noexcept { return recipe_.kernel.shape; }
    [[nodiscard]] const device_options& options() const noexcept { return options_; }
    [[nodiscard]] precision numbers() const noexcept { return options_.numbers; }
    /// How the weights of a kernel lie, whether it is stored or assembled.
    [[nodiscard]] const weight_layout& layout() const noexcept { return layout_; }
    /// Channels of a pixel of the input as it is stored, and those of a group.
    [[nodiscard]] index_t in_channels() const noexcept { return in_channels_; }
    [[nodiscard]] index_t group_channels() const noexcept { return in_channels_ / kernel().groups; }

    [[nodiscard]] bool routed() const noexcept { return !recipe_.router.empty(); }
    /// Whether the router reads the sums of the input's channels; else it reads means of windows.
    [[nodiscard]] bool reads_sums() const noexcept { return routed() && recipe_.router.grid == 1; }
    /// Values that the router reads for a sample.
    [[nodiscard]] index_t router_inputs() const {
        const index_t grid = recipe_.router.grid;
        return checked_mul(kernel().i, checked_mul(grid, grid, name()), name());
    }
    [[nodiscard]] bool mixes_bias() const noexcept { return !recipe_.kernel.biases.empty(); }
    [[nodiscard]] bool has_spatial_factor() const noexcept {
        return !recipe_.spatial.empty() || recipe_.router.spatial.outputs > 0;
    }
    [[nodiscard]] bool has_input_factors() const noexcept {
        return recipe_.router.channel.outputs > 0 || has_spatial_factor();
    }

    /// The router's layers, without their weights and their places among the routes.
    [[nodiscard]] router_arguments router_shape() const {
        const auto shape_of = [](const dense_recipe& d) {
            device_dense out;
            out.inputs = detail::known_int(d.inputs);
            out.outputs = detail::known_int(d.outputs);
            out.act = d.act;
            return out;
        };
        router_arguments a;
        a.inputs = detail::checked_int(router_inputs(), name());
        a.hidden = shape_of(recipe_.router.hidden);
        a.gate = shape_of(recipe_.router.gate);
        const auto heads = recipe_.router.heads();
        for (std::size_t i = 0; i < heads.size(); ++i) {
            const dense_recipe& d = *heads[i];
            a.heads[i].dense = shape_of(d);
            a.heads[i].group =
                detail::known_int(d.act.group == group_function::softmax ? std::max<index_t>(d.outputs, 1) : d.group);
        }
        return a;
    }

    /// The packs of the depth that the centre tap of a decomposed kernel lies in: the first element, and how many there
    /// are.
    [[nodiscard]] index_t centre_first() const noexcept { return centre_at() / lane() * lane(); }
    [[nodiscard]] index_t centre_size() const noexcept {
        return ceil_div(centre_at() - centre_first() + kernel().i, lane()) * lane();
    }
    /// Q' of a decomposed kernel, [L][centre_size()], as the centre tap lies in its packs, with zeros around it; else
    /// empty.
    [[nodiscard]] std::vector<float> centre_factor() const {
        const kernel_recipe& k = recipe_.kernel;
        if (k.form != kernel_form::decomposed) return {};
        const index_t size = centre_size(), begin = centre_at() - centre_first();
        std::vector<float> out(static_cast<std::size_t>(checked_mul(k.rank(), size, name())), 0.0F);
        for (index_t j = 0; j < k.rank(); ++j)
            for (index_t c = 0; c < k.shape.i; ++c)
                out[static_cast<std::size_t>(j * size + begin + c)] = k.q[static_cast<std::size_t>(j * k.shape.i + c)];
        return out;
    }

private:
    [[nodiscard]] index_t lane() const noexcept { return lane_of(numbers()); }
    [[nodiscard]] index_t centre_at() const noexcept { return kernel().taps() / 2 * layout_.tap_stride; }

    /// Routers of a user's own may say anything.
    void check_router() const {
        const router_recipe& r = recipe_.router;
        const kernel_recipe& k = recipe_.kernel;
        for (const dense_recipe* d : r.heads())
            if (d->act.group == group_function::signed_share && (d->group < 2 || d->outputs % d->group != 0))
                throw error(concat(name(), " router"), "signed shares in whole groups of two or more",
                            concat(d->outputs, " outputs in groups of ", d->group));
        const bool decomposed = k.form == kernel_form::decomposed, combined = k.form == kernel_form::combined;
        const index_t mixture = decomposed ? k.rank() * k.rank() + k.rank()
                                : combined ? checked_mul(k.combinations(), k.count, name())
                                           : 0;
        const auto require = [&](std::string_view values, index_t found, index_t expected) {
            if (found != expected) throw error(concat(name(), " router"), concat(expected, values), concat(found));
        };
        require(" values of a mixture", r.mixture.values(), mixture);
        require(" factors of the stored filters", r.kernel_filter.values(), decomposed ? k.shape.o : 0);
        constexpr index_t largest_rank = decomposition_program<float>::largest_rank;
        if (decomposed && k.rank() > largest_rank)
            throw error(name(), concat("a low-rank part of rank ", largest_rank, " at most on a device"),
                        concat(k.rank()));
        // What every device gives a block, but for some that a launch itself takes.
        constexpr int most = 96 * 1024;
        if (const int bytes = router_program::shared_bytes(router_shape()); bytes > most)
            throw error(concat(name(), " router"), concat("at most ", most, " bytes of shared memory on a device"),
                        concat(bytes));
    }

    conv_recipe recipe_;
    device_options options_;
    index_t in_channels_;
    weight_layout layout_{};
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
