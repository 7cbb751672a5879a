// DCD, dynamic convolution decomposition (Li et al., arXiv 2103.08756): a static kernel with routed filters, and a low-rank
// part that is routed in the middle.
//
//     y  =  lambda(x) . (W0 * x)  +  P ( Phi(x) + I ) Q x
//
//     Q [L, C]  with BN1 behind it, P [O, L]    static, 1x1: the centre tap of the kernel
//     Phi [L, L]  with BN2 behind it            routed
//     lambda [O]                                routed, 0 to 2
//
// Written as one kernel, W[o, c, t] = lambda[o] W0[o, c, t] + [t is the centre] (P T^T Q')[o, c] and a bias P u, with both
// BatchNorms folded away: T^T = BN2.scale Phi + I, Q' = BN1.scale Q, u = T^T BN1.shift + BN2.shift. T and u are affine in the
// router's hidden layer, so the folding is done to the router's weights when it is made.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <kdna/core/arithmetic.hpp>
#include <kdna/dna/attention.hpp>
#include <kdna/dna/router.hpp>
#include <kdna/dna/source.hpp>

namespace kdna::inline KDNA_ABI {

/// The tensors of a layer of rank L over C channels, O filters and sq hidden units (reference keys in brackets).
struct dcd_weights {
    std::span<const float> squeeze{};  ///< [sq, g*g*C] (fc.0.weight)
    std::span<const float> gate{};     ///< [sq, sq] (fc.1.fc.0.weight)
    std::span<const float> phi{};      ///< [L*L, sq] (fc_phi.weight)
    std::span<const float> scale{};    ///< [O, sq] (fc_scale.weight)
    std::span<const float> q{};        ///< [L, C, 1, 1] (q.weight)
    std::span<const float> p{};        ///< [O, L, 1, 1] (p.weight)
    batch_norm bn1{}, bn2{};           ///< [L]
    index_t grid = 1;                  ///< g: the input is pooled to g x g means a channel, 2 in ResNet's basic blocks
};

/// L. Throws kdna::error if there is none.
[[nodiscard]] KDNA_FUNC index_t dcd_rank(const dcd_weights& w, std::string_view where);

/// Where the routed values of a sample lie: lambda [O], padded to whole panels with zeros, then T [L, L], then u [L].
struct dcd_route_layout {
    index_t filters, rank;
    [[nodiscard]] KDNA_FUNC index_t core_at() const noexcept;
    [[nodiscard]] index_t shift_at() const noexcept { return core_at() + rank * rank; }
    [[nodiscard]] index_t size() const noexcept { return shift_at() + rank; }
};

/// In place, v[i] = 2 hard_sigmoid(v[i]) = ReLU6(v[i] + 3) / 3, from 0 to 2.
KDNA_FUNC void doubled_hard_sigmoid(float* v, index_t count) noexcept;

/// h = F1 pooled, h = h . hs(F2 h), lambda = hs(F4 h), Phi = F3 h, with hs the doubled hard sigmoid.
class dcd_router {
public:
    using optional_members = members<member::pool_grid, member::floats, member::routes_mixture>;
    static constexpr bool routes_mixture = true;

    /// Throws kdna::error naming the tensor that does not fit.
    KDNA_FUNC dcd_router(const dcd_weights& w, index_t channels, std::string_view where = "dcd");

    [[nodiscard]] index_t input_channels() const noexcept { return channels_; }
    [[nodiscard]] index_t pool_grid() const noexcept { return grid_; }
    [[nodiscard]] route_widths widths() const noexcept { return {.mixture = out_.size()}; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return 2 * squeeze_.outputs(); }
    [[nodiscard]] KDNA_FUNC index_t floats() const noexcept;
    [[nodiscard]] const dcd_route_layout& route_layout() const noexcept { return out_; }
    /// F1, F2 and F4; and T and u, with both BatchNorms folded in, as one layer.
    [[nodiscard]] const fully_connected& squeezing() const noexcept { return squeeze_; }
    [[nodiscard]] const fully_connected& gate() const noexcept { return gate_; }
    [[nodiscard]] const fully_connected& filter_head() const noexcept { return scale_; }
    [[nodiscard]] const fully_connected& core_head() const noexcept { return core_; }

    KDNA_FUNC void operator()(const float* pooled, const route& out, float* h) const noexcept;

private:
    KDNA_FUNC static index_t checked_grid(index_t grid, std::string_view where);
    /// One dense layer for T and u.
    [[nodiscard]] KDNA_FUNC static fully_connected core(const dcd_weights& w, index_t hidden, std::string_view where);
    index_t channels_, grid_;
    fully_connected squeeze_, gate_, scale_, core_;
    dcd_route_layout out_;
};
static_assert(router<dcd_router>);

/// Q', P and what follows from them: M = T P^T, the middle and the left factor in one, a panel of filters at a time.
class low_rank_factors {
public:
    /// Throws kdna::error naming the tensor that does not fit.
    KDNA_FUNC low_rank_factors(const dcd_weights& w, index_t filters, index_t channels, std::string_view where);

