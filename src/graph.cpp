// kdna::compiled: networks from files.
#include <kdna/graph/fusion.ipp>
#include <kdna/graph/graph.ipp>
#include <kdna/graph/load.ipp>
#include <kdna/graph/lowering.ipp>
