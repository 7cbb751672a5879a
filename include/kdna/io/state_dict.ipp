// Definitions of state_dict.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/io/state_dict.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

KDNA_FUNC void check_tensor_name(std::string_view name, std::string_view where) {
    if (name.empty()) throw error(where.empty() ? "state_dict" : std::string(where), "a tensor name", "an empty name");
    for (const char c : name)
        if (is_control(c))
            throw error(std::string(where), "a tensor name without control characters",
                        concat("byte ", static_cast<int>(c)));
}

}  // namespace detail

KDNA_FUNC void state_dict::add(std::string name, tensor_data tensor) {
    detail::check_tensor_name(name, detail::printable(name));
    if (contains(name)) throw error(detail::printable(name), "a tensor name used once", "a second tensor of that name");
    tensors_.emplace(std::move(name), std::move(tensor));
}

KDNA_FUNC std::vector<std::string> state_dict::names() const {
    std::vector<std::string> out;
    out.reserve(tensors_.size());
    for (const auto& [name, tensor] : tensors_) out.push_back(name);
    return out;
}

KDNA_FUNC const tensor_data& state_dict::at(std::string_view name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) throw missing(name);
    return it->second;
}

KDNA_FUNC tensor_data state_dict::extract(std::string_view name) {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) throw missing(name);
    tensor_data out = std::move(it->second);
    tensors_.erase(it);
    return out;
}

KDNA_FUNC void state_dict::replace(state_dict&& other) {
    const auto read_as_float32 = [](dtype type) { return type == dtype::f32 || detail::converts_to_float32(type); };
    for (const auto& [name, tensor] : other.tensors_) {
        const auto found = tensors_.find(name);
        if (found == tensors_.end())
            throw error(detail::printable(name), "the name of a tensor that it replaces", "no such tensor");
        const tensor_data& old = found->second;
        const bool fits =
            old.type() == tensor.type() || (read_as_float32(old.type()) && read_as_float32(tensor.type()));
        if (!fits || old.shape() != tensor.shape())
            throw error(detail::printable(name), to_string(old.type(), old.shape()),
                        to_string(tensor.type(), tensor.shape()));
    }
    for (auto& [name, tensor] : other.tensors_) tensors_.find(name)->second = std::move(tensor);
}

KDNA_FUNC bool state_dict::strip_prefix(std::string_view prefix) {
    std::string_view with, without;
    for (const auto& [name, tensor] : tensors_) {
        if (name == prefix) throw error(name, concat("a name after the prefix \"", prefix, "\""), "only the prefix");
        (name.starts_with(prefix) ? with : without) = name;
    }
    if (with.empty() || prefix.empty()) return false;
    if (!without.empty())
        throw error(detail::printable(without), concat("the prefix \"", prefix, "\" in all names or in none"),
                    concat("a name without it beside ", detail::printable(with)));
    tensor_map stripped;
    while (!tensors_.empty()) {
        auto node = tensors_.extract(tensors_.begin());
        node.key().erase(0, prefix.size());
        stripped.insert(std::move(node));
    }
    tensors_ = std::move(stripped);
    return true;
}

KDNA_FUNC std::string state_dict::strip_prefixes(std::span<const std::string_view> prefixes) {
    if (tensors_.empty()) return {};
    // Names are in order, so that what the first and the last have in common, all have.
    const std::string &first = tensors_.begin()->first, &last = tensors_.rbegin()->first;
    const auto end = std::mismatch(first.begin(), first.end(), last.begin(), last.end()).first;
    const std::string_view common(first.data(), static_cast<std::size_t>(end - first.begin()));
    const auto next = [&](std::string_view name) {
        const auto found = std::find_if(prefixes.begin(), prefixes.end(), [&](std::string_view prefix) {
            return !prefix.empty() && name.starts_with(prefix);
        });
        return found == prefixes.end() ? std::string_view() : *found;
    };
    std::size_t length = 0;
    for (std::string_view p = next(common); !p.empty(); p = next(common.substr(length))) length += p.size();
    std::string stripped(common.substr(0, length));
    for (const auto& [name, tensor] : tensors_)
        if (const std::string_view prefix = next(std::string_view(name).substr(length)); !prefix.empty()) {
            const std::string all = concat(stripped, prefix);
            const auto without = std::find_if(tensors_.begin(), tensors_.end(),
                                              [&](const auto& item) { return !item.first.starts_with(all); });
            throw error(detail::printable(without->first), concat("the prefix \"", all, "\" in all names or in none"),
                        concat("a name without it beside ", detail::printable(name)));
        }
    if (length > 0) strip_prefix(stripped);
    return stripped;
}

KDNA_FUNC error state_dict::missing(std::string_view name) {
    return {std::string(name), "a tensor of this name", "no such tensor"};
}

namespace detail {

KDNA_FUNC std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row[b.size()];
}

KDNA_FUNC bool similar_names(std::string_view want, std::string_view have) {
    const auto digits = [](std::string_view name) {
        std::string out;
        for (const char c : name)
            if (c >= '0' && c <= '9') out += c;
        return out;
    };
    if (digits(want) != digits(have)) return false;
    if (have.ends_with(concat(".", want)) || want.ends_with(concat(".", have))) return true;
    const std::size_t longer = std::max(want.size(), have.size()), shorter = std::min(want.size(), have.size());
    return longer - shorter <= 3 && edit_distance(want, have) <= std::min<std::size_t>(3, shorter / 4);
}

}  // namespace detail

