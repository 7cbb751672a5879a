// The CPU backend: planned loop nests on SIMD micro-kernels, spread over the caller's threads.
#pragma once

#include <kdna/backend/backend.hpp>
#include <kdna/conv/depthwise/nest.hpp>
#include <kdna/conv/planes/nest.hpp>
#include <kdna/conv/planner.hpp>
#include <kdna/conv/winograd/nest.hpp>

namespace kdna::inline KDNA_ABI::backend {

struct cpu {
    using plan = conv::plan;

    [[nodiscard]] static plan make_plan(const conv::problem& q, const shape4& in, conv::input_order order,
                                        index_t threads, std::string_view where) {
        return conv::make_plan(q, in, order, threads, where);
    }

    static void run(const plan& p, const conv::call& original, std::byte* workspace,
                    const executor_ref& executor) noexcept {
        conv::call c = original;
        if (c.rows.count == 0) c.rows.count = p.out.h;
        stage_input(p, c, workspace, executor);
        auto* zeros = at_offset<float>(workspace, p.zeros_at);
        std::fill_n(zeros, p.zeros_floats, 0.0F);
        if (p.parts > 0) {
            c.part_sums = at_offset<float>(workspace, p.part_sums_at);
            std::fill_n(c.part_sums, p.out.n * p.parts * p.part_floats, 0.0F);
        }
        if (p.transform_first) {
            c.transformed_input = at_offset<float>(workspace, p.transformed_at);
            in_chunks(conv::all_tiles(p), p.threads, executor,
                      [&](index_t, index_t first, index_t last) { conv::winograd_transform(p, c, first, last); });
        }
        std::byte* spaces = workspace + (p.workspace_bytes - p.threads * p.thread_bytes);
        const bool planned = p.algo == conv::algorithm::winograd || p.algo == conv::algorithm::planes;
        const index_t tasks = planned                                ? p.tasks
                              : p.algo == conv::algorithm::depthwise ? conv::depthwise_tasks(p, c)
                                                                     : conv::gemm_tasks(p, c);
        in_chunks(tasks, p.threads, executor, [&](index_t worker, index_t first, index_t last) {
            std::byte* space = spaces + worker * p.thread_bytes;
            switch (p.algo) {
                case conv::algorithm::depthwise: return conv::depthwise_nest(p, c, space, first, last);
                case conv::algorithm::planes: return conv::plane_nest(p, c, space, first, last);
                case conv::algorithm::winograd: return conv::winograd_nest(p, c, space, first, last);
                case conv::algorithm::direct:
                case conv::algorithm::im2col: return conv::gemm_nest(p, c, zeros, space, first, last);
            }
        });
        if (p.parts > 0) take_means(p, c);
    }

    [[nodiscard]] static std::string explain(const conv::problem& q, const plan& p) { return conv::explain(q, p); }

private:
    /// Adds up the parts of each sample, in their order.
    static void take_means(const plan& p, const conv::call& c) noexcept {
        const simd::vec share(1.0F / static_cast<float>(p.out.h * p.out.w));
        for (index_t n = 0; n < p.out.n; ++n)
            for (index_t o = 0; o < p.out.c; o += simd::lanes) {
                simd::vec sum = simd::zero();
                for (index_t part = 0; part < p.parts; ++part)
                    sum = sum + simd::load(c.part_sums + (n * p.parts + part) * p.part_floats + o);
                simd::store_strided(c.channel_means + n * p.out.c + o, sum * share, 1,
                                    std::min(p.out.c - o, simd::lanes));
            }
    }

    /// Calls work(worker, first, last) for as many equal parts of [0, count) as there are threads.
    template <class Work>
    static void in_chunks(index_t count, index_t threads, const executor_ref& executor, const Work& work) noexcept {
        const index_t workers = std::min(threads, count);
        executor.parallel_for(workers, [&](index_t i) { work(i, count * i / workers, count * (i + 1) / workers); });
    }

    /// Copies the input channels last where the plan wants it, with the gate multiplied in unless the nest applies it.
    static void stage_input(const plan& p, conv::call& c, std::byte* workspace, const executor_ref& executor) noexcept {
        const bool strided = c.x.stride.c != 1 && c.x.shape.c > 1;
        if (p.stage == conv::staging::never || (p.stage == conv::staging::if_strided && !strided)) return;
        auto* staged = at_offset<float>(workspace, p.staged_at);
        const bool nest_gates =
            p.algo == conv::algorithm::depthwise || p.algo == conv::algorithm::winograd || p.gate_in_panel;
        const factor_set::per_sample channel = nest_gates ? factor_set::per_sample{} : c.factors.channel;
        // Of a band, the rows under its windows; of a whole map, every row.
        index_t begin = 0, end = p.in.n * p.staged.rows();
        if (c.rows.count < p.out.h) {
            const kernel_shape& k = c.source.layout().shape();
            const index_t top = c.rows.first * c.params.stride.h - c.params.pad.top + p.staged.border.top;
            begin = std::max<index_t>(top, 0);
            end = std::min(end, top + (c.rows.count - 1) * c.params.stride.h + (k.kh - 1) * c.params.dilation.h + 1);
        }
        in_chunks(end - begin, p.threads, executor, [&](index_t, index_t first, index_t last) {
            conv::stage_rows(
                p.staged, c.x, c.rows.x_first, [&](index_t n) { return channel.of(n); }, staged, begin + first,
                begin + last);
        });
        c.rows.x_first = 0;
        c.x = p.staged.view(staged);
        if (p.staged.circular) c.params.pad = 0;
        if (!nest_gates) c.factors.channel = {};
    }
};
static_assert(conv_backend<cpu>);

}  // namespace kdna::inline KDNA_ABI::backend
