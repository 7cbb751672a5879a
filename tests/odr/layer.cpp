// A KernelDNA layer as a user would write it. ODR_RUN and ODR_FAIL are the names of its functions, which differ for each
// instruction set.
#include <cstddef>
#include <vector>

#include <kdna/kdna.hpp>

namespace {

// Numbers in [-1, 1], the same in every object.
std::vector<float> numbers(std::size_t count, unsigned seed) {
    std::vector<float> out(count);
    for (float& value : out) {
        seed = seed * 1664525U + 1013904223U;
        value = static_cast<float>(seed >> 8) / 8388608.0F - 1.0F;
    }
    return out;
}

}  // namespace

namespace odr {

std::vector<float> ODR_RUN() {
    const auto weights = numbers(24 * 16 * 9, 1), spatial = numbers(9, 2), filter = numbers(24, 3),
               x = numbers(16 * 81, 4);
    const auto fc1 = numbers(4 * 16, 5), fc2 = numbers(16 * 4, 6), bias = numbers(16, 7),
               one = std::vector<float>(4, 1.0F), zero = std::vector<float>(4, 0.0F);
    const kdna::squeeze_excite gate(
        {.fc1 = fc1, .bn = {.weight = one, .bias = zero, .mean = zero, .var = one}, .fc2 = fc2, .fc2_bias = bias});
    const auto parent = kdna::parent_kernel::pack({.o = 24, .i = 16, .kh = 3, .kw = 3}, weights);
    const kdna::conv2d child(parent.child({.spatial = spatial, .filter = filter}), {.pad = 1},
                             {.act = kdna::activation::relu}, gate);
    const auto y = child(kdna::nchw_view(x.data(), 1, 16, 9, 9));
    return {y.span().begin(), y.span().end()};
}

// Throws kdna::error, with the number of calls so far (a static variable that is initialised at the first one) as its layer.
void ODR_FAIL() {
    static std::vector<int> calls = {0};
    const std::vector<float> too_few(7);
    try {
        static_cast<void>(kdna::parent_kernel::pack({.o = 24, .i = 16, .kh = 3, .kw = 3}, too_few));
    } catch (const kdna::error&) {
        ++calls[0];
        if (calls[0] == 2) throw;
    }
}

}  // namespace odr
