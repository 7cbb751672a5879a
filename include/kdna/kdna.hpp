// One layer at a time: tensors, kernels, routers, convolution, pooling. Networks are in kdna/models.hpp, files in kdna/io/.
#pragma once

#include <kdna/backend/reference.hpp>
#include <kdna/dna/condconv.hpp>
#include <kdna/dna/kernel_dna.hpp>
#include <kdna/nn/conv2d.hpp>
#include <kdna/nn/pool.hpp>
#include <kdna/nn/runtime_conv2d.hpp>
