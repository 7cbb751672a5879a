// Building a network step by step.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <kdna/nn/conv2d.hpp>
#include <kdna/nn/layer_operations.hpp>
#include <kdna/nn/network.hpp>

namespace kdna::inline KDNA_ABI {

/// Builds a network step by step; widths are checked as layers are added, so a network that was built can be planned for
/// any input its windows fit on.
class network_builder {
public:
    using value = network::value;

    /// An input, an image of `channels` channels. Inputs come before all steps. Throws kdna::error after a step, and for less than
    /// one channel.
    [[nodiscard]] KDNA_FUNC value input(index_t channels);
    /// An input of any rank; extents of 0 may be anything. Throws kdna::error also for a rank that is not 1 to 5, and for a name that
    /// another input has.
    [[nodiscard]] KDNA_FUNC value input(std::string name, std::vector<index_t> extents);

    /// A convolution of `x`, with a residual if the layer takes one. Throws kdna::error if channel counts do not fit.
    // clang-format off
    template <kernel_source S, router R, conv_backend B>
        requires(!routes_given<R>)
    value add(conv2d<S, R, B> l, const value& x, const std::optional<value>& residual = std::nullopt) {  // clang-format on
        check_layer(l, x, residual);
        return add_convolution<B>(std::make_unique<const conv2d<S, R, B>>(std::move(l)), {x}, residual);
    }
    /// The same for a layer with a `given_mixture`, or with a router that reads a context: the coefficients or the context of each
    /// sample are a value of the network, [N, n] or [N, n, 1, 1].
    // clang-format off
    template <kernel_source S, router R, conv_backend B>
        requires(routes_given<R>)
    value add(conv2d<S, R, B> l, const value& x, const value& given,
              const std::optional<value>& residual = std::nullopt) {  // clang-format on
        check_layer(l, x, residual);
        check_channels(l.name(), l.given_name(), given, l.given_floats());
        return add_convolution<B>(std::make_unique<const conv2d<S, R, B>>(std::move(l)), {x, given}, residual);
    }
    /// A layer that is used like a convolution, likewise.
    template <planned_layer L>
    requires requires(const L& l) { l.kernel(); }
    value add(L l, const value& x, const std::optional<value>& residual = std::nullopt) {
        check_layer(l, x, residual);
        const index_t filters = l.kernel().o;
        return push(std::make_unique<layer_operation<L>>(std::move(l)), {x}, residual, filters);
    }
    /// A fully connected layer, given as a 1x1 convolution without router, stride, padding or residual, on a pooled `x`.
    /// Throws kdna::error if it is not one, or if channel counts do not fit.
    template <kernel_source S, conv_backend B>
    value add_linear(conv2d<S, no_router, B> l, const value& x) {
        check_linear(l, x);
        const index_t filters = l.kernel().o;
        nd_shape known = known_shape(x);
        if (known.rank() > 1) known[1] = filters;
        return add_step(
            std::make_unique<linear_operation<B>>(std::make_unique<const conv2d<S, no_router, B>>(std::move(l))), {x},
            {}, {filters, known});
    }
    KDNA_FUNC value add(const max_pool2d& pool, const value& x);
    KDNA_FUNC value add_global_average(const value& x);
    /// A step of your own that gives `channels` channels, on one input or several. Throws kdna::error if there is none, or
    /// unless there are as many inputs as it asks for.
    KDNA_FUNC value add(std::unique_ptr<operation> op, const value& x, index_t channels);
    KDNA_FUNC value add(std::unique_ptr<operation> op, const std::vector<value>& inputs, index_t channels);
    /// The same for a step that also needs the shapes of `shapes`. `channels`: extent of axis 1 of the output, 0 where it has none
    /// or that is not known.
    KDNA_FUNC value add(std::unique_ptr<operation> op, const std::vector<value>& inputs,
                        const std::vector<value>& shapes, index_t channels);
    /// The same for an output of which more is known than its channels, see known_shape.
    KDNA_FUNC value add(std::unique_ptr<operation> op, const std::vector<value>& inputs,
                        const std::vector<value>& shapes, const nd_shape& known);

    /// What is known of the shape of a value: 0 for an extent that may be anything, and no extents if its rank is not known. Throws
    /// kdna::error, naming `where`, for a value of another network.
    [[nodiscard]] KDNA_FUNC const nd_shape& known_shape(const value& v, std::string_view where = "network") const;

    /// The finished network, with one output. Steps on which no output depends are left out. Throws kdna::error for a value of
    /// another network, or if there is no input.
    [[nodiscard]] KDNA_FUNC network build(const value& last) &&;
    /// An output, with the name that callers know it by.
    struct output {
        std::string name;
        value is;
    };
    /// The same with several outputs. Throws kdna::error also for no outputs and for two of one name.
    [[nodiscard]] KDNA_FUNC network build(const std::vector<output>& outputs) &&;

private:
    /// What is known of a value.
    struct knowledge {
        index_t channels;
        nd_shape shape{};
    };
    template <conv_backend B>
    value add_convolution(std::unique_ptr<const conv_layer<B>> l, const std::vector<value>& inputs,
                          const std::optional<value>& residual) {
        const index_t filters = l->kernel().o;
        return push(std::make_unique<convolution_operation<B>>(std::move(l)), inputs, residual, filters);
    }
    template <class L>
    void check_layer(const L& l, const value& x, const std::optional<value>& residual) const {
        check_convolution(l.name(), l.kernel(), l.takes_residual(), x, residual);
    }
    template <class L>
    void check_linear(const L& l, const value& x) const {
        check_fully_connected(l.name(), l.kernel(), l.params(), l.takes_residual(), x);
    }
    KDNA_FUNC void check_convolution(const std::string& name, const kernel_shape& k, bool takes_residual,
                                     const value& x, const std::optional<value>& residual) const;
    KDNA_FUNC void check_fully_connected(const std::string& name, const kernel_shape& k, const conv_params& params,
                                         bool takes_residual, const value& x) const;
    KDNA_FUNC void check_channels(const std::string& name, std::string_view what, const value& v,
                                  index_t channels) const;
    KDNA_FUNC void check_known(std::string_view name, std::string_view what, const value& v) const;
    KDNA_FUNC value push(std::unique_ptr<operation> op, std::vector<value> inputs, const std::optional<value>& last,
                         index_t channels);
    KDNA_FUNC value add_step(std::unique_ptr<operation> op, const std::vector<value>& inputs,
                             const std::vector<value>& shapes, const knowledge& known);
    KDNA_FUNC void drop_unused();

    network net_;
    std::vector<knowledge> values_;  // those so far, the inputs first
};

/// The networks of a backend: their type, on which host backend their layers are made, and how they are made from that.
/// A leaf that has devices specialises it for them.
template <layer_backend B>
struct network_on {
    KDNA_REQUIRE_HOST_BACKEND(B);
    using type = network;
    using host_backend = B;
    [[nodiscard]] static network make(network host) { return host; }
};

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/nn/network_builder.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
