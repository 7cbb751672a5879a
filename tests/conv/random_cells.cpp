// Random layers whose kernels are put together: from cells, atoms, codewords, and in DCD.
#include "support/run_case.hpp"

using namespace kdna_test;

TEST_CASE("Random KernelWarehouse layers agree with the formula") { run_random_cases<method::warehouse>(9, 1200); }

TEST_CASE("Random DCD layers agree with the formula") { run_random_cases<method::dcd>(10, 1200); }

TEST_CASE("Random ACDC layers agree with the formula") { run_random_cases<method::acdc>(11, 1000); }

TEST_CASE("Random layers of selected kernels agree with the formula") { run_random_cases<method::sparse>(12, 1000); }
