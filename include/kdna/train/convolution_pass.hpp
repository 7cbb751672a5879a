// One convolution forwards and backwards.
//
//     z = conv(g . x, W . s)        s = 1 + a_sp                             the library's loop nests, as in a network that is run
//     y = act( m . z + b + r )      m = (1 + a_f) * weight / sqrt(var + eps)
//
// Backwards, with u the gradient in front of the activation and w = m . u that of z, all parameters but the kernel get theirs from
// sums over pixels, and one product with the transposed kernel, which all children share:
//
//     d bias', d weight, d a_f      sum u[o,p]  and  sum u[o,p] z[o,p]
//     q[t,c,p] = sum over o of W[o,c,t] w[o,p]                               a 1x1 convolution by the same loop nests, m its gate
//     d s[t]   = sum q[t,c,p] g[c] x[c,p+t]
//     d (g.x)[c,p+t] = sum s[t] q[t,c,p],   d g[c] = sum of it times x[c],   d x = g times it + what the gate's means get
//
// So neither a child's kernel nor a gradient of a kernel's size exists, unless the kernel itself is trained.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <optional>
#include <vector>

#include <kdna/conv/convolution.hpp>
#include <kdna/dna/runtime_kernel.hpp>
#include <kdna/train/gate_pass.hpp>

namespace kdna::inline KDNA_ABI::train {

/// The plans and the memory of one convolution for inputs of one shape. All maps lie channels last.
class convolution_pass {
public:
    /// `backward`: whether gradients are wanted, of parameters, and with `to_input` of the input or what came before it. Throws
    /// kdna::error where shapes do not fit.
    KDNA_FUNC convolution_pass(const convolution& c, parameters& p, const shape4& in, bool backward, bool to_input,
                               const executor_ref& executor);

    [[nodiscard]] const shape4& output_shape() const noexcept { return out_; }
    /// Whether `backward` reads x, y, and z, which is then to be kept.
    [[nodiscard]] bool reads_x() const noexcept { return backward_ && (needs_product_taps() || layer_->se || kernel_); }
    [[nodiscard]] bool reads_y() const noexcept { return backward_ && layer_->act != activation::none; }
    [[nodiscard]] bool reads_z() const noexcept { return backward_ && (trains_filter_ || trains_norm_weight_); }
    /// Bytes of scratch, 64-byte aligned, that both directions need, and of what is kept between them here.
    [[nodiscard]] index_t workspace_bytes() const noexcept { return workspace_bytes_; }
    [[nodiscard]] KDNA_FUNC index_t own_bytes() const noexcept;

    /// y from x, and z if it is read later; otherwise `z` is not touched. With `with_batch` norms take the batch's own mean and variance,
    /// which are averaged for `adopt_statistics`.
    KDNA_FUNC void forward(const tensor_view<const float>& x, const tensor_view<const float>& residual, float* z,
                           const tensor_view<float>& y, std::byte* workspace, bool with_batch);
    KDNA_FUNC void adopt_statistics();

    /// What `backward` reads, and where the gradients go.
    struct gradients {
        tensor_view<const float> x{}, y{};
        const float* z = nullptr;
        float* of_y = nullptr;         ///< [N][P][O]; overwritten
        float* of_x = nullptr;         ///< [N][H*W][C], added to; null: not wanted
        float* of_residual = nullptr;  ///< [N][P][O], added to; null: not wanted
    };
    /// Adds to the gradients of the parameters, and of the values.
    KDNA_FUNC void backward(const gradients& g, std::byte* workspace);

private:
    [[nodiscard]] bool needs_product_taps() const noexcept { return trains_spatial_; }
    [[nodiscard]] bool has_product() const noexcept { return to_input_ || trains_spatial_ || trains_gate_; }
    [[nodiscard]] bool depthwise() const noexcept { return layer_->kernel->shape().depthwise(); }
    KDNA_FUNC void plan(const shape4& in);
    KDNA_FUNC void take_factors();
    [[nodiscard]] KDNA_FUNC double bias_of(std::size_t o) const noexcept;
    KDNA_FUNC void fold(const norm_view* bn);
    KDNA_FUNC void finish(const float* z, const tensor_view<const float>& residual, const tensor_view<float>& y) const;
    KDNA_FUNC void normalise_batch(const float* z);
    KDNA_FUNC void through_activation(const gradients& g) const;
    KDNA_FUNC void sum_filters(const gradients& g);
    KDNA_FUNC void back_through_sample(const gradients& g, index_t n, std::byte* workspace);
    KDNA_FUNC void multiply_transposed(const float* u, float* q, float* onto, std::byte* workspace);
    KDNA_FUNC void scatter(const float* x, const float* u, const float* q, index_t n, float* to);
    KDNA_FUNC void back_through_gate(const float* x, index_t n, float* of_product, float* of_x);
    KDNA_FUNC void sum_kernel(const float* x, const float* u, index_t n);
    KDNA_FUNC void add_kernel_sums();
    template <class F>
    void for_each_window(const F& f) const;

    const convolution* layer_;
    parameters* parameters_;
    executor_ref executor_;
    shape4 in_{}, out_{};
    bool backward_, to_input_;
    bool trains_spatial_, trains_filter_, trains_norm_weight_, trains_gate_;
    bool kernel_;  // whether it is trained
    std::optional<gate_pass> gate_{};
    std::optional<runtime_kernel> own_kernel_{}, own_transposed_{};  // of a kernel that is trained
    // Its transpose, or in the order [tap][channel] if it is depthwise; and its gradient [O][tap][I/groups].
    std::vector<float> turned_{}, kernel_sums_{};
    conv::plan forward_{}, transposed_{};
    index_t product_at_ = 0, gated_at_ = 0, workspace_bytes_ = 0;
    std::vector<float> spatial_{}, scale_{}, shift_{}, ones_{}, zeros_{}, row_{};
    std::vector<double> filter_{}, sums_{}, products_{}, tap_sums_{};
    std::vector<norm_view> norm_{};  // of the last forward pass
    norm_statistics statistics_{}, gate_statistics_{};
};

}  // namespace kdna::inline KDNA_ABI::train

#ifndef KDNA_COMPILED
#include <kdna/train/convolution_gradients.ipp>
#include <kdna/train/convolution_pass.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
