// Every macro that the headers put away, defined as something that would not compile, before and behind every header.
#include "poison.hpp"

#include "all_headers.hpp"

#include "restored.hpp"
