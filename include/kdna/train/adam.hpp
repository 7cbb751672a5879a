// An optimiser.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <vector>

#include <kdna/train/parameters.hpp>

namespace kdna::inline KDNA_ABI::train {

struct adam_options {
    double rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
};

/// Adam (arXiv 1412.6980) over what is trained.
class adam {
public:
    /// The parameters must outlive it.
    KDNA_FUNC explicit adam(parameters& p, const adam_options& options = {});

    /// One step along the gradients, which are then zero. `rate_scale`: a schedule's factor of the rate.
    KDNA_FUNC void step(double rate_scale = 1.0);
    /// Bytes of its two averages of every trained number.
    [[nodiscard]] KDNA_FUNC index_t bytes() const noexcept;

private:
    struct averages {
        std::vector<float> gradient, square;
    };
    parameters* parameters_;
    adam_options options_;
    index_t steps_ = 0;
    std::vector<averages> averages_{};
};

}  // namespace kdna::inline KDNA_ABI::train

#ifndef KDNA_COMPILED
#include <kdna/train/adam.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
