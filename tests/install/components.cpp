// Compiles when the targets of the components bring what their headers include.
#if __has_include(<kdna/io/safetensors.hpp>) && defined(WITH_IO)
#include <kdna/io/safetensors.hpp>
#endif
#ifdef WITH_EIGEN
#include <Eigen/Core>
#endif
