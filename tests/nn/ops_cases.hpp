// One case or more of every operation, large enough for its work to be shared out.
#pragma once

#include <vector>

#include <kdna/nn/ops/copy.hpp>
#include <kdna/nn/ops/dynamic_relu.hpp>
#include <kdna/nn/ops/elementwise.hpp>
#include <kdna/nn/ops/matmul.hpp>
#include <kdna/nn/ops/norm.hpp>
#include <kdna/nn/ops/pad.hpp>
#include <kdna/nn/ops/pool2d.hpp>
#include <kdna/nn/ops/reduce.hpp>
#include <kdna/nn/ops/resize.hpp>
#include <kdna/nn/ops/softmax.hpp>
#include <kdna/nn/value_operations.hpp>

#include "support/random.hpp"

namespace kdna_test {

/// Calls f(name, operation, shapes of its inputs).
template <class F>
void for_each_operation(const F& f) {
    using namespace kdna;
    rng r(960, 0);
    const nd_shape image{2, 66, 31, 30}, wide{1, 35, 64, 65}, tokens{2, 197, 192}, one{1, 130, 40, 41};
    const auto numbers = [&](index_t count) { return r.floats(count, 0.5, 1.5); };
    f("add", ops::binary(ops::binary_kind::add), std::vector{image, image});
    f("mul of channels", ops::binary(ops::binary_kind::mul), std::vector{image, nd_shape{2, 66, 1, 1}});
    f("mul of pixels", ops::binary(ops::binary_kind::mul), std::vector{image, nd_shape{31, 30}});
    f("div by a scalar", ops::binary(ops::binary_kind::div, 3.0F), std::vector{one});
    f("exp", ops::unary(ops::unary_kind::exp), std::vector{image});
    f("pow", ops::unary::pow(1.7F), std::vector{wide});
    f("clamp", ops::unary::clamp(-0.5F, 0.5F), std::vector{wide});
    for (const auto& act : {activation::gelu, activation::hard_swish})
        f("activation", ops::activate(act), std::vector{wide});
    f("prelu", ops::activate(activation::prelu(numbers(66))), std::vector{image});
    f("pixel_shuffle", ops::pixel_shuffle(3), std::vector{nd_shape{1, 36, 33, 35}});
    f("pixel_unshuffle", ops::pixel_unshuffle(2), std::vector{nd_shape{1, 36, 34, 36}});
    f("channel_shuffle", ops::channel_shuffle(2), std::vector{image});
    const index_t before[] = {0, 0, 3, 1}, after[] = {0, 2, 1, 7};
    for (const auto mode : {ops::pad_mode::constant, ops::pad_mode::reflect, ops::pad_mode::circular})
        f("pad", ops::pad(before, after, mode), std::vector{image});
    f("max_pool2d", ops::max_pool2d({.window = 3, .stride = 2, .pad = 1}), std::vector{wide});
    f("avg_pool2d", ops::avg_pool2d({.window = 5, .stride = 1, .pad = 2}), std::vector{one});
    f("adaptive_avg_pool2d", ops::adaptive_avg_pool2d(1), std::vector{one});
    f("adaptive_max_pool2d", ops::adaptive_max_pool2d(3), std::vector{image});
    f("nearest", ops::resize(ops::resize_mode::nearest, std::array{2.0, 1.3}), std::vector{image});
    f("bilinear", ops::resize(ops::resize_mode::bilinear, extent2(3, 400)), std::vector{nd_shape{1, 66, 9, 7}});
    f("bilinear", ops::resize(ops::resize_mode::bilinear, extent2(150, 140), true),
      std::vector{nd_shape{1, 3, 30, 31}});
    f("batch_norm", ops::batch_norm(numbers(66), numbers(66), numbers(66), numbers(66), 1e-5F), std::vector{image});
    f("layer_norm", ops::layer_norm(nd_shape{192}, numbers(192), numbers(192), 1e-5F), std::vector{tokens});
    f("layer_norm of all", ops::layer_norm(nd_shape{197, 192}, {}, {}, 1e-5F), std::vector{tokens});
    f("group_norm", ops::group_norm(22, numbers(66), numbers(66), 1e-5F), std::vector{image});
    f("group_norm of all", ops::group_norm(1, numbers(66), {}, 1e-5F), std::vector{image});
    for (const index_t axis : {0, 1, 2}) f("softmax", ops::softmax(axis), std::vector{tokens});
    f("log_softmax", ops::softmax(1, true), std::vector{image});
    f("dynamic_relu", ops::dynamic_relu(), std::vector{image, nd_shape{image[0], 4 * image[1]}});
    const index_t columns[] = {2, 3}, channels[] = {1}, last[] = {-1};
    f("mean", ops::reduce(ops::reduce_kind::mean, columns, false), std::vector{one});
    f("sum", ops::reduce(ops::reduce_kind::sum, channels, true), std::vector{one});
    f("max", ops::reduce(ops::reduce_kind::max, last, false), std::vector{tokens});
    f("min", ops::reduce(ops::reduce_kind::min, channels, false), std::vector{tokens});
    f("matmul", ops::matmul(), std::vector{nd_shape{1, 3, 97, 32}, nd_shape{1, 3, 32, 97}});
    f("matmul", ops::matmul(), std::vector{nd_shape{300, 150}, nd_shape{150, 70}});
    f("matmul", ops::matmul(), std::vector{nd_shape{12, 7, 64, 65}, nd_shape{65, 10}});
}

/// Calls f(step, shapes of its inputs) for every step that only moves elements, and copies them where it cannot be a view.
template <class F>
void for_each_moving_step(const F& f) {
    using namespace kdna;
    const nd_shape image{2, 66, 31, 30};
    const auto always = [](const nd_shape& s) { return [s](std::span<const nd_shape>) { return s; }; };
    f(reshape_operation(always({4, 33 * 31, 30}), "reshape"), std::vector{image});
    f(expand_operation(always({8, 197, 192}), "expand"), std::vector{nd_shape{197, 1}});
    f(permute_operation({0, 3, 1, 2}, "permute"), std::vector{image});
    f(slice_operation(2, 1, std::nullopt, 2, "slice"), std::vector{image});
    f(concat_operation(1, 2, "concat"), std::vector{image, nd_shape{2, 7, 31, 30}});
}

}  // namespace kdna_test
