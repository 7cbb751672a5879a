// The main function of the tests of PTX: says how much of it they executed.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include "cuda/ptx/device.hpp"
#include "support/catch.hpp"

int main(int argc, char** argv) {
    const int status = Catch::Session().run(argc, argv);
    if (status != 0) return status;
    std::size_t programs = 0, idle = 0, all = 0, reached = 0;
    for (const kdna_test::ptx::program& p : kdna_test::compiled_programs().programs()) {
        std::size_t here = 0;
        for (const auto r : p.reached) here += r;
        if (here == 0 && argc == 1)
            std::printf("never launched: %.*s\n", static_cast<int>(p.name.size()), p.name.data());
        if (here == 0) ++idle;
        ++programs;
        all += p.code.size();
        reached += here;
    }
    std::printf("executed: %zu of %zu programs, %zu of their %zu instructions\n", programs - idle, programs, reached,
                all);
    return idle == 0 || argc > 1 ? 0 : 1;  // arguments may have left out tests
}
