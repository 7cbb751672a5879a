// Random mixtures of kernels: CondConv, DyConv, and mixtures under every other routed factor.
#include "support/run_case.hpp"

using namespace kdna_test;

TEST_CASE("Random CondConv layers agree with the formula") { run_random_cases<method::condconv>(4, 2500); }

TEST_CASE("Random DyConv layers agree with the formula") { run_random_cases<method::dyconv>(8, 800); }

TEST_CASE("Random mixtures with other routed factors agree with the formula") {
    run_random_cases<method::mixed>(5, 2500);
}
