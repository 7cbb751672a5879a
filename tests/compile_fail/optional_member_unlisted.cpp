// An optional member of a kernel source that its list leaves out is an error.
// expect: kernel_source
// expect: bias
#include <kdna/nn/conv2d.hpp>

struct mine : kdna::dense_kernel {
#ifndef SHOULD_NOT_COMPILE
    using optional_members = kdna::members<kdna::member::assemble, kdna::member::stored, kdna::member::needs_mixture,
                                           kdna::member::prepare, kdna::member::copy_weights, kdna::member::bias>;
#endif
    [[nodiscard]] static bool has_bias() noexcept { return true; }
    [[nodiscard]] static float bias(kdna::index_t, const float*) noexcept { return 1.0F; }
};

void use(const mine& kernel) { const kdna::conv2d<mine> layer(kernel, {.pad = 1}); }
