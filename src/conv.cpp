// kdna::compiled: convolutions on the CPU, their plans and loop nests.
#include <kdna/conv/convolution.ipp>
#include <kdna/conv/position/nest.ipp>
#include <kdna/conv/position/plan.ipp>
#include <kdna/conv/prepared_kernels.ipp>
#include <kdna/conv/stage.ipp>
#include <kdna/simd/activation.ipp>
