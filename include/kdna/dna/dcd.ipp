// Definitions of dcd.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/dcd.hpp>
#include <kdna/simd/combine.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC index_t dcd_rank(const dcd_weights& w, std::string_view where) {
    if (w.bn1.bias.empty()) throw error(concat(where, ".bn1.bias"), "one value per row of q", "0");
    return static_cast<index_t>(w.bn1.bias.size());
}

KDNA_FUNC index_t dcd_route_layout::core_at() const noexcept {
    return (filters + panel_layout::width - 1) / panel_layout::width * panel_layout::width;
}

KDNA_FUNC void doubled_hard_sigmoid(float* v, index_t count) noexcept {
    simd::activate(activation_kind::hard_sigmoid, v, count);
    for (index_t i = 0; i < count; ++i) v[i] *= 2.0F;
}

KDNA_FUNC dcd_router::dcd_router(const dcd_weights& w, index_t channels, std::string_view where)
    : channels_(channels),
      grid_(checked_grid(w.grid, where)),
      squeeze_(w.squeeze, {}, checked_mul(channels, checked_mul(grid_, grid_, where), where), concat(where, ".fc.0")),
      gate_(w.gate, {}, squeeze_.outputs(), concat(where, ".fc.1.fc.0")),
      scale_(w.scale, {}, squeeze_.outputs(), concat(where, ".fc_scale")),
      core_(core(w, squeeze_.outputs(), where)),
      out_{scale_.outputs(), static_cast<index_t>(w.bn1.bias.size())} {
    if (gate_.outputs() != squeeze_.outputs())
        throw error(concat(where, ".fc.1.fc.0.weight"), concat(squeeze_.outputs(), " outputs"),
                    concat(gate_.outputs()));
}

KDNA_FUNC index_t dcd_router::floats() const noexcept {
    return squeeze_.floats() + gate_.floats() + scale_.floats() + core_.floats();
}

KDNA_FUNC void dcd_router::operator()(const float* pooled, const route& out, float* h) const noexcept {
    const index_t hidden = squeeze_.outputs();
    float* gate = h + hidden;
    squeeze_(pooled, h);
    gate_(h, gate);
    doubled_hard_sigmoid(gate, hidden);
    for (index_t i = 0; i < hidden; ++i) h[i] *= gate[i];
    scale_(h, out.mixture);
    doubled_hard_sigmoid(out.mixture, out_.filters);
    std::fill(out.mixture + out_.filters, out.mixture + out_.core_at(), 0.0F);
    core_(h, out.mixture + out_.core_at());
}

KDNA_FUNC index_t dcd_router::checked_grid(index_t grid, std::string_view where) {
    if (grid < 1) throw error(std::string(where), "means of at least 1 x 1 windows", concat("grid ", grid));
    return grid;
}

KDNA_FUNC fully_connected dcd_router::core(const dcd_weights& w, index_t hidden, std::string_view where) {
    const index_t rank = dcd_rank(w, where);
    const scale_shift bn1 = fold(w.bn1, rank, concat(where, ".bn1")), bn2 = fold(w.bn2, rank, concat(where, ".bn2"));
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

KDNA_FUNC low_rank_factors::low_rank_factors(const dcd_weights& w, index_t filters, index_t channels,
                                             std::string_view where)
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

KDNA_FUNC dense_kernel low_rank_factors::q_kernel() const {
    std::vector<float> weights(q_.size());
    for (index_t j = 0; j < rank_; ++j)
        for (index_t c = 0; c < channels_; ++c) weights[static_cast<std::size_t>(j * channels_ + c)] = q(j, c);
    return dense_kernel::pack({.o = rank_, .i = channels_}, weights);
}

KDNA_FUNC void low_rank_factors::middle(index_t panel, const float* t, float* m) const noexcept {
    const index_t width = p_.layout().width_of(panel);
    combine(t, rank_, rank_, p_.panel(0, panel).floats(), width, rank_, width, m, width);
}

KDNA_FUNC double low_rank_factors::middle(index_t j, index_t o, const float* t) const noexcept {
    double sum = 0.0;
    for (index_t i = 0; i < rank_; ++i) sum += static_cast<double>(t[j * rank_ + i]) * static_cast<double>(p(o, i));
    return sum;
}

KDNA_FUNC float low_rank_factors::shift(index_t o, const float* u) const noexcept {
    float sum = 0.0F;
    for (index_t i = 0; i < rank_; ++i) sum += p(o, i) * u[i];
    return sum;
}

KDNA_FUNC index_t low_rank_factors::bytes() const {
    return p_.bytes() + static_cast<index_t>(q_.size() * sizeof(float));
}

KDNA_FUNC const float* low_rank_kernel::panel(index_t, index_t p, const float* routed, float* scratch) const noexcept {
    low_->middle(p, routed + in_.core_at(), scratch);
    return scratch;
}

KDNA_FUNC double low_rank_kernel::weight(index_t o, index_t j, index_t, const float* routed) const noexcept {
    return low_->middle(j, o, routed + in_.core_at());
}

KDNA_FUNC float low_rank_kernel::bias(index_t o, const float* routed) const noexcept {
    return low_->shift(o, routed + in_.shift_at());
}

KDNA_FUNC dcd_kernel::dcd_kernel(dense_kernel w0, const dcd_weights& w, std::span<const float> bias,
                                 std::string_view where)
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

KDNA_FUNC index_t dcd_kernel::assembly_terms() const noexcept {
    return 1 + low_->rank() * (low_->rank() + low_->channels()) / layout().depth();
}

KDNA_FUNC index_t dcd_kernel::scratch_floats() const noexcept {
    return layout().panel_floats() + low_->rank() * panel_layout::width + w0_.scratch_floats();
}

KDNA_FUNC const float* dcd_kernel::panel(index_t, index_t p, const float* routed, float* scratch) const noexcept {
    const index_t width = layout().width_of(p), channels = low_->channels(), rank = low_->rank(),
                  centre = layout().shape().taps() / 2 * channels;
    float* m = scratch + layout().panel_floats();
    low_->middle(p, routed + in_.core_at(), m);
    combine(low_->q(), rank, channels, m, width, rank, width, scratch + centre * width, width);
    const float* lambda = routed + p * panel_layout::width;
    const float* from = w0_.panel(0, p, nullptr, m + rank * panel_layout::width);
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

KDNA_FUNC double dcd_kernel::weight(index_t o, index_t c, index_t t, const float* routed) const noexcept {
    double w = static_cast<double>(routed[o]) * w0_.weight(o, c, t, nullptr);
    if (t == layout().shape().taps() / 2)
        for (index_t j = 0; j < low_->rank(); ++j)
            w += static_cast<double>(low_->q(j, c)) * low_->middle(j, o, routed + in_.core_at());
    return w;
}

KDNA_FUNC float dcd_kernel::bias(index_t o, const float* routed) const noexcept {
    return low_->shift(o, routed + in_.shift_at()) +
           (bias_.empty() ? 0.0F : routed[o] * bias_[static_cast<std::size_t>(o)]);
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
