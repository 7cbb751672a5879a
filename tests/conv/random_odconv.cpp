// Random ODConv layers: factors along all axes from one router.
#include "support/run_case.hpp"

using namespace kdna_test;

TEST_CASE("Random ODConv layers of one kernel agree with the formula") { run_random_cases<method::odconv>(6, 1000); }

TEST_CASE("Random ODConv layers of several kernels agree with the formula") {
    run_random_cases<method::odconv_n>(7, 1000);
}
