// A kernel source lists its optional members: one that is listed and not there, because its name is misspelt, is an error.
// expect: kernel_source
// expect: assembly_terms
#include <kdna/nn/conv2d.hpp>

struct mine : kdna::dense_kernel {
    using optional_members =
        kdna::members<kdna::member::assemble, kdna::member::stored, kdna::member::needs_mixture, kdna::member::prepare,
                      kdna::member::copy_weights, kdna::member::assembly_terms>;
#ifdef SHOULD_NOT_COMPILE
    [[nodiscard]] static kdna::index_t asembly_terms() noexcept { return 2; }
#else
    [[nodiscard]] static kdna::index_t assembly_terms() noexcept { return 2; }
#endif
};

void use(const mine& kernel) { const kdna::conv2d<mine> layer(kernel, {.pad = 1}); }
