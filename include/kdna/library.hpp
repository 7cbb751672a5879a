// libkdna: networks as a shared library. Files that include this see no other header of kdna and no instruction set; the
// system's loader picks the library for the processor (docs/library.md).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#if defined(_WIN32)
#ifdef KDNA_BUILDS_LIBRARY
#define KDNA_LIBRARY_API __declspec(dllexport)
#else
#define KDNA_LIBRARY_API __declspec(dllimport)
#endif
#else
#define KDNA_LIBRARY_API __attribute__((visibility("default")))
#endif

/// The facade of libkdna. Nothing in it depends on the instruction set or on the compiler's flags, and its names carry neither.
namespace kdna::library {

/// What all functions here throw for files, shapes and arguments: where (a layer, a tensor key, a file), what was expected there,
/// and what was found. `what()` is the three in one sentence.
class KDNA_LIBRARY_API error : public std::runtime_error {
public:
    error(const std::string& message, std::string where, std::string expected, std::string found);
    error(const error&) = default;
    error(error&&) = default;
    error& operator=(const error&) = default;
    error& operator=(error&&) = default;
    ~error() override;
    [[nodiscard]] const std::string& where() const noexcept { return where_; }
    [[nodiscard]] const std::string& expected() const noexcept { return expected_; }
    [[nodiscard]] const std::string& found() const noexcept { return found_; }

private:
    std::string where_, expected_, found_;
};

/// Extents of a batch of images: samples N, channels C, rows H, columns W.
struct shape {
    std::int64_t n = 1, c = 1, h = 1, w = 1;
};

/// Memory of the caller's, T[N, C, H, W] with any strides, in elements. Nothing outside of the elements is touched, and no
/// alignment is needed.
template <class T>
struct view {
    T* data = nullptr;
    shape extents{};
    shape strides{};
};
/// Dense memory, the channels of a sample one after another.
template <class T>
[[nodiscard]] view<T> nchw(T* data, const shape& s) noexcept {
    return {data, s, {s.c * s.h * s.w, s.h * s.w, s.w, 1}};
}
/// Dense memory, the channels of a pixel contiguous: the faster order for inputs.
template <class T>
[[nodiscard]] view<T> nhwc(T* data, const shape& s) noexcept {
    return {data, s, {s.h * s.w * s.c, 1, s.w * s.c, s.c}};
}

/// Threads for plans. It must outlive the plans that use it; it serves one run at a time.
class KDNA_LIBRARY_API thread_pool {
public:
    /// Throws library::error if `threads` is less than 1, or more than 1 in a library that was built without a pool.
    explicit thread_pool(int threads);
    ~thread_pool();
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    [[nodiscard]] int threads() const noexcept;

private:
    friend class network;
    struct state;
    std::unique_ptr<state> state_;
};

/// What a plan is made with.
struct plan_options {
    thread_pool* threads = nullptr;  ///< null: the calling thread
    bool channels_last = false;      ///< a promise that the channels of an input's pixel are contiguous
    std::int64_t transform_budget =
        -1;                 ///< bytes of kernels kept transformed for Winograd; -1: any number, 0: no Winograd
    bool autotune = false;  ///< times the algorithms instead of relying on the cost model
};

/// The memory and the decisions of one network for one input shape. A plan serves one run at a time; make one per thread.
class KDNA_LIBRARY_API plan {
public:
    plan(plan&& other) noexcept;
    plan& operator=(plan&& other) noexcept;
    ~plan();
    [[nodiscard]] shape input_shape() const noexcept;
    [[nodiscard]] shape output_shape() const noexcept;
    /// Bytes of activations and scratch that the plan owns.
    [[nodiscard]] std::int64_t bytes() const noexcept;
    /// A line for each layer: shapes, algorithm, tile, where each factor is applied, workspace; then the totals.
    [[nodiscard]] std::string explain() const;

private:
    friend class network;
    struct state;
    explicit plan(std::unique_ptr<state> s) noexcept;
    std::unique_ptr<state> state_;
};

/// A network, immutable: one serves many threads, each with a plan of its own. Copies share the weights.
class KDNA_LIBRARY_API network {
public:
    /// A published network from a .safetensors file. `arch`: resnet18, resnet50, mobilenet_v2 or mobilenet_v2_1d2; `form`:
    /// kernel_dna, plain, odconv, kernel_warehouse, dyconv or dcd. Throws library::error naming the tensor that is missing,
    /// superfluous, or of the wrong type or shape, or what is wrong with the file.
    [[nodiscard]] static network load(const std::string& file, std::string_view arch,
                                      std::string_view form = "kernel_dna");
    network(const network& other);
    network(network&& other) noexcept;
    network& operator=(const network& other);
    network& operator=(network&& other) noexcept;
    ~network();

    [[nodiscard]] std::int64_t input_channels() const noexcept;
    [[nodiscard]] std::int64_t output_channels() const noexcept;
    /// Bytes of weights in memory; what layers share counts once.
    [[nodiscard]] std::int64_t weight_bytes() const;
    /// Decides how to run on inputs of shape `in` and allocates everything that a run needs. Throws library::error.
    [[nodiscard]] library::plan plan(const shape& in, const plan_options& options = {}) const;
    /// x [plan.input_shape()] to y [plan.output_shape()], which must not overlap. Allocates nothing. Throws library::error if the
    /// arguments do not fit the plan.
    void run(library::plan& p, const view<const float>& x, const view<float>& y) const;

private:
    struct state;
    explicit network(std::shared_ptr<const state> s) noexcept;
    std::shared_ptr<const state> state_;
};

/// The version, "0.1.0", and the instruction set of the library that was loaded: "x86-64", "x86-64-v3", "x86-64-v4", "aarch64" or "other".
[[nodiscard]] KDNA_LIBRARY_API const char* version() noexcept;
[[nodiscard]] KDNA_LIBRARY_API const char* instruction_set() noexcept;

}  // namespace kdna::library

#include <kdna/core/macros_pop.hpp>
