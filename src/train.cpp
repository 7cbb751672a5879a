// kdna::compiled: training of adapters, gates and norms.
#include <kdna/train/adam.ipp>
#include <kdna/train/convolution_gradients.ipp>
#include <kdna/train/convolution_pass.ipp>
#include <kdna/train/gate_pass.ipp>
#include <kdna/train/loss.ipp>
#include <kdna/train/models.ipp>
#include <kdna/train/network.ipp>
#include <kdna/train/parameters.ipp>
#include <kdna/train/pass.ipp>
