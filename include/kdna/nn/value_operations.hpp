// The operations of nn/ops, and what needs no computation, as the steps of a network.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <kdna/nn/extents.hpp>
#include <kdna/nn/operation.hpp>
#include <kdna/nn/ops/copy.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

/// The state of a step that needs its threads, and a few words.
struct executor_state : operation_state {
    executor_state(const executor_ref& e, std::string words) : executor(e), text(std::move(words)) {}
    [[nodiscard]] std::string explain() const override { return text; }
    executor_ref executor;
    std::string text;
};

/// "name: [1, 3, 8, 8], ... to [1, 6, 8, 8]".
[[nodiscard]] KDNA_FUNC std::string shapes_text(std::string_view name, std::string_view what,
                                                std::span<const nd_shape> in, const nd_shape& out);

/// Whether the first extent of a step's output follows that of its inputs when there are fewer samples.
[[nodiscard]] KDNA_FUNC bool follows_samples(const operation& op, std::span<const nd_shape> in);

}  // namespace detail

/// What a step of nn/ops is besides its operation.
struct value_step {
    std::string name;    ///< for messages
    std::string what{};  ///< the operation, for explain()
    index_t inputs = 1;
    bool samplewise = true;  ///< see operation
    bool in_place = false;   ///< whether the output may take the first input's place
};

/// What the steps of one operation of nn/ops have in common.
template <class Op>
class described_operation : public operation {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return about_.name; }
    [[nodiscard]] index_t inputs() const noexcept override { return about_.inputs; }
    [[nodiscard]] bool keeps_order() const noexcept override { return Op::keeps_order; }

protected:
    explicit described_operation(value_step about) : about_(std::move(about)) {}
    [[nodiscard]] nd_shape shape_of(const Op& op, std::span<const nd_shape> in) const {
        return op.output_shape(in.first(static_cast<std::size_t>(about_.inputs)), about_.name);
    }
    [[nodiscard]] std::string text(std::span<const nd_shape> in) const {
        return detail::shapes_text(about_.name, about_.what, in, this->output_shape(in));
    }
    value_step about_;
};

/// An operation whose attributes are known when the network is made.
///
///     output_shape(in, where)       throws kdna::error
///     run(in, y, executor)          noexcept; allocates nothing
///     keeps_order                   static constexpr bool, see operation
///     row_major                     static constexpr bool, true: see operation::makes_row_major; may be absent
///     for_each_parameter(f)         calls f(span of const float) for all numbers that it keeps; absent where there are none
template <class Op>
class value_operation final : public described_operation<Op> {
    using base = described_operation<Op>;

public:
    value_operation(Op op, value_step about) : base(std::move(about)), op_(std::move(op)) {}

    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override { return base::shape_of(op_, in); }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                        const plan_options& options) const override {
        return std::make_unique<detail::executor_state>(options.executor, base::text(in));
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        op_.run(c.inputs, c.output, static_cast<detail::executor_state&>(s).executor);
    }
    [[nodiscard]] bool samplewise(std::span<const nd_shape>) const override { return base::about_.samplewise; }
    [[nodiscard]] bool makes_row_major() const noexcept override {
        return requires { requires Op::row_major; };
    }
    [[nodiscard]] bool runs_in_place() const noexcept override { return base::about_.in_place; }
    void for_each_storage(const storage_visitor& f) const override {
        const auto visit = [&](std::span<const float> numbers) {
            f(numbers.data(), static_cast<index_t>(numbers.size_bytes()));
        };
        if constexpr (requires { op_.for_each_parameter(visit); }) op_.for_each_parameter(visit);
    }
    [[nodiscard]] any_ref computes() const noexcept override { return any_ref::to(op_); }

private:
    Op op_;
};

