// A GPU whose plain layers run by cuDNN: cuda::cudnn_gpu. Files that include this are compiled by nvcc and link
// kdna::cudnn.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/cuda/layers/cudnn.hpp>

#include <kdna/core/macros_pop.hpp>
