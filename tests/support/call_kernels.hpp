// Kernels that come with a call.
#pragma once

#include <cmath>
#include <vector>

#include <kdna/dna/runtime_kernel.hpp>

#include "support/random.hpp"

namespace kdna_test {

/// Kernels that come with a call: `count` of them, one or one for each sample, and what they are as dense weights
/// [count][O, I/groups, KH, KW].
struct call_kernels {
    kdna::runtime_kernel source;
    index_t count = 1;
    std::vector<float> values{}, dense{};

    static call_kernels random(rng& r, const kdna::kernel_shape& k, index_t samples) {
        const bool shared = k.groups == k.i && k.o == k.i && r.chance(0.5);
        call_kernels g{shared ? kdna::runtime_kernel::shared(k.i, {k.kh, k.kw}) : kdna::runtime_kernel::dense(k)};
        g.count = r.chance(0.5) ? samples : 1;
        const index_t size = g.source.mixture_size(), copies = shared ? k.i : 1;
        const double most = 3.0 / std::sqrt(static_cast<double>(k.channels_per_group() * k.taps()));
        g.values = r.floats(g.count * size, -most, most);
        for (index_t n = 0; n < g.count; ++n)
            for (index_t c = 0; c < copies; ++c)
                g.dense.insert(g.dense.end(), g.values.begin() + n * size, g.values.begin() + (n + 1) * size);
        return g;
    }
};

}  // namespace kdna_test
