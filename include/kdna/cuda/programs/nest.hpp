// Loop nests over the elements of up to three operands, one item a thread.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/device/span.hpp>
#include <kdna/cuda/programs/elementwise.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// An axis of a nest, and from one of its elements to the next in each operand; 0: the operand repeats them.
struct device_axis {
    int extent = 1;
    int stride[3] = {};
};

/// The axes of a nest as the host arranges them (nn/ops/nest.hpp), the innermost first. Operand 0 is the output. An item is an
/// element, or a pack of them along the innermost axis, whose extent then counts packs.
struct device_nest {
    static constexpr int most = 6;
    device_axis axes[most]{};
    int rank = 0, items = 1;

    /// Where an item lies in each operand.
    struct place {
        int at[3];
    };
    KDNA_DEVICE place of(int item) const {
        place p{};
        KDNA_DEVICE_NO_UNROLL
        for (int i = 0; i < rank; ++i) {
            const device_axis& a = axes[i];
            const int index = item % a.extent;
            item /= a.extent;
            KDNA_DEVICE_UNROLL
            for (int k = 0; k < 3; ++k) p.at[k] += index * a.stride[k];
        }
        return p;
    }
    /// Whether all elements of an item are the same element of that operand.
    KDNA_DEVICE bool repeats(int operand) const { return rank == 0 || axes[0].stride[operand] == 0; }
};

namespace detail {

/// Width elements of an operand from `at` on, or one of them for all.
template <int Width, class T>
KDNA_DEVICE pack<T, Width> load_item(const device_span<const T>& x, int at, bool repeats) {
    if (!repeats) return x.template load<Width>(at);
    const T one = x.load(at);
    pack<T, Width> v;
    KDNA_DEVICE_UNROLL
    for (int e = 0; e < Width; ++e) v.v[e] = one;
    return v;
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
