// conv2d takes any type that models kernel_source, and says so of one that does not.
// expect: kernel_source
#include <kdna/kdna.hpp>

// A kernel of ones. Its panel may throw for SHOULD_NOT_COMPILE, which the loop nests could not survive.
class ones {
public:
    using optional_members = kdna::members<>;

    explicit ones(const kdna::kernel_shape& k) : layout_(k), panel_(layout_.floats(), 1.0F) {}

    [[nodiscard]] const kdna::panel_layout& layout() const noexcept { return layout_; }
    [[nodiscard]] static kdna::index_t mixture_size() noexcept { return 0; }
    [[nodiscard]] static kdna::index_t scratch_floats() noexcept { return 0; }
    [[nodiscard]] const float* panel(kdna::index_t, kdna::index_t, const float*, float*) const
#ifndef SHOULD_NOT_COMPILE
        noexcept
#endif
    {
        return panel_.data();
    }
    [[nodiscard]] static double weight(kdna::index_t, kdna::index_t, kdna::index_t, const float*) { return 1.0; }
    template <class F>
    void for_each_storage(F&& f) const {
        f(static_cast<const void*>(panel_.data()), static_cast<kdna::index_t>(panel_.size() * sizeof(float)));
    }

private:
    kdna::panel_layout layout_;
    std::vector<float> panel_;
};

void use() { const kdna::conv2d<ones> layer(ones({.o = 4, .i = 4, .kh = 3, .kw = 3}), {.pad = 1}); }