KDNA_FUNC std::string state_dict_reader::key_of(std::string_view name) const {
    std::string key = concat(prefix_, name);
    if (names_ == nullptr) return key;
    const auto found = names_->names.find(key);
    // No tensor's name has a control character.
    if (found != names_->names.end()) names_->asked.insert(key);
    return found == names_->names.end() ? concat(key, " (not among the tensors of this node)\n") : found->second;
}

KDNA_FUNC state_dict_reader state_dict_reader::renamed(std::map<std::string, std::string> names) const {
    state_dict_reader out(*this);
    out.names_ = std::make_shared<other_names>(other_names{std::move(names)});
    return out;
}

KDNA_FUNC void state_dict_reader::finish_renamed() const {
    if (names_ == nullptr) return;
    for (const auto& [name, tensor] : names_->names)
        if (!names_->asked.contains(name))
            throw error(detail::printable(name), "tensors that this layer has", detail::printable(tensor));
}

KDNA_FUNC state_dict_reader state_dict_reader::scope(std::string_view prefix) const {
    state_dict_reader out(*this);
    out.prefix_ += prefix;
    return out;
}

KDNA_FUNC const std::vector<index_t>& state_dict_reader::shape_of(std::string_view name) const {
    return find(key_of(name), "a tensor").shape();
}

KDNA_FUNC index_t state_dict_reader::extent(std::string_view name, std::size_t axis, std::size_t rank) const {
    const std::string key = key_of(name);
    const tensor_data& tensor = find(key, concat("a tensor of ", rank, " dimensions"));
    if (tensor.shape().size() != rank || axis >= rank)
        throw error(key, concat(rank, " dimensions"), to_string(tensor.type(), tensor.shape()));
    return tensor.shape()[axis];
}

KDNA_FUNC std::int64_t state_dict_reader::take_i64_scalar(std::string_view name) const {
    const std::string key = key_of(name);
    return take_as(key, dtype::i64, {}).values<std::int64_t>(key)[0];
}

KDNA_FUNC void state_dict_reader::take_count(std::string_view name) const {
    const std::string key = key_of(name);
    const auto it = dict_->tensors().find(key);
    if (it == dict_->tensors().end()) return;
    const tensor_data& tensor = it->second;
    const bool one = tensor.shape().empty() || tensor.shape() == std::vector<index_t>{1};
    if (!one || tensor.type() == dtype::boolean)
        throw error(key, "one number, as int64 scalar", to_string(tensor.type(), tensor.shape()));
    record_->taken.insert(key);
}

KDNA_FUNC std::vector<float32_conversion> state_dict_reader::conversions() const {
    std::vector<float32_conversion> out;
    for (const auto& [name, values] : record_->converted)
        if (!record_->kept.contains(name)) out.push_back({name, dict_->at(name).type(), values.rounded});
    return out;
}

KDNA_FUNC std::optional<number_format> storage_named(std::string_view name) {
    if (name == "file") return std::nullopt;
    for (const auto format : {number_format::float32, number_format::float16, number_format::bfloat16})
        if (name == to_string(format)) return format;
    throw error("storage", "float32, float16, bfloat16 or file", detail::printable(name));
}

KDNA_FUNC number_format state_dict_reader::storage_of(std::string_view name) const {
    const std::string key = key_of(name);
    const dtype type = dict_->at(key).type();
    const number_format own = type == dtype::f16    ? number_format::float16
                              : type == dtype::bf16 ? number_format::bfloat16
                                                    : number_format::float32;
    const number_format format = dict_->options().storage.value_or(own);
    if (format == own && own != number_format::float32) record_->kept.insert(key);
    return format;
}

KDNA_FUNC void state_dict_reader::finish() const {
    constexpr index_t shown = 4;
    index_t left = 0;
    std::string first, list;
    for (const auto& [name, tensor] : dict_->tensors()) {
        if (!name.starts_with(prefix_) || record_->taken.contains(name)) continue;
        if (left == 0) first = detail::printable(name);
        if (left++ < shown) list += concat(list.empty() ? "" : ", ", detail::printable(name));
    }
    if (left == 0) return;
    throw error(first, "every tensor to be used by the model",
                concat(left, left == 1 ? " unused tensor: " : " unused tensors: ", list, left > shown ? ", ..." : ""));
}

KDNA_FUNC const tensor_data& state_dict_reader::find(const std::string& key, const std::string& expected) const {
    const auto it = dict_->tensors().find(key);
    if (it != dict_->tensors().end()) return it->second;
    for (const auto& [name, tensor] : dict_->tensors())
        if (!record_->taken.contains(name) && detail::similar_names(key, name))
            throw error(key, expected, concat("no such tensor; did you mean ", detail::printable(name), "?"));
    throw error(key, expected, "no such tensor");
}

KDNA_FUNC const tensor_data& state_dict_reader::take_as(const std::string& key, dtype type,
                                                        const std::vector<index_t>& shape) const {
    const std::string expected = to_string(type, shape);
    const tensor_data& tensor = find(key, expected);
    const bool right = tensor.type() == type || (type == dtype::f32 && detail::converts_to_float32(tensor.type()));
    if (!right || tensor.shape() != shape) throw error(key, expected, to_string(tensor.type(), tensor.shape()));
    record_->taken.insert(key);
    return tensor;
}

KDNA_FUNC std::span<const float> state_dict_reader::converted(const std::string& key, const tensor_data& tensor) const {
    const auto known = record_->converted.find(key);
    if (known != record_->converted.end()) return known->second.values.span();
    return record_->converted.emplace(key, detail::to_float32(tensor.type(), tensor.bytes(), key))
        .first->second.values.span();
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
