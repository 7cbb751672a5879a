// From a description and its tensors to a network: every node, or every node with what is fused into it, becomes a step.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/dna/acdc.hpp>
#include <kdna/dna/channel_gate.hpp>
#include <kdna/dna/kernel_warehouse.hpp>
#include <kdna/dna/mixture.hpp>
#include <kdna/graph/fusion.hpp>
#include <kdna/io/state_dict.hpp>
#include <kdna/models/module_builder.hpp>
#include <kdna/nn/network_builder.hpp>
#include <kdna/nn/value_operations.hpp>

namespace kdna::inline KDNA_ABI::graph {

/// What the layers of one network share: kernels, warehouses and coefficients, by the names of their tensors.
struct shared_weights {
    std::map<std::string, dense_kernel> kernels{};
    std::map<std::string, mixture_kernel> mixtures{};
    std::map<std::string, warehouse> warehouses{};
    std::map<std::string, shared_coefficients> coefficients{};
};

/// Builds one network.
class lowering {
public:
    /// `fused`: what becomes one step; null: nothing.
    KDNA_FUNC lowering(const description& net, const state_dict& weights, shared_weights& shared, const fusion* fused);
    /// Adds all nodes, for inputs of these shapes. Throws kdna::error naming the node that cannot be made, or cannot run on these
    /// shapes.
    KDNA_FUNC void add_nodes(const std::vector<nd_shape>& inputs);
    /// Shapes of all values, for the shapes that add_nodes had.
    [[nodiscard]] const std::map<std::string, nd_shape>& shapes() const noexcept { return shapes_; }
    /// Throws kdna::error if a tensor was not taken.
    [[nodiscard]] KDNA_FUNC network build() &&;

private:
    using value = network::value;
    using adder = void (lowering::*)(const node&, attributes&);
    /// A node of the dynamic methods' layers as models/dynamic_layers.hpp takes them.
    using builder = models::module_builder<backend::cpu>;

    [[nodiscard]] KDNA_FUNC static const std::map<std::string_view, adder>& adders();
    KDNA_FUNC void add_node(const node& n);
    KDNA_FUNC void count_copies(const node& n);
    // Layers (graph/lower_layers.ipp).
    KDNA_FUNC void add_layer(const fused_layer& f);
    KDNA_FUNC void add_plain_layer(const node& n, attributes& a);
    KDNA_FUNC void add_conv2d(const fused_layer& f, attributes& a);
    KDNA_FUNC void add_dense(const fused_layer& f, attributes& a, const conv_params& moves, bool child);
    KDNA_FUNC void add_conv_transpose2d(const fused_layer& f, attributes& a);
    KDNA_FUNC void add_linear(const fused_layer& f, attributes& a);
    // Layers of other methods (graph/lower_dynamic.ipp).
    KDNA_FUNC void add_mixture(const fused_layer& f, attributes& a, const conv_params& moves, bool routed);
    KDNA_FUNC void add_modulated(const fused_layer& f, attributes& a, const conv_params& moves);
    KDNA_FUNC void add_dynamic(const fused_layer& f, attributes& a, const conv_params& moves,
                               const std::string& method);
    [[nodiscard]] KDNA_FUNC index_t context_of(const node& n, const std::string& role, index_t rows) const;
    KDNA_FUNC void push_given(const fused_layer& f, std::unique_ptr<const conv_layer<backend::cpu>> layer);
    KDNA_FUNC void add_position(const fused_layer& f, attributes& a);
    // Others (graph/lower_values.ipp).
    KDNA_FUNC void add_constant(const node& n, attributes& a);
    KDNA_FUNC void add_batch_norm(const fused_layer& f, attributes& a);
    KDNA_FUNC void add_layer_norm(const node& n, attributes& a);
    KDNA_FUNC void add_group_norm(const node& n, attributes& a);
    KDNA_FUNC void add_activation(const node& n, attributes& a);
    KDNA_FUNC void add_clamp(const node& n, attributes& a);
    KDNA_FUNC void add_binary(const node& n, attributes& a);
    KDNA_FUNC void add_unary(const node& n, attributes& a);
    KDNA_FUNC void add_reshape(const node& n, attributes& a);
    KDNA_FUNC void add_flatten(const node& n, attributes& a);
    KDNA_FUNC void add_squeeze(const node& n, attributes& a);
    KDNA_FUNC void add_unsqueeze(const node& n, attributes& a);
    KDNA_FUNC void add_permute(const node& n, attributes& a);
    KDNA_FUNC void add_expand(const node& n, attributes& a);
    KDNA_FUNC void add_concat(const node& n, attributes& a);
    KDNA_FUNC void add_slice(const node& n, attributes& a);
    KDNA_FUNC void add_shuffle(const node& n, attributes& a);
    KDNA_FUNC void add_pad(const node& n, attributes& a);
    KDNA_FUNC void add_pool(const node& n, attributes& a);
    KDNA_FUNC void add_adaptive_pool(const node& n, attributes& a);
    KDNA_FUNC void add_frequency_bands(const node& n, attributes& a);
    KDNA_FUNC void add_resize(const node& n, attributes& a);
    KDNA_FUNC void add_reduce(const node& n, attributes& a);
    KDNA_FUNC void add_softmax(const node& n, attributes& a);
    KDNA_FUNC void add_matmul(const node& n, attributes& a);
    KDNA_FUNC void add_dynamic_relu(const node& n, attributes& a);

