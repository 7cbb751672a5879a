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
#include <kdna/simd/combine.hpp>

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
[[nodiscard]] inline index_t dcd_rank(const dcd_weights& w, std::string_view where) {
    if (w.bn1.bias.empty()) throw error(concat(where, ".bn1.bias"), "one value per row of q", "0");
    return static_cast<index_t>(w.bn1.bias.size());
}

/// Where the routed values of a sample lie: lambda [O], padded to whole panels with zeros, then T [L, L], then u [L].
struct dcd_route_layout {
    index_t filters, rank;
    [[nodiscard]] index_t core_at() const noexcept {
        return (filters + panel_layout::width - 1) / panel_layout::width * panel_layout::width;
    }
    [[nodiscard]] index_t shift_at() const noexcept { return core_at() + rank * rank; }
    [[nodiscard]] index_t size() const noexcept { return shift_at() + rank; }
};

/// h = F1 pooled, h = h . hs(F2 h), lambda = hs(F4 h), Phi = F3 h, with hs(v) = ReLU6(v + 3) / 3.
class dcd_router {
public:
    static constexpr bool routes_mixture = true;

    /// Throws kdna::error naming the tensor that does not fit.
    dcd_router(const dcd_weights& w, index_t channels, std::string_view where = "dcd")
        : channels_(channels),
          grid_(checked_grid(w.grid, where)),
          squeeze_(w.squeeze, {}, checked_mul(channels, checked_mul(grid_, grid_, where), where),
                   concat(where, ".fc.0")),
          gate_(w.gate, {}, squeeze_.outputs(), concat(where, ".fc.1.fc.0")),
          scale_(w.scale, {}, squeeze_.outputs(), concat(where, ".fc_scale")),
          core_(core(w, squeeze_.outputs(), where)),
          out_{scale_.outputs(), static_cast<index_t>(w.bn1.bias.size())} {
        if (gate_.outputs() != squeeze_.outputs())
            throw error(concat(where, ".fc.1.fc.0.weight"), concat(squeeze_.outputs(), " outputs"),
                        concat(gate_.outputs()));
    }

    [[nodiscard]] index_t input_channels() const noexcept { return channels_; }
    [[nodiscard]] index_t pool_grid() const noexcept { return grid_; }
    [[nodiscard]] route_widths widths() const noexcept { return {.mixture = out_.size()}; }
    [[nodiscard]] index_t scratch_floats() const noexcept { return 2 * squeeze_.outputs(); }
    [[nodiscard]] index_t floats() const noexcept {
        return squeeze_.floats() + gate_.floats() + scale_.floats() + core_.floats();
    }
    [[nodiscard]] const dcd_route_layout& route_layout() const noexcept { return out_; }
    /// F1, F2 and F4; and T and u, with both BatchNorms folded in, as one layer.
    [[nodiscard]] const fully_connected& squeezing() const noexcept { return squeeze_; }
    [[nodiscard]] const fully_connected& gate() const noexcept { return gate_; }
    [[nodiscard]] const fully_connected& filter_head() const noexcept { return scale_; }
    [[nodiscard]] const fully_connected& core_head() const noexcept { return core_; }

    void operator()(const float* pooled, const route& out, float* h) const noexcept {
        const index_t hidden = squeeze_.outputs();
        float* gate = h + hidden;
        squeeze_(pooled, h);
        gate_(h, gate);
        hard_sigmoid(gate, hidden);
        for (index_t i = 0; i < hidden; ++i) h[i] *= gate[i];
        scale_(h, out.mixture);
        hard_sigmoid(out.mixture, out_.filters);
        std::fill(out.mixture + out_.filters, out.mixture + out_.core_at(), 0.0F);
        core_(h, out.mixture + out_.core_at());
    }

private:
    static index_t checked_grid(index_t grid, std::string_view where) {
        if (grid < 1) throw error(std::string(where), "means of at least 1 x 1 windows", concat("grid ", grid));
        return grid;
    }
    /// One dense layer for T and u.
    [[nodiscard]] static fully_connected core(const dcd_weights& w, index_t hidden, std::string_view where) {
        const index_t rank = dcd_rank(w, where);
        const scale_shift bn1 = fold(w.bn1, rank, concat(where, ".bn1")),
                          bn2 = fold(w.bn2, rank, concat(where, ".bn2"));
        if (static_cast<index_t>(w.phi.size()) != checked_mul(rank * rank, hidden, where))
            throw error(concat(where, ".fc_phi.weight"), concat(rank, " x ", rank, " x ", hidden, " values"),
                        concat(w.phi.size()));
        const auto at = [](index_t i) { return static_cast<std::size_t>(i); };
        std::vector<double> weight(at((rank * rank + rank) * hidden), 0.0), bias(at(rank * rank + rank), 0.0);
        for (index_t i = 0; i < rank; ++i) {
            const index_t u = rank * rank + i;
            bias[at(u)] = bn1.shift[at(i)] + bn2.shift[at(i)];
            for (index_t j = 0; j < rank; ++j) {
                const index_t to = j * rank + i;  // T is transposed
                bias[at(to)] = i == j ? 1.0 : 0.0;
                for (index_t k = 0; k < hidden; ++k) {
                    const double v = bn2.scale[at(i)] * static_cast<double>(w.phi[at((i * rank + j) * hidden + k)]);
                    weight[at(to * hidden + k)] = v;
                    weight[at(u * hidden + k)] += v * bn1.shift[at(j)];
                }
            }
        }
        return {std::vector<float>(weight.begin(), weight.end()), std::vector<float>(bias.begin(), bias.end()), hidden,
                concat(where, ".fc_phi")};
    }
    index_t channels_, grid_;
    fully_connected squeeze_, gate_, scale_, core_;
    dcd_route_layout out_;
};
static_assert(router<dcd_router>);

