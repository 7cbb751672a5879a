// Observers of accesses to device memory, for programs that run on a host. Programs compiled for a GPU have none.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstddef>
#include <cstdint>

#include <kdna/core/config.hpp>

namespace kdna::inline KDNA_ABI::cuda {

enum class access_kind { load, store };

#if !defined(__CUDACC__)
/// Is told of every access that a program makes through a device_span (span.hpp).
class access_observer {
public:
    virtual void device_access(access_kind kind, std::uintptr_t address, std::size_t bytes) = 0;

protected:
    ~access_observer() = default;
};

/// The observer of the programs that run in this thread, or null.
inline thread_local access_observer* device_access_observer = nullptr;
#endif

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
