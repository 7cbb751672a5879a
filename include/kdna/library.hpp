// libkdna: networks as a shared library. Files that include this see no other header of kdna and no instruction set; the
// system's loader picks the library for the processor (docs/library.md).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
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

/// One to five extents of any value, in PyTorch's order; an image is [N, C, H, W].
struct nd_shape {
    std::int64_t rank = 0;
    std::int64_t extents[5] = {};
    nd_shape() = default;
    /// Extents past the fifth count, so that functions here refuse the shape.
    nd_shape(std::initializer_list<std::int64_t> list) noexcept {
        for (const std::int64_t e : list) {
            if (rank < 5) extents[rank] = e;
            ++rank;
        }
    }
    friend bool operator==(const nd_shape&, const nd_shape&) = default;
};

/// Memory of the caller's of any rank, with any strides, in elements.
template <class T>
struct nd_view {
    T* data = nullptr;
    nd_shape shape{};
    std::int64_t strides[5] = {};
};
/// Dense memory, the last axis contiguous.
template <class T>
[[nodiscard]] nd_view<T> row_major(T* data, const nd_shape& s) noexcept {
    nd_view<T> out{data, s};
    std::int64_t stride = 1;
    for (std::int64_t axis = s.rank < 5 ? s.rank : 5; axis-- > 0;) {
        out.strides[axis] = stride;
        stride *= s.extents[axis];
    }
    return out;
}

/// Threads for plans. It must outlive the plans that use it. Of runs at the same time one has the threads, and the others run on
/// their calling threads.
class KDNA_LIBRARY_API thread_pool {
public:
    /// The calling thread and `threads` - 1 new ones. Throws library::error unless there are 1 to 1024.
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

/// How a file is loaded.
struct load_options {
    /// How kernels are stored in memory: "float32", "float16" or "bfloat16" in half of it, or "file": as the file has them.
    std::string storage = "float32";
    /// A second .safetensors file, with adapters that were trained on top of the first: every tensor in it takes the place of one of
    /// the same name and shape. Empty: none.
    std::string overlay{};
};

/// What a plan is made with.
struct plan_options {
    thread_pool* threads = nullptr;  ///< null: the calling thread
    bool channels_last = false;      ///< a promise that the channels of an input's pixel are contiguous
    std::int64_t transform_budget =
        -1;  ///< bytes of kernels kept transformed for Winograd; -1: any number, 0: no Winograd
    /// How those kernels are stored: "float32", or in half the memory "float16" or "bfloat16".
    std::string transformed_storage = "float32";
    bool autotune = false;  ///< times the algorithms instead of relying on the cost model
    /// The machine that the plan is made for, by its name ("zen3"; a name that is not known is an error that lists them), or by a
    /// file that kdna_calibrate wrote ("mine.json"); empty: this one. The same machine gives the same bits wherever it is planned and run.
    std::string machine{};
};

/// The memory and the decisions of one network for the shapes of its inputs. A plan serves one run at a time; make one per thread.
class KDNA_LIBRARY_API plan {
public:
    plan(plan&& other) noexcept;
    plan& operator=(plan&& other) noexcept;
    ~plan();
    /// Of the first input and the first output, images; a matrix [N, C] counts as one of single pixels. Throw library::error for
    /// values of another rank.
    [[nodiscard]] shape input_shape() const;
    [[nodiscard]] shape output_shape() const;
    /// Of any input and output. Throw library::error if there is no such.
    [[nodiscard]] nd_shape input_shape(std::int64_t i) const;
    [[nodiscard]] nd_shape output_shape(std::int64_t i) const;
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
    /// Any network from a network file, which tools/export.py writes (docs/graph-file.md). Throws library::error naming the node or
    /// tensor that does not fit, or what is wrong with the file.
    [[nodiscard]] static network load(const std::string& file, const load_options& options = {});
    /// A published network from a .safetensors file. `arch`: resnet18, resnet50, mobilenet_v2 or mobilenet_v2_1d2; `form`:
    /// kernel_dna, plain, odconv, kernel_warehouse, dyconv or dcd. Throws library::error naming the tensor that is missing,
    /// superfluous, or of the wrong type or shape, or what is wrong with the file.
    [[nodiscard]] static network load(const std::string& file, std::string_view arch,
                                      std::string_view form = "kernel_dna", const load_options& options = {});
    network(const network& other);
    network(network&& other) noexcept;
    network& operator=(const network& other);
    network& operator=(network&& other) noexcept;
    ~network();

    [[nodiscard]] std::int64_t input_count() const noexcept;
    [[nodiscard]] std::int64_t output_count() const noexcept;
    /// Names by position, and positions by name. Throw library::error if there is no such input or output.
    [[nodiscard]] std::string input_name(std::int64_t i) const;
    [[nodiscard]] std::string output_name(std::int64_t i) const;
    [[nodiscard]] std::int64_t input_named(std::string_view name) const;
    [[nodiscard]] std::int64_t output_named(std::string_view name) const;
    /// What an input must be: its extents, 0 where any will do. Throws library::error if there is no such input.
    [[nodiscard]] nd_shape input_extents(std::int64_t i) const;
    /// Of the first input and the first output: the extent of axis 1, 0 where it has none or that is not known.
    [[nodiscard]] std::int64_t input_channels() const noexcept;
    [[nodiscard]] std::int64_t output_channels() const noexcept;
    /// Bytes of weights in memory; what layers share counts once.
    [[nodiscard]] std::int64_t weight_bytes() const;
    /// Decides how to run on inputs of shape `in` and allocates everything that a run needs. Throws library::error.
    [[nodiscard]] library::plan plan(const shape& in, const plan_options& options = {}) const;
    /// The same for inputs of any rank, in their order.
    [[nodiscard]] library::plan plan(std::span<const nd_shape> in, const plan_options& options = {}) const;
    /// x [plan.input_shape()] to y [plan.output_shape()], which must not overlap. Allocates nothing. Throws library::error if the
    /// arguments do not fit the plan.
    void run(library::plan& p, const view<const float>& x, const view<float>& y) const;
    /// The same for any number of inputs and outputs, in their order.
    void run(library::plan& p, std::span<const nd_view<const float>> x, std::span<const nd_view<float>> y) const;

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
