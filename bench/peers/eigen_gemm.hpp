// The convolution that one writes in an afternoon: im2col and Eigen's matrix product, channels last; a depthwise one takes
// an elementwise product in its place.
#pragma once

#include <Eigen/Core>
#include <cstring>
#include <memory>

#include "item.hpp"

namespace peers {

class eigen_gemm {
public:
    explicit eigen_gemm(const layer& item)
        : in_(item.in),
          out_(item.out),
          k_(item.kernel),
          stride_(item.params.stride.h),
          pad_(item.params.pad.top),
          x_(item.channels_last("x", item.in)),
          bias_(Eigen::Map<const Eigen::VectorXf>(item.values("folded.bias").data(), item.kernel.o)),
          y_(item.kernel.o, item.out.n * item.out.h * item.out.w) {
        // A row a filter, the taps outermost: the order in which im2col copies runs of channels. A depthwise kernel has one
        // channel a filter and is used as channels x taps.
        const kdna::index_t channels = k_.channels_per_group();
        const auto weights = item.values("folded.weight");
        w_.resize(k_.o, k_.taps() * channels);
        for (kdna::index_t o = 0; o < k_.o; ++o)
            for (kdna::index_t c = 0; c < channels; ++c)
                for (kdna::index_t t = 0; t < k_.taps(); ++t)
                    w_(o, t * channels + c) = weights[static_cast<std::size_t>((o * channels + c) * k_.taps() + t)];
        if (!direct()) columns_.resize(k_.taps() * k_.i, y_.cols());
    }

    void run() {
        if (direct()) {
            y_.noalias() = w_ * Eigen::Map<const Eigen::MatrixXf>(x_.data(), k_.i, y_.cols());
        } else {
            im2col();
            if (k_.depthwise())
                for (kdna::index_t p = 0; p < y_.cols(); ++p)
                    y_.col(p) = Eigen::Map<const Eigen::MatrixXf>(columns_.col(p).data(), k_.i, k_.taps())
                                    .cwiseProduct(w_)
                                    .rowwise()
                                    .sum();
            else
                y_.noalias() = w_ * columns_;
        }
        y_ = (y_.colwise() + bias_).cwiseMax(0.0F);
    }
    [[nodiscard]] std::vector<float> output() const {
        return channels_first(kdna::make_view(y_.data(), out_, kdna::layout::nhwc));
    }

private:
    /// A 1x1 kernel multiplies the input as it lies there.
    [[nodiscard]] bool direct() const { return k_.taps() == 1 && stride_ == 1 && k_.groups == 1; }

    void im2col() {
        const auto bytes = static_cast<std::size_t>(in_.c) * sizeof(float);
        const kdna::index_t rows = out_.n * out_.h;
#ifdef _OPENMP
#pragma omp parallel for
#endif
        for (kdna::index_t row = 0; row < rows; ++row) {
            const kdna::index_t n = row / out_.h, top = row % out_.h * stride_ - pad_;
            float* to = columns_.data() + row * out_.w * columns_.rows();
            for (kdna::index_t p = 0; p < out_.w; ++p)
                for (kdna::index_t r = 0; r < k_.kh; ++r)
                    for (kdna::index_t s = 0; s < k_.kw; ++s, to += in_.c) {
                        const kdna::index_t h = top + r, w = p * stride_ - pad_ + s;
                        if (h < 0 || h >= in_.h || w < 0 || w >= in_.w)
                            std::memset(to, 0, bytes);
                        else
                            std::memcpy(to, x_.data() + ((n * in_.h + h) * in_.w + w) * in_.c, bytes);
                    }
        }
    }

    kdna::shape4 in_, out_;
    kdna::kernel_shape k_;
    kdna::index_t stride_, pad_;
    kdna::tensor<float> x_;
    Eigen::MatrixXf w_, columns_;
    Eigen::VectorXf bias_;
    Eigen::MatrixXf y_;
};

inline runnable eigen_layer(const layer& item) {
    if (item.kernel.groups > 1 && !item.kernel.depthwise()) throw not_applicable();
    const auto s = std::make_shared<eigen_gemm>(item);
    return {[s] { s->run(); }, [s] { return s->output(); }, "im2col and matrix product"};
}

}  // namespace peers
