// The parameters of a network by the names of their tensors: which of them are trained, their values and their gradients.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/core/memory.hpp>
#include <kdna/io/state_dict.hpp>

namespace kdna::inline KDNA_ABI::train {

/// What a parameter is.
enum class role {
    kernel,      ///< of a convolution, W
    bias,        ///< of a convolution
    classifier,  ///< weight and bias of a fully connected layer
    spatial,     ///< a_sp, the adapter of a child's taps
    filter,      ///< a_f, the adapter of a child's filters
    gate,        ///< fc1, fc2 and the BatchNorm of a child's gate
    norm,        ///< weight and bias of a convolution's BatchNorm
    statistic    ///< running mean or variance of a BatchNorm: measured, never trained by gradients
};

/// Says of each parameter whether it is trained. Statistics are not asked about.
using selection = std::function<bool(std::string_view name, role is)>;

/// What belongs to children and norms, and not to the kernels that they share: adapters, gates, weights and biases of BatchNorms.
[[nodiscard]] KDNA_FUNC bool adapters_gates_and_norms(std::string_view name, role is);

/// One tensor of the file.
struct parameter {
    std::string name;
    role is;
    std::vector<index_t> shape;
    bool trained = false;
    bool changed = false;      ///< has values other than the file's; always true of a parameter that is trained
    buffer<float> values{};    ///< row-major; empty for a kernel that is not trained, which is kept in panels
    buffer<float> gradient{};  ///< likewise, of what is trained

    [[nodiscard]] KDNA_FUNC index_t count() const noexcept;
};

/// Some consecutive values of a parameter: one child's adapter in a tensor that has those of several. Or none.
struct part {
    index_t parameter = -1;
    index_t first = 0;
    [[nodiscard]] explicit operator bool() const noexcept { return parameter >= 0; }
};

/// All parameters of a network. Move only.
class parameters {
public:
    [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(all_.size()); }
    [[nodiscard]] parameter& operator[](index_t i) noexcept { return all_[static_cast<std::size_t>(i)]; }
    [[nodiscard]] const parameter& operator[](index_t i) const noexcept { return all_[static_cast<std::size_t>(i)]; }
    [[nodiscard]] std::span<parameter> all() noexcept { return all_; }
    [[nodiscard]] std::span<const parameter> all() const noexcept { return all_; }
    /// Throws kdna::error if there is none of that name.
    [[nodiscard]] KDNA_FUNC const parameter& named(std::string_view name) const;
    [[nodiscard]] KDNA_FUNC parameter& named(std::string_view name);

    /// Adds a tensor, or finds it where it was added before. Throws kdna::error if it was added with another role.
    KDNA_FUNC index_t add(std::string_view name, role is, const std::vector<index_t>& shape,
                          std::span<const float> values, const selection& trained);

    /// First of the values of a part, and of their gradients; null for no part, and for gradients of what is not trained.
    [[nodiscard]] KDNA_FUNC const float* values(const part& p) const noexcept;
    [[nodiscard]] KDNA_FUNC float* gradient(const part& p) noexcept;
    [[nodiscard]] bool trains(const part& p) const noexcept { return p && (*this)[p.parameter].trained; }

    /// Passes add to gradients; this sets them to zero.
    KDNA_FUNC void zero_gradients() noexcept;
    /// How many numbers the network has, statistics of norms not counted, and how many of them are trained.
    [[nodiscard]] KDNA_FUNC index_t total() const noexcept;
    [[nodiscard]] KDNA_FUNC index_t trained() const noexcept;
    /// The tensors that differ from the file's, under the file's names, for `save_safetensors`: what load_options::overlay reads.
    [[nodiscard]] KDNA_FUNC state_dict changed() const;

private:
    friend class network_builder;
    std::vector<parameter> all_{};
    std::string prefix_{};  // what was taken off the names of the file
};

}  // namespace kdna::inline KDNA_ABI::train

#ifndef KDNA_COMPILED
#include <kdna/train/parameters.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
