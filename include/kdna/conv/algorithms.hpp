// The list of algorithms. A new one is a folder, and here its include and its entry.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/conv/depthwise/algorithm.hpp>
#include <kdna/conv/planes/algorithm.hpp>
#include <kdna/conv/product/algorithm.hpp>
#include <kdna/conv/winograd/algorithm.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Offers are compared in this order (algorithm.hpp).
inline constexpr const algorithm* algorithms[] = {&product::functions, &depthwise::functions, &planes::functions,
                                                  &winograd::functions};

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
