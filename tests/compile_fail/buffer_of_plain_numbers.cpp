// A buffer holds plain numbers; anything with a copy constructor or a destructor of its own is refused.
// expect: kdna::buffer holds plain numbers
#include <string>

#include <kdna/core/memory.hpp>

#ifdef SHOULD_NOT_COMPILE
kdna::buffer<std::string> make() { return kdna::buffer<std::string>(1); }
#else
kdna::buffer<double> make() { return kdna::buffer<double>(1); }
#endif
