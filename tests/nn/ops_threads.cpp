// Operations give the same bits whatever the number of threads.
#include "nn/ops_cases.hpp"
#include "support/executors.hpp"
#include "support/nd_frames.hpp"

using namespace kdna;
using namespace kdna_test;

namespace {

/// `run(inputs, y, executor)` gives the same bits whatever the number of threads, of which it makes use.
template <class Run>
void check_threads(std::string_view name, const std::vector<nd_shape>& shapes, const nd_shape& out, const Run& run) {
    std::uint64_t number = 0;
    for (const nd_placement where : {nd_placement::channels_last, nd_placement::row_major, nd_placement::reversed}) {
        rng r(961, number++);
        std::vector<nd_frame> in;
        for (const nd_shape& s : shapes) {
            in.emplace_back(r, s, where);
            in.back().fill(r);
        }
        std::vector<nd_view<const float>> views;
        for (const nd_frame& x : in) views.push_back(x.view());
        const nd_frame y(r, out, where);
        run(views, y.view(), executor_ref());
        const std::vector<float> expected = values_of(y.view());
        int calls = 0;
        const std::vector<index_t> counts =
            runs_few() ? std::vector<index_t>{3, 61} : std::vector<index_t>{2, 3, 8, 61};
        for (const index_t threads : counts) {
            shuffling_executor executor(threads, number);
            for_each_index(out, [&](const axis_numbers& i) { element(y.view(), i) = -77.0F; });
            run(views, y.view(), executor);
            INFO(name << " of " << to_string(shapes.front()) << " with " << threads << " threads, placement "
                      << static_cast<int>(where));
            const std::vector<float> found = values_of(y.view());
            CHECK(std::equal(found.begin(), found.end(), expected.begin(), expected.end(), [](float a, float b) {
                return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
            }));
            CHECK(y.guards_intact());
            calls += executor.calls;
        }
        INFO(name << " of " << to_string(shapes.front()));
        CHECK(calls > 0);
    }
}

}  // namespace

TEST_CASE("Operations do not depend on threads, to the bit", "[threads]") {
    for_each_operation([](const char* name, const auto& op, const std::vector<nd_shape>& shapes) {
        check_threads(name, shapes, op.output_shape(shapes, name),
                      [&](const std::vector<nd_view<const float>>& in, const nd_view<float>& y,
                          const executor_ref& executor) { op.run(in, y, executor); });
    });
    for_each_moving_step([](const operation& step, const std::vector<nd_shape>& shapes) {
        check_threads(
            step.name(), shapes, step.output_shape(shapes),
            [&](const std::vector<nd_view<const float>>& in, const nd_view<float>& y, const executor_ref& executor) {
                plan_options options;
                options.executor = executor;
                const auto state = step.plan(shapes, options);
                step.run(*state, {.inputs = in, .output = y});
            });
    });
}