    [[nodiscard]] index_t rank() const noexcept { return rank_; }
    [[nodiscard]] index_t channels() const noexcept { return channels_; }
    /// Q' [L, C] as a kernel.
    [[nodiscard]] KDNA_FUNC dense_kernel q_kernel() const;
    /// Q' [C, L].
    [[nodiscard]] const float* q() const noexcept { return q_.data(); }
    [[nodiscard]] float q(index_t j, index_t c) const noexcept { return q_[static_cast<std::size_t>(c * rank_ + j)]; }
    [[nodiscard]] float p(index_t o, index_t i) const noexcept { return p_.weight(o, i, 0); }
    [[nodiscard]] const panel_layout& panels() const noexcept { return p_.layout(); }

    /// m [L, width] = T P^T for the filters of panel `panel`.
    KDNA_FUNC void middle(index_t panel, const float* t, float* m) const noexcept;
    /// (T P^T)[j, o] in double.
    [[nodiscard]] KDNA_FUNC double middle(index_t j, index_t o, const float* t) const noexcept;
    /// (P u)[o].
    [[nodiscard]] KDNA_FUNC float shift(index_t o, const float* u) const noexcept;
    void prepare() const { p_.prepare(); }
    /// P [O, L].
    void copy_p(std::span<float> to) const { p_.copy_weights(to); }
    [[nodiscard]] KDNA_FUNC index_t bytes() const;

private:
    index_t rank_, channels_;
    packed_kernel p_;
    std::vector<float> q_;
};

/// The low-rank part by itself, for activations that Q' has been applied to: the 1x1 kernel P T^T with the bias P u. It needs
/// the routes of a dcd_router.
class low_rank_kernel {
public:
    using optional_members = members<member::bias, member::assembly_terms, member::prepare>;

    explicit low_rank_kernel(std::shared_ptr<const low_rank_factors> low)
        : low_(std::move(low)), in_{low_->panels().shape().o, low_->rank()} {}

    [[nodiscard]] const panel_layout& layout() const noexcept { return low_->panels(); }
    [[nodiscard]] index_t mixture_size() const noexcept { return in_.size(); }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    [[nodiscard]] index_t assembly_terms() const noexcept { return low_->rank(); }
    [[nodiscard]] KDNA_FUNC const float* panel(index_t, index_t p, const float* routed, float* scratch) const noexcept;
    [[nodiscard]] KDNA_FUNC double weight(index_t o, index_t j, index_t, const float* routed) const noexcept;
    [[nodiscard]] static bool has_bias() noexcept { return true; }
    [[nodiscard]] KDNA_FUNC float bias(index_t o, const float* routed) const noexcept;
    void prepare() const { low_->prepare(); }
    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(low_.get()), low_->bytes());
    }

private:
    std::shared_ptr<const low_rank_factors> low_;
    dcd_route_layout in_;
};
static_assert(kernel_source<low_rank_kernel>);

/// The layer as one kernel that is assembled for each sample, a panel at a time. It needs the routes of a dcd_router.
class dcd_kernel {
public:
    using optional_members = members<member::bias, member::assembly_terms, member::prepare, member::needs_mixture>;
    static constexpr bool needs_mixture = true;

    /// W0 (one group, odd extents: the low-rank part stands on the centre tap, which a padding of half the extent lies over
    /// the input's pixel), and its bias [O], which lambda scales as well, or empty. Throws kdna::error naming what does not
    /// fit.
    KDNA_FUNC dcd_kernel(dense_kernel w0, const dcd_weights& w, std::span<const float> bias = {},
                         std::string_view where = "dcd");

    /// W0, and Q' and P, as parts that this kernel shares with whoever takes them.
    [[nodiscard]] const dense_kernel& w0() const noexcept { return w0_; }
    [[nodiscard]] const std::shared_ptr<const low_rank_factors>& low_rank() const noexcept { return low_; }
    [[nodiscard]] bool has_static_bias() const noexcept { return !bias_.empty(); }
    /// The bias [O] that lambda scales, or empty.
    [[nodiscard]] std::span<const float> static_bias() const noexcept { return bias_; }

    [[nodiscard]] const panel_layout& layout() const noexcept { return w0_.layout(); }
    [[nodiscard]] index_t mixture_size() const noexcept { return in_.size(); }
    /// The middle of the low-rank part costs L multiply-adds for each of L + C rows of the centre tap.
    [[nodiscard]] KDNA_FUNC index_t assembly_terms() const noexcept;
    [[nodiscard]] KDNA_FUNC index_t scratch_floats() const noexcept;
    [[nodiscard]] KDNA_FUNC const float* panel(index_t, index_t p, const float* routed, float* scratch) const noexcept;
    [[nodiscard]] KDNA_FUNC double weight(index_t o, index_t c, index_t t, const float* routed) const noexcept;
    [[nodiscard]] static bool has_bias() noexcept { return true; }
    [[nodiscard]] KDNA_FUNC float bias(index_t o, const float* routed) const noexcept;
    void prepare() const {
        w0_.prepare();
        low_->prepare();
    }
    template <class F>
    void for_each_storage(F&& f) const {
        w0_.for_each_storage(f);
        f(static_cast<const void*>(low_.get()), low_->bytes());
    }

private:
    dense_kernel w0_;
    std::shared_ptr<const low_rank_factors> low_;
    std::vector<float> bias_;
    dcd_route_layout in_;
};
static_assert(kernel_source<dcd_kernel>);

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/dna/dcd.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
