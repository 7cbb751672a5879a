// A source file with the headers of core/ only.
#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>
#include <kdna/core/executor.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/core/shape.hpp>

kdna::index_t cost(const kdna::shape4& s) { return kdna::element_count(s); }
