// The graph of a network: inputs, steps over values, and outputs. Every backend plans from it.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/nn/operation.hpp>

namespace kdna::inline KDNA_ABI {

/// Immutable once built (nn/network_builder.hpp). Values have one to five axes. Copies share the operations.
class network_graph {
public:
    /// A value of the network, with the extent of its axis 1. With n inputs, these are values 0 ... n - 1, and step i makes
    /// value n + i.
    struct value {
        index_t id = 0;
        index_t channels = 0;
    };

    [[nodiscard]] index_t input_count() const noexcept { return static_cast<index_t>(inputs_.size()); }
    [[nodiscard]] index_t output_count() const noexcept { return static_cast<index_t>(outputs_.size()); }
    [[nodiscard]] const std::string& input_name(index_t i) const noexcept { return inputs_[position(i)].name; }
    [[nodiscard]] const std::string& output_name(index_t i) const noexcept { return outputs_[position(i)].name; }
    /// The input or output of that name. Throws kdna::error, with the names there are, for another.
    [[nodiscard]] KDNA_FUNC index_t input_named(std::string_view name) const;
    [[nodiscard]] KDNA_FUNC index_t output_named(std::string_view name) const;
    /// What an input must be: its extents, 0 where any will do.
    [[nodiscard]] std::span<const index_t> input_extents(index_t i) const noexcept {
        return inputs_[position(i)].extents;
    }
    /// Channels of the first input and of the first output.
    [[nodiscard]] index_t input_channels() const noexcept {
        return input_extents(0).size() > 1 ? input_extents(0)[1] : 0;
    }
    [[nodiscard]] index_t output_channels() const noexcept { return outputs_.front().channels; }
    /// Step i reads the values `inputs`, in this order, and makes value input_count() + i. Valid while the graph lives.
    struct step_view {
        const operation& op;
        std::span<const index_t> inputs;
        std::span<const index_t> shapes{};  ///< values of which the step needs the shape alone
    };
    [[nodiscard]] index_t step_count() const noexcept { return static_cast<index_t>(steps_.size()); }
    [[nodiscard]] step_view step_at(index_t i) const noexcept {
        const step& s = steps_[position(i)];
        return {*s.op, s.inputs, s.shapes};
    }
    /// The value that is output i.
    [[nodiscard]] index_t output_value(index_t i) const noexcept { return outputs_[position(i)].id; }

    /// The shapes of all values for inputs of these shapes. Throws kdna::error naming the input that does not fit or the step
    /// that cannot run.
    [[nodiscard]] KDNA_FUNC std::vector<nd_shape> shapes(std::span<const nd_shape> in) const;
    /// Of the shapes of all values, those that the operation of step i takes: of its inputs, and of what else it needs the shapes
    /// of.
    [[nodiscard]] std::vector<nd_shape> shapes_of_step(const std::vector<nd_shape>& values, index_t i) const {
        return shapes_of(values, steps_[position(i)]);
    }

protected:
    friend class network_builder;
    friend class network_storage;
    struct input_port {
        std::string name;
        std::vector<index_t> extents;  // 0: any
    };
    struct output_port {
        std::string name;
        index_t id, channels;
    };
    struct step {
        std::shared_ptr<const operation> op;
        std::vector<index_t> inputs;    // values
        std::vector<index_t> shapes{};  // values of which it needs the shape alone
    };

    [[nodiscard]] static std::size_t position(index_t id) noexcept { return static_cast<std::size_t>(id); }
    [[nodiscard]] index_t value_of(std::size_t i) const noexcept { return input_count() + static_cast<index_t>(i); }
    [[nodiscard]] std::size_t step_of(index_t id) const noexcept { return position(id - input_count()); }
    [[nodiscard]] KDNA_FUNC static std::vector<nd_shape> shapes_of(const std::vector<nd_shape>& values, const step& s);
    KDNA_FUNC void check_inputs(std::span<const nd_shape> in) const;

    std::vector<input_port> inputs_;
    std::vector<output_port> outputs_;
    std::vector<step> steps_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/network_graph.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