/// Q', P and what follows from them: M = T P^T, the middle and the left factor in one, a panel of filters at a time.
class low_rank_factors {
public:
    /// Throws kdna::error naming the tensor that does not fit.
    low_rank_factors(const dcd_weights& w, index_t filters, index_t channels, std::string_view where)
        : rank_(dcd_rank(w, where)),
          channels_(channels),
          p_({.o = filters, .i = rank_}, w.p, concat(where, ".p.weight")),
          q_(w.q.begin(), w.q.end()) {
        if (static_cast<index_t>(w.q.size()) != checked_mul(rank_, channels, where))
            throw error(concat(where, ".q.weight"), concat(rank_, " x ", channels, " values"), concat(w.q.size()));
        const scale_shift bn1 = fold(w.bn1, rank_, concat(where, ".bn1"));
        for (index_t j = 0; j < rank_; ++j)
            for (index_t c = 0; c < channels; ++c)
                q_[static_cast<std::size_t>(c * rank_ + j)] =
                    static_cast<float>(bn1.scale[static_cast<std::size_t>(j)] *
                                       static_cast<double>(w.q[static_cast<std::size_t>(j * channels + c)]));
    }

    [[nodiscard]] index_t rank() const noexcept { return rank_; }
    [[nodiscard]] index_t channels() const noexcept { return channels_; }
    /// Q' [L, C] as a kernel.
    [[nodiscard]] dense_kernel q_kernel() const {
        std::vector<float> weights(q_.size());
        for (index_t j = 0; j < rank_; ++j)
            for (index_t c = 0; c < channels_; ++c) weights[static_cast<std::size_t>(j * channels_ + c)] = q(j, c);
        return dense_kernel::pack({.o = rank_, .i = channels_}, weights);
    }
    /// Q' [C, L].
    [[nodiscard]] const float* q() const noexcept { return q_.data(); }
    [[nodiscard]] float q(index_t j, index_t c) const noexcept { return q_[static_cast<std::size_t>(c * rank_ + j)]; }
    [[nodiscard]] float p(index_t o, index_t i) const noexcept { return p_.weight(o, i, 0); }
    [[nodiscard]] const panel_layout& panels() const noexcept { return p_.layout(); }

    /// m [L, width] = T P^T for the filters of panel `panel`.
    void middle(index_t panel, const float* t, float* m) const noexcept {
        const index_t width = p_.layout().width_of(panel);
        combine(t, rank_, rank_, p_.panel(0, panel), width, rank_, width, m, width);
    }
    /// (T P^T)[j, o] in double.
    [[nodiscard]] double middle(index_t j, index_t o, const float* t) const noexcept {
        double sum = 0.0;
        for (index_t i = 0; i < rank_; ++i) sum += static_cast<double>(t[j * rank_ + i]) * static_cast<double>(p(o, i));
        return sum;
    }
    /// (P u)[o].
    [[nodiscard]] float shift(index_t o, const float* u) const noexcept {
        float sum = 0.0F;
        for (index_t i = 0; i < rank_; ++i) sum += p(o, i) * u[i];
        return sum;
    }
    void prepare() const { p_.prepare(); }
    /// P [O, L].
    void copy_p(std::span<float> to) const { p_.copy_weights(to); }
    [[nodiscard]] index_t bytes() const { return p_.bytes() + static_cast<index_t>(q_.size() * sizeof(float)); }

private:
    index_t rank_, channels_;
    packed_kernel p_;
    std::vector<float> q_;
};

/// The low-rank part by itself, for activations that Q' has been applied to: the 1x1 kernel P T^T with the bias P u. It needs
/// the routes of a dcd_router.
class low_rank_kernel {
public:
    explicit low_rank_kernel(std::shared_ptr<const low_rank_factors> low)
        : low_(std::move(low)), in_{low_->panels().shape().o, low_->rank()} {}

    [[nodiscard]] const panel_layout& layout() const noexcept { return low_->panels(); }
    [[nodiscard]] index_t mixture_size() const noexcept { return in_.size(); }
    [[nodiscard]] index_t scratch_floats() const noexcept { return layout().panel_floats(); }
    [[nodiscard]] index_t assembly_terms() const noexcept { return low_->rank(); }
    [[nodiscard]] const float* panel(index_t, index_t p, const float* routed, float* scratch) const noexcept {
        low_->middle(p, routed + in_.core_at(), scratch);
        return scratch;
    }
    [[nodiscard]] double weight(index_t o, index_t j, index_t, const float* routed) const noexcept {
        return low_->middle(j, o, routed + in_.core_at());
    }
    [[nodiscard]] static bool has_bias() noexcept { return true; }
    [[nodiscard]] float bias(index_t o, const float* routed) const noexcept {
        return low_->shift(o, routed + in_.shift_at());
    }
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
    static constexpr bool needs_mixture = true;

