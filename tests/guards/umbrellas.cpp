// What a user includes, and a use that would give errors of its own after the first.
#include <vector>

#include HEADER

kdna::index_t use(const std::vector<float>& v) { return static_cast<kdna::index_t>(v.size()); }
