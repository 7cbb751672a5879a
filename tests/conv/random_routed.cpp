// Random convolutions whose channel, filter and spatial factors are routed, in all combinations.
#include "support/run_case.hpp"

using namespace kdna_test;

TEST_CASE("Random convolutions with routed factors agree with the formula") {
    run_random_cases<method::routed>(3, 5000);
}
