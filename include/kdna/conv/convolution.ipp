// Definitions of convolution.hpp: the only file that includes the algorithms.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

#include <kdna/conv/algorithms.hpp>
#include <kdna/conv/convolution.hpp>
#include <kdna/simd/simd.hpp>

namespace kdna::inline KDNA_ABI::conv {
namespace detail {

[[nodiscard]] KDNA_COLD plan_request request_of(const problem& q, const shape4& in, input_order order, index_t threads,
                                                std::string_view where) {
    q.target->check();
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

/// Plans what an algorithm has offered.
[[nodiscard]] KDNA_COLD plan take(const algorithm& a, const offer& o, const plan_request& r) {
    plan p = a.make_plan(r, o.variant);
    p.by = &a;
    return p;
}

/// Calls f(algorithm, offer) for all ways to run a request, in the order in which they are compared.
template <class F>
void for_each_offer(const plan_request& r, const F& f) {
    offer_list offers;
    for (const algorithm* a : algorithms) {
        if (r.layer.in_bands && a->row_multiple == nullptr) continue;
        offers.clear();
        a->offers(r, offers);
        for (const offer& o : offers) f(*a, o);
    }
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

KDNA_FUNC_COLD plan::plan() noexcept = default;
KDNA_FUNC_COLD plan::plan(const plan&) = default;
KDNA_FUNC_COLD plan::plan(plan&&) noexcept = default;
KDNA_FUNC_COLD plan& plan::operator=(const plan&) = default;
KDNA_FUNC_COLD plan& plan::operator=(plan&&) noexcept = default;
KDNA_FUNC_COLD plan::~plan() = default;

KDNA_FUNC_COLD plan make_plan(const problem& q, const shape4& in, input_order order, index_t threads,
                              std::string_view where) {
    const plan_request r = detail::request_of(q, in, order, threads, where);
    const algorithm* by = nullptr;
    offer best;
    detail::for_each_offer(r, [&](const algorithm& a, const offer& o) {
        if (by != nullptr && !(o.cost < o.share * best.cost)) return;
        by = &a;
        best = o;
    });
    plan p = detail::take(*by, best, r);
    prepare(q, p, where);
    return p;
}

KDNA_FUNC_COLD std::vector<plan> candidates(const problem& q, const shape4& in, input_order order, index_t threads,
                                            std::string_view where) {
    const plan_request r = detail::request_of(q, in, order, threads, where);
    std::vector<plan> all;
    detail::for_each_offer(r, [&](const algorithm& a, const offer& o) { all.push_back(detail::take(a, o, r)); });
    return all;
}

KDNA_FUNC_COLD void prepare(const problem& q, plan& p, std::string_view where) {
    if (p.by->prepare == nullptr) return;
    try {
        p.prepared = p.by->prepare(q, p);
    } catch (const error& e) {
        throw error(concat(where, ", ", e.where()), e.expected(), e.found());
    }
}

KDNA_FUNC void run(const plan& p, const call& original, std::byte* workspace, const executor_ref& executor) noexcept {
    call c = original;
    if (c.rows.count == 0) c.rows.count = p.out.h;
    detail::stage_input(p, c, workspace, executor);
    auto* part_sums = at_offset<float>(workspace, p.part_sums_at);
    if (p.parts > 0) std::fill_n(part_sums, p.out.n * p.parts * p.part_floats, 0.0F);
    const algorithm& by = *p.by;
    if (by.begin != nullptr) by.begin(p, c, workspace, executor);
    const index_t tasks = by.tasks != nullptr ? by.tasks(p, c) : p.tasks;
    std::byte* spaces = workspace + (p.workspace_bytes - p.threads * p.thread_bytes);
    detail::in_chunks(tasks, p.threads, executor, [&](index_t worker, index_t first, index_t last) {
        by.run(p, c, {workspace, spaces + worker * p.thread_bytes}, first, last);
    });
    if (p.parts > 0) detail::take_means(p, c, part_sums);
}

KDNA_FUNC_COLD std::string explain(const problem& q, const plan& p) {
    const explanation e = p.by->explain(q, p);
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
                         " KiB, for ", q.target->name);
}

KDNA_FUNC_COLD index_t row_multiple(const plan& p) noexcept {
    return p.by->row_multiple != nullptr ? p.by->row_multiple(p) : 0;
}

KDNA_FUNC_COLD index_t prepared_bytes(const plan& p) noexcept { return p.prepared == nullptr ? 0 : p.prepared->bytes; }

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
