// kdna::compiled: the operations of networks that are no layers.
#include <kdna/nn/ops/copy.ipp>
#include <kdna/nn/ops/dynamic_relu.ipp>
#include <kdna/nn/ops/elementwise.ipp>
#include <kdna/nn/ops/matmul.ipp>
#include <kdna/nn/ops/norm.ipp>
#include <kdna/nn/ops/pad.ipp>
#include <kdna/nn/ops/pool2d.ipp>
#include <kdna/nn/ops/reduce.ipp>
#include <kdna/nn/ops/resize.ipp>
#include <kdna/nn/ops/softmax.ipp>
#include <kdna/nn/value_operations.ipp>
