// What an algorithm is: a table of functions. It offers ways to run a problem, plans the one that is chosen, and runs
// it.
//
// Each folder beside this file is one. Its algorithm.hpp has the table, and its plan.hpp a struct with its decisions.
// Nothing else in the library knows of it but the list in algorithms.hpp (docs/extending.md).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/conv/call.hpp>
#include <kdna/conv/plan.hpp>
#include <kdna/core/executor.hpp>
#include <kdna/core/memory.hpp>

namespace kdna::inline KDNA_ABI::conv {

/// What is to be planned: a problem on one input shape. Where padding is the map's opposite side, the input is copied
/// with that border. The nest then sees a larger map without padding.
struct plan_request {
    const problem& layer;
    shape4 in{}, out{};                    ///< of the call
    input_order order = input_order::any;  ///< that the call's input is promised to have
    index_t threads = 1;
    std::string_view where{};  ///< name of the layer, for errors
    // What the nest sees.
    conv_params params{};
    shape4 map{};                              ///< input, with its circular border
    input_order map_order = input_order::any;  ///< `any` where the copy is made in any case
    bool circular = false;                     ///< whether there is such a copy

    [[nodiscard]] const panel_layout& kernel() const noexcept { return layer.kernel(); }
    [[nodiscard]] const machine& target() const noexcept { return *layer.target; }
    [[nodiscard]] const kernel_shape& shape() const noexcept { return layer.shape(); }
};

/// One way in which an algorithm can run a problem, and what that is expected to cost.
///
/// Offers are compared in the order in which they are made: one is taken if its cost is below `share` times that of the
/// one that would be taken without it. Costs are of one sample and depend on nothing but the shapes of the layer and
/// the map, and the machine that is planned for. A batch so has the bits of its samples, on any number of threads. They leave a child's factors out: a child
/// with all of them at one has the bits of its parent.
struct offer {
    std::string_view name{};  ///< a literal: "direct", "winograd F(4x4)"
    double cost = 0.0;        ///< in the cycles of cost.hpp, to be compared only
    double share = 1.0;       ///< 0: for those who time the candidates (autotune); not taken by its cost
    bool bands = true;        ///< whether calls may compute some rows at a time
    int variant = 0;          ///< which of its algorithm's, for `make_plan`
};
using offer_list = std::vector<offer>;

/// The workspace as one thread sees it.
struct workspace_view {
    std::byte* all;  ///< first what the threads share
    std::byte* own;  ///< what only this thread writes to
    template <class T>
    [[nodiscard]] T* shared_at(index_t offset) const noexcept {
        return at_offset<T>(all, offset);
    }
    template <class T>
    [[nodiscard]] T* at(index_t offset) const noexcept {
        return at_offset<T>(own, offset);
    }
};

/// What explain() says about an algorithm's decisions.
struct explanation {
    std::string tiles{};       ///< "direct, tile 14x32, blocks of 56 pixels"
    const char* copied = "";   ///< how the input's copy differs from the input: " with its padding"
    const char* gate = "";     ///< where g[c] is applied: "the copy"
    const char* spatial = "";  ///< where s[t] is: "between taps"
    bool several = false;      ///< an assembled panel serves several samples
    std::string kernels{};     ///< not empty: what is done instead of assembling panels
};

/// The functions of an algorithm. Those that take a plan get one that it has made. All but `offers` and `make_plan`
/// may be called from several threads at once.
///
/// A table of plain pointers, and not a class with virtual functions: a compiler emits those in every file that
/// includes them, with everything they call, whether it makes a plan or not (2.3 of 3.7 s for a file with nothing but
/// the include).
struct algorithm {
    /// Adds a way to run the request, or several; none if it cannot run it.
    void (*offers)(const plan_request& r, offer_list& all);
    /// Plans an offered variant.
    plan (*make_plan)(const plan_request& r, int variant);
    /// The kernel in the form that `run` reads (plan::prepared), kept by the layer. Null: it reads the layer's own.
    std::shared_ptr<const prepared_kernel> (*prepare)(const problem& q, const plan& p) = nullptr;
    /// Tasks of a call that computes some rows only. Null: calls compute all rows.
    index_t (*tasks)(const plan& p, const call& c) noexcept = nullptr;
    /// What bands of rows begin at, and are, multiples of. Null: calls compute all rows.
    index_t (*row_multiple)(const plan& p) noexcept = nullptr;
    /// What has to be done before the first task, when the input has been staged. Null: nothing.
    void (*begin)(const plan& p, const call& c, std::byte* workspace, const executor_ref& executor) noexcept = nullptr;
    /// Tasks [first, last) on one thread. Results must not depend on which thread computes which task.
    void (*run)(const plan& p, const call& c, const workspace_view& space, index_t first, index_t last) noexcept;
    explanation (*explain)(const problem& q, const plan& p);
};

/// The algorithm's own part of a plan: Own is the struct in its plan.hpp.
template <class Own>
[[nodiscard]] const Own& own_of(const plan& p) noexcept {
    return *static_cast<const Own*>(p.own.get());
}

namespace detail {

/// Calls work(worker, first, last) for as many equal parts of [0, count) as there are threads.
template <class Work>
void in_chunks(index_t count, index_t threads, const executor_ref& executor, const Work& work) noexcept {
    const index_t workers = std::min(threads, count);
    executor.parallel_for(workers, [&](index_t i) { work(i, count * i / workers, count * (i + 1) / workers); });
}

/// Where the sums of a part of a sample go; null where no means are wanted.
[[nodiscard]] inline float* part_sums(const plan& p, const workspace_view& space, index_t n, index_t part) noexcept {
    return p.parts == 0 ? nullptr : space.shared_at<float>(p.part_sums_at) + (n * p.parts + part) * p.part_floats;
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI::conv

#include <kdna/core/macros_pop.hpp>