    /// Adds a step that makes `out`.
    KDNA_FUNC void push(const std::string& out, std::unique_ptr<operation> op, const std::vector<std::string>& inputs,
                        const std::vector<std::string>& shapes = {});
    /// The same for a step of nn/ops.
    template <class Op>
    void push_value(const node& n, Op op, bool samplewise, bool in_place = false, const std::string& what = {});
    template <class Op, class Make>
    void push_shaped(const node& n, Make make, const std::vector<std::string>& shapes, bool samplewise = true);
    /// Records a layer that was added.
    KDNA_FUNC void made(const std::string& out, const value& v, const nd_shape& shape);
    template <class Map>
    [[nodiscard]] const typename Map::mapped_type& found(const Map& values, const std::string& name) const {
        const auto it = values.find(name);
        if (it == values.end()) throw error("graph", "a value that is a step's output", name);
        return it->second;
    }
    [[nodiscard]] const nd_shape& shape_of(const std::string& name) const { return found(shapes_, name); }
    [[nodiscard]] const value& value_of(const std::string& name) const { return found(values_, name); }
    /// A name for a value inside of a node's step.
    [[nodiscard]] std::string inner(const std::string& out, int i) const { return concat(out, '\n', i); }

    // Tensors by role.
    [[nodiscard]] bool has(const node& n, const std::string& role) const { return n.tensors.contains(role); }
    KDNA_FUNC void only_roles(const node& n, std::initializer_list<std::string_view> roles) const;
    [[nodiscard]] KDNA_FUNC const std::string& tensor_of(const node& n, const std::string& role) const;
    [[nodiscard]] KDNA_FUNC const std::vector<index_t>& tensor_shape(const node& n, const std::string& role) const;
    /// All values, whatever the shape.
    [[nodiscard]] KDNA_FUNC std::span<const float> take(const node& n, const std::string& role) const;
    /// As many values as `shape` has, from a tensor of that shape or one that differs in extents of 1.
    [[nodiscard]] KDNA_FUNC std::span<const float> take(const node& n, const std::string& role,
                                                        const std::vector<index_t>& shape) const;
    [[nodiscard]] KDNA_FUNC std::span<const float> take_if(const node& n, const std::string& role,
                                                           const std::vector<index_t>& shape) const;
    /// How a kernel that is made of the tensor is stored.
    [[nodiscard]] number_format storage_of(const node& n, const std::string& role) const {
        return weights_.storage_of(tensor_of(n, role));
    }
    /// A BatchNorm, with weights of 1 and biases of 0 where they are absent; kept for the lowering's life.
    [[nodiscard]] KDNA_FUNC batch_norm take_bn(const node& n, std::string_view prefix, index_t channels, double eps);
    [[nodiscard]] KDNA_FUNC std::span<const float> kept(std::vector<float> values);
    /// An activation of a value with so many channels, which a fused value has no shape to tell.
    [[nodiscard]] KDNA_FUNC activation take_activation(const node& n, index_t channels);
    [[nodiscard]] KDNA_FUNC conv_options options_of(const fused_layer& f, index_t channels);
    [[nodiscard]] KDNA_FUNC channel_gate gate_of(const fused_gate& g, index_t channels);
    [[nodiscard]] KDNA_FUNC kernel_shape shape_of_kernel(const std::vector<index_t>& weight, attributes& a) const;
    [[nodiscard]] KDNA_FUNC dense_kernel shared_kernel(const node& n, const kernel_shape& k) const;
    [[nodiscard]] KDNA_FUNC dense_kernel kernel_and_bias(const fused_layer& f, const kernel_shape& k,
                                                         std::span<const float>& bias);
    [[nodiscard]] KDNA_FUNC mixture_kernel shared_mixture(const node& n, index_t count, const kernel_shape& k) const;
    [[nodiscard]] KDNA_FUNC std::optional<value> residual_of(const fused_layer& f) const;

    const description* net_;
    const state_dict* all_;
    index_t all_bytes_ = 0, copied_ = 0;
    state_dict_reader weights_;
    shared_weights* shared_;
    const fusion* fused_;
    network_builder builder_;
    std::map<std::string, value> values_;
    std::map<std::string, nd_shape> shapes_;
    std::vector<std::vector<float>> kept_;
};

template <class Op>
void lowering::push_value(const node& n, Op op, bool samplewise, bool in_place, const std::string& what) {
    push(n.out,
         std::make_unique<value_operation<Op>>(std::move(op), value_step{.name = n.name,
                                                                         .what = what.empty() ? n.op : what,
                                                                         .inputs = static_cast<index_t>(n.in.size()),
                                                                         .samplewise = samplewise,
                                                                         .in_place = in_place}),
         n.in);
}

template <class Op, class Make>
void lowering::push_shaped(const node& n, Make make, const std::vector<std::string>& shapes, bool samplewise) {
    push(n.out,
         std::make_unique<shaped_operation<Op>>(
             std::move(make),
             value_step{
                 .name = n.name, .what = n.op, .inputs = static_cast<index_t>(n.in.size()), .samplewise = samplewise}),
         n.in, shapes);
}

}  // namespace kdna::inline KDNA_ABI::graph

#ifndef KDNA_COMPILED
#include <kdna/graph/lowering.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
