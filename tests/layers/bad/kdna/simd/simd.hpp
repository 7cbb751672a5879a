// A fixture of the include-layer check.
#pragma once

#include <xsimd/xsimd.hpp>
