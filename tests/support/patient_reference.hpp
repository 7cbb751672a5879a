// The reference backend for layers that choose between kernels by their cost.
#pragma once

#include <string>
#include <string_view>

#include <kdna/backend/reference.hpp>
#include <kdna/nn/conv2d.hpp>

namespace kdna_test {

using kdna::index_t;

/// The reference backend, which predicts that assembling kernels is all that costs: DCD's weights are expensive where the
/// low-rank part is in the kernel.
struct patient_reference : kdna::backend::reference {
    struct plan : kdna::backend::reference::plan {
        double predicted_cycles = 0.0;
    };
    [[nodiscard]] static plan make_plan(const kdna::conv::problem& q, const kdna::shape4& in,
                                        kdna::conv::input_order order, index_t threads, std::string_view where) {
        return {kdna::backend::reference::make_plan(q, in, order, threads, where),
                static_cast<double>(q.assembly_terms() * q.kernel().floats())};
    }
};
static_assert(kdna::conv_backend<patient_reference>);

}  // namespace kdna_test
