// windows.h without NOMINMAX, before the headers of kdna or between them.
#ifdef BETWEEN
#include <vector>

#include <kdna/core/shape.hpp>
#endif
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#include HEADER
