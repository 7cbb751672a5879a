// What layers are made with, what plans are made with, and what travels beside the tensors of a call.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <limits>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>

#include <kdna/conv/problem.hpp>
#include <kdna/core/activation.hpp>
#include <kdna/core/executor.hpp>
#include <kdna/core/machine.hpp>
#include <kdna/core/number_format.hpp>
#include <kdna/dna/algebra.hpp>
#include <kdna/dna/factors.hpp>

namespace kdna::inline KDNA_ABI {

/// What surrounds a convolution: y = act( BN( conv(x) + bias ) + residual ). Spans are read in the constructor only.
struct conv_options {
    std::optional<batch_norm> bn{};     ///< [O]; folded into the epilogue
    std::span<const float> bias{};      ///< [O], or empty
    bool residual = false;              ///< `run` takes a residual of the output's shape
    activation act = activation::none;  ///< its parameters of channels, if it has them: [O]
    std::string name = "conv2d";        ///< appears in every error and in explain()
};

using conv::input_order;

/// What a plan is made with.
struct plan_options {
    executor_ref executor{};  ///< threads; must outlive the plan. Default: the calling thread
    std::pmr::memory_resource* memory = std::pmr::get_default_resource();  ///< workspace, routes, arena
    input_order order = input_order::any;                                  ///< promise about the input's strides
    /// Bytes that may be spent on kernels that are kept transformed for Winograd, by a layer or by all layers of a network
    /// together; they are kept with the layer, beside the shared kernel. Kernels that differ from sample to sample, and those that
    /// do not fit the budget, are transformed panel by panel as they are used: 1 means all, and 0 forbids Winograd.
    index_t transform_budget = std::numeric_limits<index_t>::max();
    /// How those kernels are stored. In 16 bits they take half the memory, and half as much passes by in each run; what that costs
    /// in accuracy is in docs/numerics.md. Throws kdna::error when a plan is made if a transformed weight is out of the format's
    /// range.
    number_format transformed_storage = number_format::float32;
    /// The machine that the plan is made for: this one, one of machine::known (`machine::named("zen3")`), or one of your own.
    /// Plans for one description are alike and give the same bits wherever they are made and run.
    machine target = machine::host();
    /// A promise that the kernels of all samples of a call are the same, because their coefficients are given or because the
    /// samples are alike (tiles of one image): those of any one sample may be used for all, and are assembled once.
    bool equal_routes = false;
    /// Whether a run takes the means of the output's channels on its way (`channel_means::output`).
    bool channel_means = false;
    /// Whether runs compute some rows of the output at a time (`bands`), so that the algorithm has to be one that can.
    bool in_bands = false;
    /// Whether a layer that could run by more than one algorithm tries them on made-up inputs and takes the fastest, instead of
    /// relying on the cost model: some runs more for each plan, on the plan's own executor. Which one wins may depend on the
    /// moment, and with it the last bits of results. For the CPU backend; others have nothing to choose.
    bool autotune = false;
};

/// Means over H and W, [N][channels], that travel beside the tensors: a router needs those of its input, and the layer before
/// can take them while it stores its output, which saves a pass over memory.
struct channel_means {
    const float* input = nullptr;  ///< of x; null: a router pools x itself
    float* output = nullptr;       ///< where those of y go; for plans made with plan_options::channel_means
};

/// What comes with a call for each sample besides the image: those of sample n at data + n * stride, 0: one set for all samples.
using given_values = factor_set::per_sample;
/// Coefficients of a kernel source; for a runtime kernel they are its weights.
using given_coefficients = given_values;
/// A context that the layer's router reads in the place of the pooled input.
using given_context = given_values;

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
