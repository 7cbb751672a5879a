// Random convolutions behind a squeeze-excite gate: KernelDNA's children.
#include "support/run_case.hpp"

using namespace kdna_test;

TEST_CASE("Random gated children agree with the formula") { run_random_cases<method::gated>(2, 5000); }
