// Which nodes of a network become one step: a convolution, and what follows or gates it.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <kdna/graph/graph.hpp>

namespace kdna::inline KDNA_ABI::graph {

/// A squeeze-excite block as it is written by hand, act2(fc2 act1(fc1 mean(x))), whose product with x a convolution reads. The
/// convolution then computes it as its router, and applies it where a channel's factor costs least.
struct fused_gate {
    const node* fc1;
    const node* bn1;  ///< null: none
    const node* act1;
    const node* fc2;
    const node* act2;
};

/// What a convolution, transposed convolution or fully connected layer computes besides itself, in this order: BatchNorm, a
/// constant factor for each channel, the addition of a value, an activation. A BatchNorm that follows no layer, as in front of the
/// convolutions of DenseNet, computes its activation.
struct fused_layer {
    const node* layer;
    std::string input;  ///< in front of the gate, if there is one
    /// A second input: coefficients of a mixture's kernels, a router's context, what an attention reads, or kernels per position.
    std::string given{};
    std::optional<fused_gate> gate{};
    const node* affine = nullptr;  ///< a layer norm in front, whose weight and bias go into the kernel and the bias
    const node* bn = nullptr;
    const node* permute = nullptr;  ///< of a fully connected layer on the last axis of an image: back to [N, C, H, W]
    const node* scale = nullptr;    ///< a `mul` by the constant `factor`
    const node* factor = nullptr;
    const node* add = nullptr;
    std::string residual{};
    const node* act = nullptr;
    std::string out{};  ///< the value that comes of it all
};

/// A layer with nothing fused into it.
[[nodiscard]] KDNA_FUNC fused_layer alone(const node& layer);

/// Finds them. A node is part of another's step only if nobody else reads what it makes.
class fusion {
public:
    /// `shapes`: of all values, for some inputs on which the network runs.
    KDNA_FUNC fusion(const description& net, const std::map<std::string, nd_shape>& shapes);
    /// The step that stands in the place of a node; null if the node is a step of its own or a part of another.
    [[nodiscard]] const fused_layer* at(const node& n) const {
        const auto found = steps_.find(&n);
        return found == steps_.end() ? nullptr : &found->second;
    }
    /// Whether the kernels of all that read a layer norm have its weight and bias in them.
    [[nodiscard]] bool gives_affine_away(const node& norm) const { return without_affine_.contains(&norm); }
    /// Whether a node is a part of another's step.
    [[nodiscard]] bool part_of_another(const node& n) const { return parts_.contains(&n); }

private:
    [[nodiscard]] KDNA_FUNC const node* only_reader(const std::string& value) const;
    [[nodiscard]] KDNA_FUNC const node* maker(const std::string& value) const;
    [[nodiscard]] KDNA_FUNC const nd_shape& shape(const std::string& value) const { return shapes_->at(value); }
    KDNA_FUNC void count_readers(const description& net);
    KDNA_FUNC void find_sources(const description& net);
    [[nodiscard]] KDNA_FUNC bool same_sources(const std::string& a, const std::string& b) const;
    KDNA_FUNC void follow(const node& layer);
    KDNA_FUNC void follow_norm(const node& norm);
    KDNA_FUNC void find_affine(const description& net);
    [[nodiscard]] KDNA_FUNC bool is_pointwise(const node& n) const;
    KDNA_FUNC void find_gate(fused_layer& f) const;
    [[nodiscard]] KDNA_FUNC bool takes_gate(const node& layer) const;
    [[nodiscard]] KDNA_FUNC bool fuses_activation(const node& n) const;
    [[nodiscard]] KDNA_FUNC const node* channel_factor(const node& mul, const std::string& value, bool last_axis) const;

    const std::map<std::string, nd_shape>* shapes_;
    std::map<std::string, std::vector<const node*>> readers_{};  // of values; a null is an output or an expression
    std::map<std::string, const node*> makers_{};
    std::map<std::string, std::set<std::size_t>>
        sources_{};                                   // of values: the inputs they follow from; empty for one input
    std::map<const node*, const node*> affine_of_{};  // of layers: the norm in front
    std::set<const node*> without_affine_{};
    std::map<const node*, fused_layer> steps_{};
    std::set<const node*> parts_{};
};

}  // namespace kdna::inline KDNA_ABI::graph

#ifndef KDNA_COMPILED
#include <kdna/graph/fusion.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
