// kdna::compiled: kernel sources, routers, and files.
#include <kdna/dna/acdc.ipp>
#include <kdna/dna/algebra.ipp>
#include <kdna/dna/attention.ipp>
#include <kdna/dna/cells.ipp>
#include <kdna/dna/channel_gate.ipp>
#include <kdna/dna/condconv.ipp>
#include <kdna/dna/dcd.ipp>
#include <kdna/dna/dyconv.ipp>
#include <kdna/dna/fully_connected.ipp>
#include <kdna/dna/kernel_warehouse.ipp>
#include <kdna/dna/mixture.ipp>
#include <kdna/dna/odconv.ipp>
#include <kdna/dna/position_kernel.ipp>
#include <kdna/dna/runtime_kernel.ipp>
#include <kdna/dna/sparse_kernel.ipp>
#include <kdna/dna/squeeze_excite.ipp>
#include <kdna/tensor/packed_kernel.ipp>
