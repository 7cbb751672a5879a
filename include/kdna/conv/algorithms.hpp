// The list of algorithms. A new one is a folder, and here its include and its entry.
#pragma once

#include <kdna/conv/depthwise/algorithm.hpp>
#include <kdna/conv/planes/algorithm.hpp>
#include <kdna/conv/product/algorithm.hpp>
#include <kdna/conv/winograd/algorithm.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// Adds what an algorithm offers for a request, nothing if it cannot run it.
using offers_fn = void (*)(const plan_request&, offer_list&);

/// Offers are compared in this order (algorithm.hpp).
inline constexpr offers_fn algorithms[] = {product::offers, depthwise::offers, planes::offers, winograd::offers};

}  // namespace kdna::inline KDNA_ABI::conv
