// A kernel that is transformed once, and kept.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cstddef>
#include <cstring>

#include <kdna/conv/prepared_kernels.hpp>
#include <kdna/conv/winograd/plan.hpp>
#include <kdna/conv/winograd/transforms.hpp>
#include <kdna/core/arithmetic.hpp>
#include <kdna/core/memory.hpp>
#include <kdna/core/stored_numbers.hpp>
#include <kdna/dna/source.hpp>
#include <kdna/tensor/packed_once.hpp>

namespace kdna::inline KDNA_ABI::conv::winograd {

/// G w G^T of every filter and channel, in double, rounded once to the format that it is kept in, packed as
/// U[panel][position][channel][filter] so that the products of one panel stream it front to back.
class kernel : public prepared_kernel {
public:
    /// `m`: 2, 4 or 6. `spatial` [9] is multiplied into the taps first, or null. For static sources only. Throws kdna::error if a
    /// weight is finite and, transformed, out of the format's range.
    kernel(const source_ref& source, const float* spatial, int m, number_format format)
        : layout_(source.layout()), format_(format) {
        positions_ = positions_of(m);
        const std::array<double, 3>* const g = weight_transform(m);
        channels_ = layout_.shape().i;
        data_ = buffer<std::byte>(checked_mul(
            checked_mul(checked_mul(positions_, channels_, "winograd"), layout_.padded_filters(), "winograd"),
            size_of(format), "winograd"));
        bytes = data_.bytes();
        for (index_t o = 0; o < layout_.shape().o; ++o)
            for (index_t c = 0; c < channels_; ++c) {
                double w[9];
                for (index_t t = 0; t < 9; ++t)
                    w[t] = source.weight(o, c, t, nullptr) * (spatial != nullptr ? spatial[t] : 1.0F);
                transform_filter(w, o, c, g, m + 2);
            }
    }

    /// The weights [channel][filter] of a panel at one position; those of the next position follow.
    [[nodiscard]] stored_numbers panel(index_t p, index_t position) const noexcept {
        return stored_numbers(data_.data(), format_) + offset(p, position);
    }

private:
    [[nodiscard]] index_t offset(index_t p, index_t position) const noexcept {
        return channels_ * (p * panel_layout::width * positions_ + position * layout_.width_of(p));
    }
    /// One filter's taps of one channel; `g` [n][3].
    void transform_filter(const double* w, index_t o, index_t c, const std::array<double, 3>* g, int n) {
        double half[8][3];
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < 3; ++j) {
                half[i][j] = 0.0;
                for (std::size_t t = 0; t < 3; ++t) half[i][j] += g[i][t] * w[3 * t + static_cast<std::size_t>(j)];
            }
        const index_t p = o / panel_layout::width, f = o % panel_layout::width, width = layout_.width_of(p);
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < n; ++j) {
                double u = 0.0;
                for (std::size_t t = 0; t < 3; ++t) u += half[i][t] * g[j][t];
                put(offset(p, i * n + j) + c * width + f, static_cast<float>(u), n - 2);
            }
    }
    void put(index_t at, float weight, int m) {
        std::byte* to = data_.data() + at * size_of(format_);
        if (format_ == number_format::float32)
            std::memcpy(to, &weight, sizeof(weight));
        else
            round_weights({&weight, 1}, format_, to, kernel_name(m, format_));
    }
    panel_layout layout_;
    index_t positions_ = 0, channels_ = 0;
    number_format format_;
    buffer<std::byte> data_;
};

}  // namespace kdna::inline KDNA_ABI::conv::winograd

#include <kdna/core/macros_pop.hpp>
