// libkdna: the definitions of <kdna/library.hpp>, and of everything behind it, in one file whose symbols are hidden.
#include <algorithm>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <kdna/core/thread_pool.hpp>
#include <kdna/io/machine_file.hpp>
#include <kdna/library.hpp>
#include <kdna/load.hpp>
#include <kdna/models/zoo.hpp>

namespace kdna::library {
namespace {

[[nodiscard]] shape4 shape_of(const shape& s) noexcept { return {s.n, s.c, s.h, s.w}; }
[[nodiscard]] shape shape_of(const shape4& s) noexcept { return {s.n, s.c, s.h, s.w}; }

template <class T>
[[nodiscard]] tensor_view<T> view_of(const view<T>& v) noexcept {
    return {v.data, shape_of(v.extents), {v.strides.n, v.strides.c, v.strides.h, v.strides.w}};
}

[[nodiscard]] kdna::nd_shape shape_of(const nd_shape& s, std::string_view where) {
    if (s.rank < 1 || s.rank > most_axes) throw kdna::error(std::string(where), "a rank of 1 to 5", concat(s.rank));
    return kdna::nd_shape(std::span<const index_t>(s.extents, static_cast<std::size_t>(s.rank)), where);
}
[[nodiscard]] nd_shape shape_of(std::span<const index_t> extents) noexcept {
    nd_shape out;
    for (const index_t e : extents) out.extents[out.rank++] = e;
    return out;
}

template <class T>
[[nodiscard]] kdna::nd_view<T> view_of(const nd_view<T>& v) {
    axis_numbers strides{};
    std::copy(std::begin(v.strides), std::end(v.strides), strides.begin());
    return {v.data, shape_of(v.shape, "network"), strides};
}

/// Throws kdna::error unless there is an i-th of `count`.
void check_position(std::int64_t i, std::int64_t count, const char* what) {
    if (i < 0 || i >= count) throw kdna::error(what, concat("0 to ", count - 1), concat(i));
}

[[nodiscard]] kdna::load_options options_of(const load_options& options) {
    return {.storage = storage_named(options.storage), .overlay = options.overlay};
}

/// What plans of the library behind the facade are made with, but for the threads.
[[nodiscard]] kdna::plan_options options_of(const plan_options& options) {
    kdna::plan_options out;
    out.order = options.channels_last ? input_order::nhwc : input_order::any;
    if (options.transform_budget >= 0) out.transform_budget = options.transform_budget;
    const auto transformed = storage_named(options.transformed_storage);
    if (!transformed)
        throw kdna::error("transformed_storage", "float32, float16 or bfloat16", options.transformed_storage);
    out.transformed_storage = *transformed;
    out.autotune = options.autotune;
    if (!options.machine.empty()) out.target = find_machine(options.machine);
    return out;
}

/// Calls f() and turns kdna::error, whose name carries the instruction set, into library::error.
template <class F>
auto translated(const F& f) {
    try {
        return f();
    } catch (const kdna::error& e) {
        throw library::error(e.what(), e.where(), e.expected(), e.found());
    }
}

}  // namespace

error::error(const std::string& message, std::string where, std::string expected, std::string found)
    : std::runtime_error(message), where_(std::move(where)), expected_(std::move(expected)), found_(std::move(found)) {}
error::~error() = default;

struct thread_pool::state {
    explicit state(int threads) : executor(threads) {}
    kdna::thread_pool executor;
};

thread_pool::thread_pool(int threads) : state_(translated([&] { return std::make_unique<state>(threads); })) {}
thread_pool::~thread_pool() = default;
int thread_pool::threads() const noexcept { return static_cast<int>(state_->executor.concurrency()); }

struct plan::state {
    state(network_plan p, std::int64_t inputs, std::int64_t outputs)
        : plan(std::move(p)), x(static_cast<std::size_t>(inputs)), y(static_cast<std::size_t>(outputs)) {}
    network_plan plan;
    // A run's arguments, so that it allocates nothing.
    std::vector<kdna::nd_view<const float>> x;
    std::vector<kdna::nd_view<float>> y;
};
plan::plan(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}
plan::plan(plan&& other) noexcept = default;
plan& plan::operator=(plan&& other) noexcept = default;
plan::~plan() = default;
shape plan::input_shape() const {
    return translated([&] { return shape_of(state_->plan.input_shape()); });
}
shape plan::output_shape() const {
    return translated([&] { return shape_of(state_->plan.output_shape()); });
}
nd_shape plan::input_shape(std::int64_t i) const {
    return translated([&] {
        check_position(i, std::ssize(state_->x), "network input");
        return shape_of(state_->plan.input_shape(i).extents());
    });
}
nd_shape plan::output_shape(std::int64_t i) const {
    return translated([&] {
        check_position(i, std::ssize(state_->y), "network output");
        return shape_of(state_->plan.output_shape(i).extents());
    });
}
std::int64_t plan::bytes() const noexcept { return state_->plan.arena_bytes() + state_->plan.workspace_bytes(); }
std::string plan::explain() const { return state_->plan.explain(); }

struct network::state {
    kdna::network net;
};
network::network(std::shared_ptr<const state> s) noexcept : state_(std::move(s)) {}
network::network(const network& other) = default;
network::network(network&& other) noexcept = default;
network& network::operator=(const network& other) = default;
network& network::operator=(network&& other) noexcept = default;
network::~network() = default;

network network::load(const std::string& file, const load_options& options) {
    return translated([&] {
        return network(
            std::make_shared<const state>(state{kdna::load(std::filesystem::path(file), options_of(options))}));
    });
}
network network::load(const std::string& file, std::string_view arch, std::string_view form,
                      const load_options& options) {
    return translated([&] {
        return network(std::make_shared<const state>(state{models::load(
            models::arch_of(arch), std::filesystem::path(file), models::form_of(form), options_of(options))}));
    });
}
std::int64_t network::input_count() const noexcept { return state_->net.input_count(); }
std::int64_t network::output_count() const noexcept { return state_->net.output_count(); }
std::string network::input_name(std::int64_t i) const {
    return translated([&] {
        check_position(i, input_count(), "network input");
        return state_->net.input_name(i);
    });
}
std::string network::output_name(std::int64_t i) const {
    return translated([&] {
        check_position(i, output_count(), "network output");
        return state_->net.output_name(i);
    });
}
std::int64_t network::input_named(std::string_view name) const {
    return translated([&] { return state_->net.input_named(name); });
}
std::int64_t network::output_named(std::string_view name) const {
    return translated([&] { return state_->net.output_named(name); });
}
nd_shape network::input_extents(std::int64_t i) const {
    return translated([&] {
        check_position(i, input_count(), "network input");
        return shape_of(state_->net.input_extents(i));
    });
}
std::int64_t network::input_channels() const noexcept { return state_->net.input_channels(); }
std::int64_t network::output_channels() const noexcept { return state_->net.output_channels(); }
std::int64_t network::weight_bytes() const { return state_->net.weight_bytes(); }

library::plan network::plan(const shape& in, const plan_options& options) const {
    return translated([&] {
        kdna::plan_options inner = options_of(options);
        if (options.threads != nullptr) inner.executor = options.threads->state_->executor;
        return library::plan(std::make_unique<library::plan::state>(state_->net.plan(shape_of(in), inner),
                                                                    input_count(), output_count()));
    });
}

library::plan network::plan(std::span<const nd_shape> in, const plan_options& options) const {
    return translated([&] {
        kdna::plan_options inner = options_of(options);
        if (options.threads != nullptr) inner.executor = options.threads->state_->executor;
        std::vector<kdna::nd_shape> shapes;
        for (const nd_shape& s : in) shapes.push_back(shape_of(s, "network input"));
        return library::plan(
            std::make_unique<library::plan::state>(state_->net.plan(shapes, inner), input_count(), output_count()));
    });
}

void network::run(library::plan& p, const view<const float>& x, const view<float>& y) const {
    translated([&] {
        state_->net.check(p.state_->plan, view_of(x), view_of(y));
        state_->net.run(p.state_->plan, view_of(x), view_of(y));
    });
}

void network::run(library::plan& p, std::span<const nd_view<const float>> x, std::span<const nd_view<float>> y) const {
    translated([&] {
        std::vector<kdna::nd_view<const float>>& in = p.state_->x;
        std::vector<kdna::nd_view<float>>& out = p.state_->y;
        if (x.size() != in.size()) throw kdna::error("network inputs", concat(in.size()), concat(x.size()));
        if (y.size() != out.size()) throw kdna::error("network outputs", concat(out.size()), concat(y.size()));
        std::transform(x.begin(), x.end(), in.begin(), [](const auto& v) { return view_of(v); });
        std::transform(y.begin(), y.end(), out.begin(), [](const auto& v) { return view_of(v); });
        state_->net.check(p.state_->plan, in, out);
        state_->net.run(p.state_->plan, in, out);
    });
}

const char* version() noexcept {
#define KDNA_TEXT_OF(x) #x
#define KDNA_TEXT(x) KDNA_TEXT_OF(x)
    return KDNA_TEXT(KDNA_VERSION_MAJOR) "." KDNA_TEXT(KDNA_VERSION_MINOR) "." KDNA_TEXT(KDNA_VERSION_PATCH);
}

const char* instruction_set() noexcept {
#if defined(__AVX512F__)
    return "x86-64-v4";
#elif defined(__AVX2__)
    return "x86-64-v3";
#elif defined(__x86_64__)
    return "x86-64";
#elif defined(__aarch64__)
    return "aarch64";
#else
    return "other";
#endif
}

}  // namespace kdna::library
