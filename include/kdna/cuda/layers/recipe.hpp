// The description of a layer that a device builds from: shapes, weights in PyTorch's order, factors, and a router of
// dense layers.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <kdna/core/shape.hpp>
#include <kdna/cuda/programs/router.hpp>
#include <kdna/dna/algebra.hpp>
#include <kdna/dna/cells.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// act( W v + b ), w [inputs][outputs].
struct dense_recipe {
    std::vector<float> w{}, bias{};
    index_t inputs = 0, outputs = 0;
    dense_function act{};
    index_t group = 1;  ///< contiguous outputs that signed_share normalises together
    /// The number of values that it gives: signed_share gives all but the last of every group.
    [[nodiscard]] index_t values() const noexcept {
        return act.group == group_function::signed_share ? outputs / group * (group - 1) : outputs;
    }
};

/// A router as router_program runs it (programs/router.hpp). It reads the means of the input's channels, or those of
/// grid x grid windows of each channel, [C][grid][grid]. It has a hidden layer, which a layer on it may gate, or none;
/// and heads. `kernel_filter` multiplies the filters of what is stored, `filter` those of the kernel that is assembled
/// from it.
struct router_recipe {
    dense_recipe hidden{}, gate{}, mixture{}, kernel_filter{}, channel{}, filter{}, spatial{};
    index_t grid = 1;
    /// The heads in the order of route_kind.
    [[nodiscard]] std::array<const dense_recipe*, route_kinds> heads() const noexcept {
        return {&mixture, &kernel_filter, &channel, &filter, &spatial};
    }
    [[nodiscard]] bool empty() const noexcept {
        return mixture.outputs + kernel_filter.outputs + channel.outputs + filter.outputs + spatial.outputs == 0;
    }
};

/// Where the kernel of a layer comes from.
///     stored       it is stored
///     combined     every sample has a kernel of its own, whose cells are combinations of what is stored; the router's
///                  mixture is a[m][count]
///     decomposed   every sample has a kernel of its own, kernel_filter . stored + P T^T Q' on the centre tap, of one
///                  group; the router's mixture is T [L][L] and u [L] (dna/dcd.hpp)
///     given        every call brings one, or one for each sample: [O][I/groups][KH * KW], or [KH * KW] for all channels
enum class kernel_form { stored, combined, decomposed, given };

/// A layer's kernel, and what is stored on a device for it: `count` kernels, or `count` cells that tile one.
struct kernel_recipe {
    kernel_shape shape{};
    kernel_form form = kernel_form::stored;
    index_t count = 1;
    std::optional<cell_shape> cell{};  ///< none: kernels are stored
    const void* storage = nullptr;     ///< the same for all layers that share it
    /// Writes everything that is stored, float32 in PyTorch's order: [count][O][I/groups][KH][KW], or cells
    /// [count][o][c][kh][kw]. It keeps what it reads from alive.
    std::function<void(std::span<float>)> copy_weights{};
    /// [k][O], mixed by the last k values of the router's mixture, or empty; of a decomposed kernel P transposed, k =
    /// L.
    std::vector<float> biases{};
    std::vector<float> kernel_bias{};  ///< [O], times the router's kernel_filter, or empty
    std::vector<float> q{};            ///< Q' [L][C] of a decomposed kernel
    index_t given = 0;                 ///< floats of a given kernel

    [[nodiscard]] index_t rank() const noexcept { return static_cast<index_t>(q.size()) / shape.i; }
    /// m, the combinations that a kernel is tiled with, as celled_layout (dna/cells.hpp) counts them.
    [[nodiscard]] index_t combinations() const noexcept {
        return cell ? shape.taps() / cell->taps() * (shape.o / cell->o) * (shape.channels_per_group() / cell->c) : 1;
    }
};

/// A convolution layer. Vectors of factors are empty where there are none.
struct conv_recipe {
    std::string name{};
    kernel_recipe kernel{};
    conv_params params{};
    std::vector<float> spatial{};           ///< s [KH * KW]
    std::vector<float> scale{}, shift{};    ///< m and b [O], with everything static folded in
    std::vector<float> mixed_bias_scale{};  ///< [O], times the mixed biases
    router_recipe router{};
    std::optional<float> attention{};  ///< w_q w_k w_v of an X-volution
    bool residual = false;
    layer_activation act{};
};

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
