// A device whose programs are nvcc's PTX, interpreted. Host code is compiled as C++: of programs it takes their arguments, the number
// of threads and bytes of shared memory, and nothing else.
#pragma once

#include <functional>
#include <string>
#include <typeinfo>
#include <utility>

#include <kdna/cuda/device/device.hpp>
#include <kdna/cuda/layers/network.hpp>

#include "cuda/ptx/interpreter.hpp"

namespace kdna::inline KDNA_ABI::cuda {

/// Stands where gpu.hpp, which this code cannot include, has the function template: of the two, names are mangled alike.
template <class Program>
struct program_entry {};

}  // namespace kdna::inline KDNA_ABI::cuda

namespace kdna_test {

/// The programs of kdna::cuda_compiled, as nvcc compiles them (src/cuda.cu).
[[nodiscard]] const ptx::module& compiled_programs();

/// Models device_api (kdna/cuda/device/device.hpp).
class ptx_device {
public:
    using stream = int;

    /// `multiprocessors` is what plans are told; `seed` decides in which order blocks run.
    explicit ptx_device(int multiprocessors = 4, std::uint64_t seed = 1)
        : multiprocessors_(multiprocessors), seed_(seed) {}

    [[nodiscard]] int multiprocessors() const noexcept { return multiprocessors_; }
    [[nodiscard]] void* allocate(kdna::index_t bytes) { return heap_.allocate(static_cast<std::size_t>(bytes)); }
    void release(void* p) noexcept { heap_.release(p); }
    static void upload(void* to, const void* from, kdna::index_t bytes, stream) {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    static void download(void* to, const void* from, kdna::index_t bytes, stream) {
        std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    static void synchronize(stream) {}

    template <class Program>
    void launch(const kdna::cuda::grid_size& grid, const typename Program::arguments& arguments, stream) {
        kdna::cuda::check_grid<Program>(grid);
        // Itanium C++ ABI: the name of the type, behind _Z, is how the name of the function begins.
        static const ptx::program& program =
            compiled_programs().program_of(std::string("_Z") + typeid(kdna::cuda::program_entry<Program>).name());
        ptx::run(program,
                 {.name = Program::name,
                  .x = grid.x,
                  .y = grid.y,
                  .z = grid.z,
                  .threads = Program::threads,
                  .arguments = &arguments,
                  .argument_bytes = sizeof(arguments),
                  .shared_bytes = static_cast<std::size_t>(Program::shared_bytes(arguments)),
                  .seed = ++seed_},
                 heap_);
    }

    class recording {
    public:
        void operator()(stream s) const { work_(s); }

    private:
        friend class ptx_device;
        std::function<void(stream)> work_{};
    };
    [[nodiscard]] static recording record(std::function<void(stream)> work) {
        recording r;
        r.work_ = std::move(work);
        return r;
    }

private:
    int multiprocessors_;
    std::uint64_t seed_;
    ptx::device_heap heap_{};
};
static_assert(kdna::cuda::device_api<ptx_device>);

}  // namespace kdna_test

extern template class kdna::cuda::device_conv<kdna_test::ptx_device>;
extern template class kdna::cuda::detail::network_body<kdna_test::ptx_device>;
extern template class kdna::cuda::basic_network<kdna_test::ptx_device>;
