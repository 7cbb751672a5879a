// An optional member of a kernel source with the right name and the wrong parameters is an error.
// expect: kernel_source
// expect: stored
#include <kdna/nn/conv2d.hpp>

struct mine : kdna::dense_kernel {
    using optional_members = kdna::members<kdna::member::assemble, kdna::member::stored, kdna::member::needs_mixture,
                                           kdna::member::prepare, kdna::member::copy_weights>;
#ifdef SHOULD_NOT_COMPILE
    [[nodiscard]] std::span<const std::byte> stored(kdna::index_t, kdna::index_t, kdna::index_t) const noexcept {
        return {};
    }
#else
    [[nodiscard]] std::span<const std::byte> stored(kdna::index_t, kdna::index_t, const kdna::channel_range&,
                                                    kdna::index_t, kdna::index_t) const noexcept {
        return {};
    }
#endif
};

void use(const mine& kernel) { const kdna::conv2d<mine> layer(kernel, {.pad = 1}); }
