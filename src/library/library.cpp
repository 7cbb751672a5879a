// libkdna: the definitions of <kdna/library.hpp>, and of everything behind it, in one file whose symbols are hidden.
#include <limits>
#include <optional>
#include <utility>

#include <kdna/library.hpp>
#include <kdna/models/zoo.hpp>
#ifdef KDNA_LIBRARY_POOL
#include <kdna/interop/eigen_thread_pool.hpp>
#endif

namespace kdna::library {
namespace {

[[nodiscard]] shape4 shape_of(const shape& s) noexcept { return {s.n, s.c, s.h, s.w}; }
[[nodiscard]] shape shape_of(const shape4& s) noexcept { return {s.n, s.c, s.h, s.w}; }

template <class T>
[[nodiscard]] tensor_view<T> view_of(const view<T>& v) noexcept {
    return {v.data, shape_of(v.extents), {v.strides.n, v.strides.c, v.strides.h, v.strides.w}};
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
#ifdef KDNA_LIBRARY_POOL
    explicit state(int n) : threads(n), executor(n) {}
    int threads;
    eigen_thread_pool executor;
#else
    explicit state(int n) : threads(n) {
        if (n > 1) throw kdna::error("threads", "1 (this libkdna was built without Eigen's pool)", concat(n));
    }
    int threads;
    serial_executor executor{};
#endif
};

thread_pool::thread_pool(int threads) {
    translated([&] {
        if (threads < 1) throw kdna::error("threads", "at least 1", concat(threads));
        state_ = std::make_unique<state>(threads);
    });
}
thread_pool::~thread_pool() = default;
int thread_pool::threads() const noexcept { return state_->threads; }

struct plan::state {
    network_plan plan;
};
plan::plan(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}
plan::plan(plan&& other) noexcept = default;
plan& plan::operator=(plan&& other) noexcept = default;
plan::~plan() = default;
shape plan::input_shape() const noexcept { return shape_of(state_->plan.input_shape()); }
shape plan::output_shape() const noexcept { return shape_of(state_->plan.output_shape()); }
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

network network::load(const std::string& file, std::string_view arch, std::string_view form) {
    return translated([&] {
        return network(std::make_shared<const state>(
            state{models::load(models::arch_of(arch), std::filesystem::path(file), models::form_of(form))}));
    });
}
std::int64_t network::input_channels() const noexcept { return state_->net.input_channels(); }
std::int64_t network::output_channels() const noexcept { return state_->net.output_channels(); }
std::int64_t network::weight_bytes() const { return state_->net.weight_bytes(); }

library::plan network::plan(const shape& in, const plan_options& options) const {
    return translated([&] {
        kdna::plan_options inner;
        if (options.threads != nullptr) inner.executor = options.threads->state_->executor;
        inner.order = options.channels_last ? input_order::nhwc : input_order::any;
        if (options.transform_budget >= 0) inner.transform_budget = options.transform_budget;
        inner.autotune = options.autotune;
        return library::plan(
            std::make_unique<library::plan::state>(library::plan::state{state_->net.plan(shape_of(in), inner)}));
    });
}

void network::run(library::plan& p, const view<const float>& x, const view<float>& y) const {
    translated([&] {
        state_->net.check(p.state_->plan, view_of(x), view_of(y));
        state_->net.run(p.state_->plan, view_of(x), view_of(y));
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
