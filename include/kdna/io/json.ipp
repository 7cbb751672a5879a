// Definitions of io/json.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include <kdna/io/json.hpp>
#include <kdna/io/json_text.hpp>

namespace kdna::inline KDNA_ABI {

KDNA_FUNC const json_value* json_value::find(std::string_view key) const noexcept {
    for (std::size_t i = 0; i < keys.size(); ++i)
        if (keys[i] == key) return &items[i];
    return nullptr;
}

KDNA_FUNC std::string_view name_of(json_value::kind k) noexcept {
    switch (k) {
        case json_value::kind::null: return "null";
        case json_value::kind::boolean: return "a boolean";
        case json_value::kind::integer: return "an integer";
        case json_value::kind::number: return "a number";
        case json_value::kind::string: return "a string";
        case json_value::kind::array: return "an array";
        case json_value::kind::object: return "an object";
    }
    return "nothing";
}

namespace detail {

/// Builds the tree from the events of nlohmann's parser, which does not recurse.
class json_tree final : public nlohmann::json_sax<nlohmann::json> {
public:
    json_tree(json_value& root, std::string_view where, const json_limits& limits)
        : root_(&root), where_(where), limits_(limits) {}

    bool null() override { return add({}), true; }
    bool boolean(bool v) override { return add({.is = json_value::kind::boolean, .boolean = v}), true; }
    bool number_integer(number_integer_t v) override { return integer(v); }
    bool number_unsigned(number_unsigned_t v) override {
        if (!std::in_range<std::int64_t>(v)) throw error(where_, "integers that fit in 64 bits", concat(v));
        return integer(static_cast<std::int64_t>(v));
    }
    bool number_float(number_float_t v, const string_t& text) override {
        // The parser gives integers of any length as floats.
        if (text.find_first_of(".eE") == string_t::npos)
            throw error(where_, "integers that fit in 64 bits", text.substr(0, 40));
        return add({.is = json_value::kind::number, .number = v}), true;
    }
    bool string(string_t& v) override { return add({.is = json_value::kind::string, .string = std::move(v)}), true; }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override { return open(json_value::kind::object); }
    bool start_array(std::size_t) override { return open(json_value::kind::array); }
    bool key(string_t& v) override {
        json_value& object = *path_.back();
        if (!names_.back().insert(v).second)
            throw error(where_, "every key once", concat("\"", v.substr(0, 80), "\" twice"));
        object.keys.push_back(std::move(v));
        return true;
    }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }
    bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception& e) override {
        throw error(where_, "a JSON text", json_failure(at, e));
    }

private:
    bool integer(std::int64_t v) {
        return add({.is = json_value::kind::integer, .integer = v, .number = static_cast<double>(v)}), true;
    }
    json_value& add(json_value v) {
        if (++count_ > limits_.values) throw error(where_, concat("at most ", limits_.values, " values"), "more");
        if (path_.empty()) {
            *root_ = std::move(v);
            return *root_;
        }
        path_.back()->items.push_back(std::move(v));
        return path_.back()->items.back();
    }
    // An open container's own container grows only when it has been closed, so its address stays.
    bool open(json_value::kind k) {
        if (static_cast<index_t>(path_.size()) >= limits_.depth)
            throw error(where_, concat("arrays and objects at most ", limits_.depth, " deep"), "deeper");
        path_.push_back(&add({.is = k}));
        names_.emplace_back();
        return true;
    }
    bool close() {
        path_.pop_back();
        names_.pop_back();
        return true;
    }

    json_value* root_;
    std::string where_;
    json_limits limits_;
    std::vector<json_value*> path_{};
    std::vector<std::set<std::string>> names_{};
    index_t count_ = 0;
};

}  // namespace detail

KDNA_FUNC json_value parse_json(std::string_view text, std::string_view where, const json_limits& limits) {
    detail::check_json_text(text, "a JSON object", where);
    json_value root;
    detail::json_tree tree(root, where, limits);
    nlohmann::json::sax_parse(text.begin(), text.end(), &tree);
    return root;
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
