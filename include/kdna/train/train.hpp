// Training what belongs to children (adapters, gates, BatchNorms) and the classifier of a KernelDNA network, on the CPU.
//
//     network    parameters by name, and steps           network.hpp, parameters.hpp
//     build      from a function that adds layers        models.hpp
//     pass       forwards, backwards, statistics         pass.hpp
//     loss       softmax cross-entropy                   loss.hpp
//     adam       an optimiser                            adam.hpp
//
// parameters::changed() is what save_safetensors writes and load_options::overlay reads.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/train/adam.hpp>
#include <kdna/train/loss.hpp>
#include <kdna/train/models.hpp>
#include <kdna/train/pass.hpp>

#include <kdna/core/macros_pop.hpp>
