// Random convolutions whose factors are all static.
#include "support/run_case.hpp"

using namespace kdna_test;

TEST_CASE("Random plain and adapted convolutions agree with the formula") { run_random_cases<method::plain>(1, 12000); }