/// An operation that is made anew for each plan, because its attributes follow from shapes.
template <class Op>
class shaped_operation final : public described_operation<Op> {
    using base = described_operation<Op>;

public:
    /// Makes the operation from the shapes of the inputs, and of what else the step has the shapes of. May throw kdna::error.
    using maker = std::function<Op(std::span<const nd_shape>)>;
    shaped_operation(maker make, value_step about) : base(std::move(about)), make_(std::move(make)) {}

    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape> in) const override {
        return base::shape_of(make_(in), in);
    }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                        const plan_options& options) const override {
        return std::make_unique<state>(options.executor, base::text(in), make_(in));
    }
    void run(operation_state& s, const operation_call& c) const noexcept override {
        auto& planned = static_cast<state&>(s);
        planned.op.run(c.inputs, c.output, planned.executor);
    }
    [[nodiscard]] bool samplewise(std::span<const nd_shape> in) const override {
        return base::about_.samplewise && detail::follows_samples(*this, in);
    }
    /// Computes what its maker makes from the shapes.
    [[nodiscard]] any_ref computes() const noexcept override { return any_ref::to(make_); }

private:
    struct state final : detail::executor_state {
        state(const executor_ref& e, std::string words, Op o) : executor_state(e, std::move(words)), op(std::move(o)) {}
        Op op;
    };
    maker make_;
};

/// A step that moves elements of its first input: a view wherever strides allow, and otherwise a copy.
class view_operation : public operation {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] KDNA_FUNC std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                                  const plan_options& options) const override;
    [[nodiscard]] KDNA_FUNC bool samplewise(std::span<const nd_shape> in) const override;
    [[nodiscard]] bool is_view() const noexcept override { return true; }

protected:
    /// `what`: the operation, for explain().
    view_operation(std::string name, const char* what) : name_(std::move(name)), what_(what) {}
    [[nodiscard]] KDNA_FUNC std::string text(std::span<const nd_shape> in) const;
    std::string name_;

private:
    const char* what_;
};

/// Another shape with the same elements; a view wherever strides allow.
class reshape_operation final : public view_operation {
public:
    using rule = std::function<nd_shape(std::span<const nd_shape>)>;
    /// `shape` gives the output's shape for those of the input, and of what else the step has the shapes of. May throw kdna::error.
    reshape_operation(rule shape, std::string name)
        : view_operation(std::move(name), "reshape"), shape_(std::move(shape)) {}
    /// The rule of given extents, one of which may be -1, which is what is left. What it throws names `name`.
    [[nodiscard]] KDNA_FUNC static rule to_extents(std::vector<extent> shape, std::string name);
    /// The rule by which the axes first ... last, which may be negative, become one.
    [[nodiscard]] KDNA_FUNC static rule flattened(index_t first, index_t last, std::string name);

    [[nodiscard]] KDNA_FUNC nd_shape output_shape(std::span<const nd_shape> in) const override;
    KDNA_FUNC void run(operation_state& s, const operation_call& c) const noexcept override;
    [[nodiscard]] KDNA_FUNC std::optional<part> view_of(std::span<const nd_shape> in,
                                                        const axis_numbers& stride) const override;

private:
    rule shape_;
};

/// Axes in another order, as a view.
class permute_operation final : public view_operation {
public:
    /// Axis i of the output is axis axes[i] of the input. Throws kdna::error unless every axis is named once.
    KDNA_FUNC permute_operation(std::vector<index_t> axes, std::string name);

    [[nodiscard]] KDNA_FUNC nd_shape output_shape(std::span<const nd_shape> in) const override;
    KDNA_FUNC void run(operation_state& s, const operation_call& c) const noexcept override;
    [[nodiscard]] bool samplewise(std::span<const nd_shape>) const override { return axes_.front() == 0; }
    [[nodiscard]] KDNA_FUNC std::optional<part> view_of(std::span<const nd_shape> in,
                                                        const axis_numbers& stride) const override;

private:
    std::vector<index_t> axes_;
};

