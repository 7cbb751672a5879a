// A fixture of the include-layer check.
#pragma once

#include <nlohmann/json.hpp>
#include <unsupported/Eigen/CXX11/Tensor>
#include <xsimd/xsimd.hpp>
