// A fixture of the include-layer check.
#pragma once

#include <kdna/io/file.hpp>
