// Any network from a file of its own (docs/graph-file.md): kdna::load, and .npy files for its inputs and outputs.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/graph/load.hpp>
#include <kdna/io/npy.hpp>

#include <kdna/core/macros_pop.hpp>
