// Where the types say that every kernel is 1x1 and that spatial factors are routed, they do not go together.
// expect: this router routes spatial factors
#include <kdna/nn/conv2d.hpp>

struct pointwise_kernel : kdna::dense_kernel {
    using optional_members = kdna::members<kdna::member::assemble, kdna::member::stored, kdna::member::needs_mixture,
                                           kdna::member::prepare, kdna::member::copy_weights, kdna::member::pointwise>;
#ifdef SHOULD_NOT_COMPILE
    static constexpr bool pointwise = true;
#else
    static constexpr bool pointwise = false;
#endif
};
struct tap_router {
    using optional_members = kdna::members<kdna::member::routes_spatial>;
    static constexpr bool routes_spatial = true;

    [[nodiscard]] static kdna::index_t input_channels() noexcept { return 4; }
    [[nodiscard]] static kdna::route_widths widths() noexcept { return {.spatial = 9}; }
    [[nodiscard]] static kdna::index_t scratch_floats() noexcept { return 0; }
    void operator()(const float*, const kdna::route& out, float*) const noexcept {
        for (kdna::index_t t = 0; t < 9; ++t) out.spatial[t] = 0.5F;
    }
};

void use(const pointwise_kernel& kernel) { const kdna::conv2d layer(kernel, {.pad = 1}, {}, tap_router{}); }
