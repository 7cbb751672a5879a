// Definitions of pad.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <limits>

#include <kdna/nn/ops/copy.hpp>
#include <kdna/nn/ops/pad.hpp>

namespace kdna::inline KDNA_ABI::ops {

KDNA_FUNC pad::pad(std::span<const index_t> before, std::span<const index_t> after, pad_mode mode, float value,
                   std::string_view where)
    : rank_(static_cast<index_t>(before.size())), mode_(mode), value_(value) {
    if (before.size() != after.size() || rank_ < 1 || rank_ > most_axes)
        throw error(std::string(where), "padding before and after 1 to 5 axes",
                    concat(before.size(), " and ", after.size()));
    for (std::size_t i = 0; i < before.size(); ++i) {
        for (const index_t v : {before[i], after[i]})
            if (v < (mode == pad_mode::constant ? -std::numeric_limits<index_t>::max() : 0))
                throw error(std::string(where), "padding >= 0", concat(v));
        before_[i] = before[i];
        after_[i] = after[i];
    }
}

KDNA_FUNC nd_shape pad::output_shape(input_shapes in, std::string_view where) const {
    const nd_shape& x = require_one(in, rank_, rank_, where);
    nd_shape out = x;
    for (index_t i = 0; i < rank_; ++i) {
        const auto k = static_cast<std::size_t>(i);
        const index_t largest = std::max(before_[k], after_[k]);
        if ((mode_ == pad_mode::reflect && largest >= x[i]) || (mode_ == pad_mode::circular && largest > x[i]))
            throw error(std::string(where),
                        concat("padding of ", mode_ == pad_mode::reflect ? "less than" : "at most", " the ", x[i],
                               " elements of axis ", i),
                        concat(largest));
        // What is cut off first, so that nothing overflows.
        const index_t cut = std::max<index_t>(-before_[k], 0), cut_after = std::max<index_t>(-after_[k], 0);
        if (cut >= x[i] || cut_after >= x[i] - cut)
            throw error(std::string(where), concat("elements of axis ", i, " that are left"),
                        concat(to_string(x), " with padding ", before_[k], " and ", after_[k]));
        out[i] = checked_add(checked_add(x[i] - cut - cut_after, std::max<index_t>(before_[k], 0), where),
                             std::max<index_t>(after_[k], 0), where);
    }
    static_cast<void>(element_count(out, where));
    return out;
}

KDNA_FUNC void pad::run(input_views in, const nd_view<float>& y, const executor_ref& executor) const noexcept {
    nd_view<const float> x = in.front();
    // The part of y that has its values; at first what x gives.
    nd_view<float> done = y;
    for (index_t i = 0; i < rank_; ++i) {
        const auto k = static_cast<std::size_t>(i);
        const index_t front = std::max<index_t>(before_[k], 0), cut = front - before_[k];
        x.data += cut * x.stride[k];
        x.shape[i] -= cut + std::max<index_t>(-after_[k], 0);
        done.data += front * y.stride[k];
        done.shape[i] = x.shape[i];
    }
    copy(x, done, executor);
    // Axis by axis, the strips before and after what is done. They take from it, so that corners come right by themselves.
    for (index_t i = 0; i < rank_; ++i) {
        const auto k = static_cast<std::size_t>(i);
        const index_t stride = y.stride[k], extent = done.shape[i];
        const auto strip = [&](index_t to, index_t count, index_t from, index_t step) {
            if (count < 1) return;
            nd_view<float> target = done;
            target.data += to * stride;
            target.shape[i] = count;
            if (mode_ == pad_mode::constant) return fill(target, value_, executor);
            nd_view<const float> source = target;
            source.data = done.data + from * stride;
            source.stride[k] = step * stride;
            copy(source, target, executor);
        };
        const index_t front = std::max<index_t>(before_[k], 0), back = std::max<index_t>(after_[k], 0);
        switch (mode_) {
            case pad_mode::constant:
            case pad_mode::replicate:
                strip(-front, front, 0, 0);
                strip(extent, back, extent - 1, 0);
                break;
            case pad_mode::reflect:
                strip(-front, front, front, -1);
                strip(extent, back, extent - 2, -1);
                break;
            case pad_mode::circular:
                strip(-front, front, extent - front, 1);
                strip(extent, back, 0, 1);
                break;
        }
        done.data -= front * stride;
        done.shape[i] = y.shape[i];
    }
}

}  // namespace kdna::inline KDNA_ABI::ops

#include <kdna/core/macros_pop.hpp>
