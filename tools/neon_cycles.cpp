// The loops that tools/neon_cycles.py counts; compiled to assembly only.
#include <kdna/conv/product/micro_kernel.hpp>

namespace kdna::inline KDNA_ABI::conv::product {

template void micro_kernel<14, 2>(const tile_series&) noexcept;
template void micro_kernel<8, 2>(const tile_series&) noexcept;
template void micro_kernel<7, 2>(const tile_series&) noexcept;
template void micro_kernel<4, 2>(const tile_series&) noexcept;

}  // namespace kdna::inline KDNA_ABI::conv::product
