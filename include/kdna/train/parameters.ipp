// Definitions of train/parameters.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>

#include <kdna/train/parameters.hpp>

namespace kdna::inline KDNA_ABI::train {

KDNA_FUNC bool adapters_gates_and_norms(std::string_view, role is) {
    return is == role::spatial || is == role::filter || is == role::gate || is == role::norm;
}

KDNA_FUNC index_t parameter::count() const noexcept {
    index_t out = 1;
    for (const index_t extent : shape) out *= extent;
    return out;
}

KDNA_FUNC const parameter& parameters::named(std::string_view name) const {
    const auto found = std::find_if(all_.begin(), all_.end(), [&](const parameter& p) { return p.name == name; });
    if (found == all_.end()) throw error(std::string(name), "a parameter of this name", "no such parameter");
    return *found;
}

KDNA_FUNC parameter& parameters::named(std::string_view name) {
    return const_cast<parameter&>(std::as_const(*this).named(name));
}

KDNA_FUNC index_t parameters::add(std::string_view name, role is, const std::vector<index_t>& shape,
                                  std::span<const float> values, const selection& trained) {
    for (index_t i = 0; i < size(); ++i)
        if ((*this)[i].name == name) {
            if ((*this)[i].is != is) throw error(std::string(name), "a tensor with one use", "two of different kinds");
            return i;
        }
    parameter p{.name = std::string(name), .is = is, .shape = shape};
    p.trained = p.changed = is != role::statistic && trained(name, is);
    if (is != role::kernel || p.trained) {
        p.values = buffer<float>(p.count());
        std::copy(values.begin(), values.end(), p.values.data());
    }
    if (p.trained) p.gradient = buffer<float>(p.count());
    all_.push_back(std::move(p));
    return size() - 1;
}

KDNA_FUNC const float* parameters::values(const part& p) const noexcept {
    return p ? (*this)[p.parameter].values.data() + p.first : nullptr;
}

KDNA_FUNC float* parameters::gradient(const part& p) noexcept {
    return trains(p) ? (*this)[p.parameter].gradient.data() + p.first : nullptr;
}

KDNA_FUNC void parameters::zero_gradients() noexcept {
    for (parameter& p : all_) std::fill_n(p.gradient.data(), p.gradient.size(), 0.0F);
}

KDNA_FUNC index_t parameters::total() const noexcept {
    index_t out = 0;
    for (const parameter& p : all_) out += p.is == role::statistic ? 0 : p.count();
    return out;
}

KDNA_FUNC index_t parameters::trained() const noexcept {
    index_t out = 0;
    for (const parameter& p : all_) out += p.trained ? p.count() : 0;
    return out;
}

KDNA_FUNC state_dict parameters::changed() const {
    state_dict out;
    for (const parameter& p : all_)
        if (p.changed) {
            const std::string name = concat(prefix_, p.name);
            out.add(name, tensor_data::copy_of<float>(p.shape, p.values.span(), name));
        }
    return out;
}

}  // namespace kdna::inline KDNA_ABI::train

#include <kdna/core/macros_pop.hpp>
