// Definitions of shard_index.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <set>
#include <utility>

#include <kdna/core/error.hpp>
#include <kdna/io/dtype.hpp>
#include <kdna/io/json_text.hpp>
#include <kdna/io/shard_index.hpp>
#include <kdna/io/state_dict.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

// A plain file name cannot leave the folder of the index, on any system: no separators, no drive or stream, no parent.
inline void check_shard_name(std::string_view name, std::string_view where) {
    const bool plain = !name.empty() && name != "." && name != ".." && name.find_first_of("/\\:") == name.npos &&
                       std::none_of(name.begin(), name.end(), [](char c) { return is_control(c); });
    if (!plain)
        throw error(std::string(where), "the name of a file in the folder of the index",
                    concat("\"", printable(name), "\""));
}

// Receives the index piece by piece. Every event that does not fit the state ends in a kdna::error.
class shard_index_sax final : public nlohmann::json_sax<nlohmann::json> {
public:
    shard_index_sax(shard_map& out, std::string_view file) : out_(out), file_(file) {}

    bool start_object(std::size_t) override {
        if (at_ == place::start)
            at_ = place::top;
        else if (at_ == place::metadata)
            at_ = place::metadata_fields;
        else if (at_ == place::map)
            at_ = place::tensors;
        else
            unexpected("an object");
        return true;
    }
    bool key(string_t& name) override {
        std::set<std::string, std::less<>>& names = at_ == place::top ? top_names_ : metadata_names_;
        if (at_ == place::tensors) {
            check_tensor_name(name, where(name));
            const auto [item, fresh] = out_.try_emplace(name);
            if (!fresh) throw error(where(name), "every tensor once", "a duplicate key");
            tensor_ = &*item;
            at_ = place::shard;
            return true;
        }
        if (!names.insert(name).second)
            throw error(std::string(file_), "every key once", concat("a duplicate key \"", printable(name), "\""));
        if (at_ == place::metadata_fields)
            at_ = place::metadata_value;
        else if (name == "metadata")
            at_ = place::metadata;
        else if (name == "weight_map")
            at_ = place::map;
        else
            throw error(std::string(file_), "an index of shards: only metadata and weight_map",
                        concat("\"", printable(name), "\""));
        return true;
    }
    bool end_object() override {
        if (at_ == place::metadata_fields || at_ == place::tensors)
            at_ = place::top;
        else if (!top_names_.contains("weight_map"))
            throw error(std::string(file_), "an index of shards with a weight_map", "none");
        return true;
    }
    bool string(string_t& text) override {
        if (at_ == place::shard) {
            check_shard_name(text, where(tensor_->first));
            tensor_->second = std::move(text);
            at_ = place::tensors;
            return true;
        }
        return metadata_value(concat("the string \"", printable(text), "\""));
    }
    bool number_unsigned(number_unsigned_t value) override { return metadata_value(concat("the number ", value)); }
    bool number_integer(number_integer_t value) override { return metadata_value(concat("the number ", value)); }
    bool number_float(number_float_t, const string_t& text) override {
        return metadata_value(concat("the number ", printable(text, 40)));
    }
    bool boolean(bool value) override { return metadata_value(value ? "true" : "false"); }
    bool null() override { return metadata_value("null"); }
    bool start_array(std::size_t) override { unexpected("an array"); }
    bool end_array() override { unexpected("the end of an array"); }
    bool binary(binary_t&) override { unexpected("binary data"); }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& failure) override {
        throw error(std::string(file_), "an index of shards in JSON", json_failure(position, failure));
    }

private:
    enum class place { start, top, metadata, metadata_fields, metadata_value, map, tensors, shard };

    bool metadata_value(std::string_view found) {
        if (at_ != place::metadata_value) unexpected(found);
        at_ = place::metadata_fields;
        return true;
    }
    [[noreturn]] void unexpected(std::string_view found) const {
        const std::string_view expected = at_ == place::metadata         ? "metadata that are an object"
                                          : at_ == place::metadata_value ? "a text or number in metadata"
                                          : at_ == place::map            ? "a weight_map that is an object"
                                          : at_ == place::shard          ? "the name of a file"
                                                                         : "an object with a weight_map";
        throw error(at_ == place::shard ? where(tensor_->first) : std::string(file_), std::string(expected),
                    std::string(found));
    }
    [[nodiscard]] std::string where(std::string_view tensor) const {
        return concat(file_, ", tensor \"", printable(tensor), "\"");
    }

    shard_map& out_;
    std::string_view file_;
    place at_ = place::start;
    std::set<std::string, std::less<>> top_names_, metadata_names_;
    shard_map::value_type* tensor_ = nullptr;
};

KDNA_FUNC shard_map parse_shard_index(std::string_view text, std::string_view file) {
    if (const auto begin = text.find_first_not_of(" \t\r\n"); begin != text.npos) text.remove_prefix(begin);
    check_json_text(text, "an index of shards", file);
    shard_map out;
    shard_index_sax handler(out, file);
    nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &handler);
    return out;
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
