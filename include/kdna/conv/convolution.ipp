// Definitions of convolution.hpp: the only file that includes the algorithms.
#pragma once

#include <algorithm>
#include <cmath>

#include <kdna/conv/algorithms.hpp>
#include <kdna/conv/convolution.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv {
namespace detail {

[[nodiscard]] KDNA_COLD plan_request request_of(const problem& q, const shape4& in, input_order order, index_t threads,
                                                std::string_view where) {
    plan_request r{.layer = q,
                   .in = in,
                   .out = output_shape(in, q.shape(), q.params, where),
                   .order = order,
                   .threads = std::max<index_t>(threads, 1),
                   .where = where,
                   .params = q.params,
                   .map = in,
                   .map_order = order};
    if (q.params.mode == padding_mode::circular && q.params.pad != padding(0)) {
        r.circular = true;
        r.params.pad = 0;
        r.map = stage_layout{in, q.params.pad, 0, true}.map();
        r.map_order = input_order::any;
        static_cast<void>(element_count(r.map, where));
    }
    return r;
}

/// All ways to run a request, in the order in which they are compared.
[[nodiscard]] KDNA_COLD offer_list offers_for(const plan_request& r) {
    offer_list all;
    for (const offers_fn offers : algorithms) offers(r, all);
    if (r.layer.in_bands) std::erase_if(all, [](const offer& o) { return !o.bands; });
    return all;
}

/// Adds up the parts of each sample, in their order.
inline void take_means(const plan& p, const call& c, const float* part_sums) noexcept {
    const simd::vec share(1.0F / static_cast<float>(p.out.h * p.out.w));
    for (index_t n = 0; n < p.out.n; ++n)
        for (index_t o = 0; o < p.out.c; o += simd::lanes) {
            simd::vec sum = simd::zero();
            for (index_t part = 0; part < p.parts; ++part)
                sum = sum + simd::load(part_sums + (n * p.parts + part) * p.part_floats + o);
            simd::store_strided(c.channel_means + n * p.out.c + o, sum * share, 1, std::min(p.out.c - o, simd::lanes));
        }
}

/// Copies the input channels last where the plan wants it, and lets the call read the copy.
inline void stage_input(const plan& p, call& c, std::byte* workspace, const executor_ref& executor) noexcept {
    const bool strided = c.x.stride.c != 1 && c.x.shape.c > 1;
    if (p.stage == staging::never || (p.stage == staging::if_strided && !strided)) return;
    auto* staged = at_offset<float>(workspace, p.staged_at);
    const factor_set::per_sample gate = p.gate_in_copy ? c.factors.channel : factor_set::per_sample{};
    // Of a band, the rows under its windows; of a whole map, every row.
    index_t begin = 0, end = p.in.n * p.staged.rows();
    if (c.rows.count < p.out.h) {
        const kernel_shape& k = c.source.layout().shape();
        const index_t top = c.rows.first * c.params.stride.h - c.params.pad.top + p.staged.border.top;
        begin = std::max<index_t>(top, 0);
        end = std::min(end, top + (c.rows.count - 1) * c.params.stride.h + (k.kh - 1) * c.params.dilation.h + 1);
    }
    in_chunks(end - begin, p.threads, executor, [&](index_t, index_t first, index_t last) {
        stage_rows(p.staged, c.x, c.rows.x_first, gate, staged, begin + first, begin + last);
    });
    c.rows.x_first = 0;
    c.x = p.staged.view(staged);
    if (p.staged.circular) c.params.pad = 0;
    if (p.gate_in_copy) c.factors.channel = {};
}

}  // namespace detail

KDNA_FUNC plan make_plan(const problem& q, const shape4& in, input_order order, index_t threads,
                         std::string_view where) {
    const plan_request r = detail::request_of(q, in, order, threads, where);
    const offer_list offers = detail::offers_for(r);
    const offer* best = &offers.front();
    for (const offer& o : offers)
        if (o.cost < o.share * best->cost) best = &o;
    plan p = best->make(r, best->variant);
    prepare(q, p);
    return p;
}

KDNA_FUNC std::vector<plan> candidates(const problem& q, const shape4& in, input_order order, index_t threads,
                                       std::string_view where) {
    const plan_request r = detail::request_of(q, in, order, threads, where);
    std::vector<plan> all;
    for (const offer& o : detail::offers_for(r)) all.push_back(o.make(r, o.variant));
    return all;
}

KDNA_FUNC void prepare(const problem& q, plan& p) { p.prepared = p.own->prepare(q, p); }

KDNA_FUNC void run(const plan& p, const call& original, std::byte* workspace, const executor_ref& executor) noexcept {
    call c = original;
    if (c.rows.count == 0) c.rows.count = p.out.h;
    detail::stage_input(p, c, workspace, executor);
    auto* part_sums = at_offset<float>(workspace, p.part_sums_at);
    if (p.parts > 0) std::fill_n(part_sums, p.out.n * p.parts * p.part_floats, 0.0F);
    const algorithm_plan& own = *p.own;
    own.begin(p, c, workspace, executor);
    std::byte* spaces = workspace + (p.workspace_bytes - p.threads * p.thread_bytes);
    detail::in_chunks(own.tasks(p, c), p.threads, executor, [&](index_t worker, index_t first, index_t last) {
        own.run(p, c, {workspace, spaces + worker * p.thread_bytes}, first, last);
    });
    if (p.parts > 0) detail::take_means(p, c, part_sums);
}

KDNA_FUNC std::string explain(const problem& q, const plan& p) {
    const explanation e = p.own->explain(q, p);
    std::string text =
        concat(e.tiles, ", about ", static_cast<index_t>(std::ceil(p.predicted_cycles / 1000.0)), " kcycles");
    if (p.stage != staging::never)
        text += concat(p.stage == staging::always ? ", input copied" : ", input copied if strided",
                       p.staged.circular ? " with its circular padding" : e.copied);
    if (q.channel_factor) text += concat(", gate in ", e.gate);
    if (q.spatial_factor) text += concat(", spatial ", e.spatial);
    if (!e.kernels.empty())
        text += concat(", ", e.kernels);
    else if (q.assembles())
        text += concat(", panels assembled ", e.several ? "for several samples " : "", "in ",
                       q.source.scratch_floats() * static_cast<index_t>(sizeof(float)) / 1024, " KiB");
    return text + concat(", ", p.tasks, p.tasks == 1 ? " task on " : " tasks on ", p.threads,
                         p.threads == 1 ? " thread" : " threads", ", workspace ", (p.workspace_bytes + 1023) / 1024,
                         " KiB");
}

KDNA_FUNC index_t row_multiple(const plan& p) noexcept { return p.own->row_multiple(p); }

KDNA_FUNC index_t prepared_bytes(const plan& p) noexcept { return p.prepared == nullptr ? 0 : p.prepared->bytes(); }

}  // namespace kdna::inline KDNA_ABI::conv
