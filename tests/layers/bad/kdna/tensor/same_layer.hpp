// A fixture of the include-layer check.
#pragma once

#include <kdna/simd/simd.hpp>