/// Extents of 1 repeated, and axes put in front, as a view with strides of 0.
class expand_operation final : public view_operation {
public:
    using rule = reshape_operation::rule;
    expand_operation(rule shape, std::string name)
        : view_operation(std::move(name), "expand"), shape_(std::move(shape)) {}

    [[nodiscard]] KDNA_FUNC nd_shape output_shape(std::span<const nd_shape> in) const override;
    KDNA_FUNC void run(operation_state& s, const operation_call& c) const noexcept override;
    [[nodiscard]] KDNA_FUNC std::optional<part> view_of(std::span<const nd_shape> in,
                                                        const axis_numbers& stride) const override;

private:
    rule shape_;
};

/// Elements start, start + step, ... of one axis, as a view.
class slice_operation final : public view_operation {
public:
    /// `start` and `stop` follow from the shapes of the input and of what else the step has the shapes of; negative numbers count
    /// from the end, and no `stop` is the end. Throws kdna::error for a step below 1.
    KDNA_FUNC slice_operation(index_t axis, extent start, std::optional<extent> stop, index_t step, std::string name);

    [[nodiscard]] KDNA_FUNC nd_shape output_shape(std::span<const nd_shape> in) const override;
    [[nodiscard]] KDNA_FUNC std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                                  const plan_options& options) const override;
    KDNA_FUNC void run(operation_state& s, const operation_call& c) const noexcept override;
    [[nodiscard]] KDNA_FUNC bool samplewise(std::span<const nd_shape> in) const override;
    [[nodiscard]] KDNA_FUNC std::optional<part> view_of(std::span<const nd_shape> in,
                                                        const axis_numbers& stride) const override;

private:
    struct range {
        index_t axis, first, count, step;
    };
    [[nodiscard]] KDNA_FUNC range elements(std::span<const nd_shape> in) const;
    index_t axis_;
    extent start_;
    std::optional<extent> stop_;
    index_t step_;
};

/// Values behind one another along an axis. Those that were made in their place are not copied.
class concat_operation final : public operation {
public:
    /// `axis` counts from 0. Throws kdna::error for no inputs or a negative axis.
    KDNA_FUNC concat_operation(index_t axis, index_t inputs, std::string name);

    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] index_t inputs() const noexcept override { return inputs_; }
    [[nodiscard]] KDNA_FUNC nd_shape output_shape(std::span<const nd_shape> in) const override;
    [[nodiscard]] KDNA_FUNC std::unique_ptr<operation_state> plan(std::span<const nd_shape> in,
                                                                  const plan_options& options) const override;
    KDNA_FUNC void run(operation_state& s, const operation_call& c) const noexcept override;
    [[nodiscard]] bool samplewise(std::span<const nd_shape>) const override { return axis_ != 0; }
    [[nodiscard]] index_t concatenates() const noexcept override { return axis_; }

private:
    index_t axis_, inputs_;
    std::string name_;
};

/// Numbers that belong to the network.
class constant_operation final : public operation {
public:
    /// A copy of `values`, row-major. Throws kdna::error if their number is not the shape's.
    KDNA_FUNC constant_operation(const nd_shape& shape, std::span<const float> values, std::string name);

    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] index_t inputs() const noexcept override { return 0; }
    [[nodiscard]] nd_shape output_shape(std::span<const nd_shape>) const override { return shape_; }
    [[nodiscard]] std::unique_ptr<operation_state> plan(std::span<const nd_shape>, const plan_options&) const override {
        return std::make_unique<operation_state>();
    }
    void run(operation_state&, const operation_call&) const noexcept override {}
    void for_each_storage(const storage_visitor& f) const override {
        f(values_.data(), static_cast<index_t>(values_.size() * sizeof(float)));
    }
    [[nodiscard]] nd_view<const float> constant() const noexcept override {
        return row_major_view(values_.data(), shape_);
    }

private:
    nd_shape shape_;
    std::vector<float> values_;
    std::string name_;
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/value_operations.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
