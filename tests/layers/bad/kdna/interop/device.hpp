// A fixture of the include-layer check.
#pragma once

#include <kdna/cuda/leaf.hpp>
