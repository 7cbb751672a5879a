// Whole networks: kdna.hpp, files, and the published architectures.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/io/npy.hpp>
#include <kdna/io/safetensors.hpp>
#include <kdna/kdna.hpp>
#include <kdna/models/dynamic_layers.hpp>
#include <kdna/models/load_on.hpp>
#include <kdna/models/mobilenet_v2.hpp>
#include <kdna/models/resnet.hpp>
#include <kdna/models/zoo.hpp>

#include <kdna/core/macros_pop.hpp>
