// A fixture of the include-layer check.
#pragma once

#include <Eigen/Core>
