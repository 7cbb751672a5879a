// A kernel source lists its optional members: one that is listed and not there, because its name is misspelt, is an error.
// expect: kernel_source
// expect: assemble
#include <kdna/nn/conv2d.hpp>

struct mine : kdna::dense_kernel {
    using optional_members = kdna::members<kdna::member::stored, kdna::member::needs_mixture, kdna::member::prepare,
                                           kdna::member::copy_weights, kdna::member::assemble>;
#ifdef SHOULD_NOT_COMPILE
    void asemble(kdna::index_t, kdna::index_t, const float*, const kdna::channel_range&, float*) const noexcept {}
#else
    void assemble(kdna::index_t, kdna::index_t, const float*, const kdna::channel_range&, float*) const noexcept {}
#endif
};

void use(const mine& kernel) { const kdna::conv2d<mine> layer(kernel, {.pad = 1}); }