    /// W0 (one group, odd extents: the low-rank part stands on the centre tap, which a padding of half the extent lies over
    /// the input's pixel), and its bias [O], which lambda scales as well, or empty. Throws kdna::error naming what does not
    /// fit.
    dcd_kernel(dense_kernel w0, const dcd_weights& w, std::span<const float> bias = {}, std::string_view where = "dcd")
        : w0_(std::move(w0)),
          low_(std::make_shared<const low_rank_factors>(w, w0_.shape().o, w0_.shape().i, where)),
          bias_(bias.begin(), bias.end()),
          in_{w0_.shape().o, low_->rank()} {
        const kernel_shape& k = w0_.shape();
        if (k.groups != 1 || k.kh % 2 == 0 || k.kw % 2 == 0)
            throw error(std::string(where), "a kernel of one group with a centre tap", to_string(k));
        if (!bias.empty() && static_cast<index_t>(bias.size()) != k.o)
            throw error(concat(where, " bias"), concat(k.o, " values"), concat(bias.size()));
        // The routes of O + 1 filters may be as long as those of O: a router that is not this kernel's shows here only.
        const auto scale = static_cast<index_t>(w.scale.size()), phi = static_cast<index_t>(w.phi.size()),
                   square = low_->rank() * low_->rank();
        if (!w.scale.empty() && scale * square != phi * k.o)
            throw error(concat(where, ".fc_scale.weight"), concat(k.o, " x ", phi / square, " values"), concat(scale));
    }

    /// W0, and Q' and P, as parts that this kernel shares with whoever takes them.
    [[nodiscard]] const dense_kernel& w0() const noexcept { return w0_; }
    [[nodiscard]] const std::shared_ptr<const low_rank_factors>& low_rank() const noexcept { return low_; }
    [[nodiscard]] bool has_static_bias() const noexcept { return !bias_.empty(); }
    /// The bias [O] that lambda scales, or empty.
    [[nodiscard]] std::span<const float> static_bias() const noexcept { return bias_; }

    [[nodiscard]] const panel_layout& layout() const noexcept { return w0_.layout(); }
    [[nodiscard]] index_t mixture_size() const noexcept { return in_.size(); }
    /// The middle of the low-rank part costs L multiply-adds for each of L + C rows of the centre tap.
    [[nodiscard]] index_t assembly_terms() const noexcept {
        return 1 + low_->rank() * (low_->rank() + low_->channels()) / layout().depth();
    }
    [[nodiscard]] index_t scratch_floats() const noexcept {
        return layout().panel_floats() + low_->rank() * panel_layout::width;
    }
    [[nodiscard]] const float* panel(index_t, index_t p, const float* routed, float* scratch) const noexcept {
        const index_t width = layout().width_of(p), channels = low_->channels(), rank = low_->rank(),
                      centre = layout().shape().taps() / 2 * channels;
        float* m = scratch + layout().panel_floats();
        low_->middle(p, routed + in_.core_at(), m);
        combine(low_->q(), rank, channels, m, width, rank, width, scratch + centre * width, width);
        const float* lambda = routed + p * panel_layout::width;
        const float* from = w0_.panel(0, p, nullptr, nullptr);
        for (index_t j = 0; j < width; j += simd::lanes) {
            const simd::vec scale = simd::load(lambda + j);
            const auto rows = [&](index_t first, index_t last, const auto& add) {
                for (index_t d = first; d < last; ++d)
                    simd::store(scratch + d * width + j, add(scale * simd::load(from + d * width + j), d));
            };
            rows(0, centre, [](const simd::vec& v, index_t) { return v; });
            rows(centre, centre + channels,
                 [&](const simd::vec& v, index_t d) { return v + simd::load(scratch + d * width + j); });
            rows(centre + channels, layout().depth(), [](const simd::vec& v, index_t) { return v; });
        }
        return scratch;
    }
    [[nodiscard]] double weight(index_t o, index_t c, index_t t, const float* routed) const noexcept {
        double w = static_cast<double>(routed[o]) * w0_.weight(o, c, t, nullptr);
        if (t == layout().shape().taps() / 2)
            for (index_t j = 0; j < low_->rank(); ++j)
                w += static_cast<double>(low_->q(j, c)) * low_->middle(j, o, routed + in_.core_at());
        return w;
    }
    [[nodiscard]] static bool has_bias() noexcept { return true; }
    [[nodiscard]] float bias(index_t o, const float* routed) const noexcept {
        return low_->shift(o, routed + in_.shift_at()) +
               (bias_.empty() ? 0.0F : routed[o] * bias_[static_cast<std::size_t>(o)]);
    }
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
