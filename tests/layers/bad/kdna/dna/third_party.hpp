// A fixture of the include-layer check.
#pragma once

#include <xsimd/xsimd.hpp>
#include <nlohmann/json.hpp>
#  include <unsupported/Eigen/CXX11/Tensor>
