// conv2d takes any type that models conv_backend, and says so of one that does not.
// expect: conv_backend
#include <kdna/kdna.hpp>

// The CPU backend under another name. For SHOULD_NOT_COMPILE its run may throw.
struct my_backend : kdna::backend::cpu {
#ifdef SHOULD_NOT_COMPILE
    static void run(const plan& p, const kdna::conv::call& c, std::byte* workspace,
                    const kdna::executor_ref& executor) {
        kdna::backend::cpu::run(p, c, workspace, executor);
    }
#endif
};

using layer = kdna::conv2d<kdna::dense_kernel, kdna::no_router, my_backend>;
void use(const layer& l) { static_cast<void>(l.plan({.n = 1, .c = 4, .h = 8, .w = 8})); }
