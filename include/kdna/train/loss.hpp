// What is minimised.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <span>

#include <kdna/tensor/view.hpp>

namespace kdna::inline KDNA_ABI::train {

/// The mean over the samples of -log softmax(logits)[label], computed in double; `gradient` becomes that of the logits. Logits
/// [N, K, 1, 1], N labels from 0 to K - 1. Throws kdna::error for other shapes and labels.
KDNA_FUNC double softmax_cross_entropy(const tensor_view<const float>& logits, std::span<const int> labels,
                                       const tensor_view<float>& gradient);

}  // namespace kdna::inline KDNA_ABI::train

#ifndef KDNA_COMPILED
#include <kdna/train/loss.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
