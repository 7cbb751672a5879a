// KernelDNA (Huang, Zhang, Ren, Xu, arXiv 2503.23379) in this library's words.
//
//     child(x)  =  BN_c( conv( g(x) . x,  W_parent . (1 + a_sp) . (1 + a_f) ) )
//
//     W_parent   parent_kernel::pack(...)                  packed once                      source.hpp
//     a_sp, a_f  parent.child({.spatial, .filter})         KH*KW and O numbers              factors.hpp
//     g(x)       squeeze_excite({.fc1, .bn, .fc2, ...})    per sample and input channel     squeeze_excite.hpp
//     BN_c       conv2d's options                          folded with (1 + a_f)            algebra.hpp
//
// A parent's own layer has neither adapter nor gate; conv2d (nn/conv2d.hpp) runs both.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/dna/algebra.hpp>
#include <kdna/dna/factors.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/dna/squeeze_excite.hpp>

#include <kdna/core/macros_pop.hpp>
