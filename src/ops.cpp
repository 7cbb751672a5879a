// kdna::compiled: the operations of networks that are no layers.
#include <kdna/nn/ops/copy.ipp>
#include <kdna/nn/ops/concat.ipp>
#include <kdna/nn/ops/elementwise.ipp>
#include <kdna/nn/ops/pool2d.ipp>
#include <kdna/nn/ops/resize.ipp>
#include <kdna/nn/value_operations.ipp>
