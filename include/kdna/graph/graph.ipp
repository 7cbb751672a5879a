// Definitions of graph/graph.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <functional>
#include <utility>

#include <kdna/graph/graph.hpp>

namespace kdna::inline KDNA_ABI::graph {

namespace detail {

inline constexpr index_t most_nodes = 65536;
inline constexpr index_t most_ports = 1024;
inline constexpr index_t deepest_expression = 32;
inline constexpr std::size_t most_named_shapes = 64;  // by the expressions of one attribute

/// The value, if it is of that kind. Throws kdna::error otherwise.
inline const json_value& of_kind(const json_value& v, kind k, std::string_view where) {
    if (v.is != k) throw error(std::string(where), concat(name_of(k)), concat(name_of(v.is)));
    return v;
}

/// A text from a file, for messages.
[[nodiscard]] inline std::string in_quotes(std::string_view text) {
    std::string out = "\"";
    for (const char c : text.substr(0, 120)) out += static_cast<unsigned char>(c) < 32 ? '?' : c;
    return out + "\"";
}

[[nodiscard]] inline const json_value& member(const json_value& object, std::string_view key, std::string_view where) {
    const json_value* v = object.find(key);
    if (v == nullptr) throw error(std::string(where), concat("a field \"", key, "\""), "none");
    return *v;
}

/// Throws kdna::error if an object has a member that is not among `known`.
inline void only(const json_value& object, std::initializer_list<std::string_view> known, std::string_view where) {
    for (const std::string& key : object.keys)
        if (std::find(known.begin(), known.end(), key) == known.end()) {
            std::string names;
            for (const std::string_view k : known) names += concat(names.empty() ? "" : ", ", k);
            throw error(std::string(where), concat("no fields but ", names), in_quotes(key));
        }
}

/// The text, if it may be a name. Throws kdna::error otherwise.
inline const std::string& checked_name(const json_value& v, const std::string& where) {
    const std::string& name = of_kind(v, kind::string, where).string;
    if (name.empty() || name.size() > 1024) throw error(where, "a name of 1 to 1024 bytes", concat(name.size()));
    for (const char c : name)
        if (static_cast<unsigned char>(c) < 32)
            throw error(where, "a name without control characters", in_quotes(name));
    return name;
}

[[nodiscard]] inline std::string name_at(const json_value& object, std::string_view key, std::string_view where) {
    return checked_name(member(object, key, where), concat(where, ", ", key));
}

/// Extents, where null is any.
[[nodiscard]] KDNA_FUNC std::vector<index_t> port_extents(const json_value& v, std::string_view where, bool any) {
    std::vector<index_t> out;
    for (const json_value& e : of_kind(v, kind::array, where).items) {
        if (any && e.is == kind::null) {
            out.push_back(0);
            continue;
        }
        if (e.is != kind::integer || e.integer < 1)
            throw error(std::string(where), any ? "extents >= 1, or null" : "extents >= 1",
                        e.is == kind::integer ? concat(e.integer) : concat(name_of(e.is)));
        out.push_back(e.integer);
    }
    return out;
}

/// Reads the parts of a description and knows the values so far.
class description_reader {
public:
    description_reader(const json_value& root, std::string_view where) : root_(&root), where_(where) {}

    [[nodiscard]] description read() {
        of_kind(*root_, kind::object, where_);
        only(*root_, {"version", "inputs", "outputs", "nodes"}, where_);
        const json_value& version = member(*root_, "version", where_);
        if (version.is != kind::integer || version.integer != 1)
            throw error(concat(where_, ", version"), "1",
                        version.is == kind::integer ? concat(version.integer) : concat(name_of(version.is)));
        for (const json_value& v : list("inputs", most_ports)) read_input(v);
        for (const json_value& v : list("nodes", most_nodes)) read_node(v);
        for (const json_value& v : list("outputs", most_ports)) read_output(v);
        if (out_.inputs.empty()) throw error(concat(where_, ", inputs"), "at least one", "none");
        if (out_.outputs.empty()) throw error(concat(where_, ", outputs"), "at least one", "none");
        return std::move(out_);
    }

private:
    [[nodiscard]] const std::vector<json_value>& list(std::string_view key, index_t most) const {
        const std::string at = concat(where_, ", ", key);
        const std::vector<json_value>& items = of_kind(member(*root_, key, where_), kind::array, at).items;
        if (static_cast<index_t>(items.size()) > most) throw error(at, concat("at most ", most), concat(items.size()));
        return items;
    }
    void made(const std::string& name, std::string_view where) {
        if (!values_.insert(name).second)
            throw error(std::string(where), "a value that is made once", concat(in_quotes(name), " twice"));
    }
    void known(const std::string& name, std::string_view where) const {
        if (!values_.contains(name)) throw error(std::string(where), "a value made before", in_quotes(name));
    }
    void read_input(const json_value& v) {
        const std::string at = concat(where_, ", input ", out_.inputs.size());
        of_kind(v, kind::object, at);
        only(v, {"name", "shape", "example"}, at);
        input_port p{name_at(v, "name", at), port_extents(member(v, "shape", at), concat(at, ", shape"), true)};
        if (p.extents.empty() || static_cast<index_t>(p.extents.size()) > most_axes)
            throw error(concat(at, ", shape"), "a rank of 1 to 5", concat(p.extents.size()));
        if (const json_value* e = v.find("example")) {
            p.example = port_extents(*e, concat(at, ", example"), false);
            bool fits = p.example.size() == p.extents.size();
            for (std::size_t i = 0; fits && i < p.example.size(); ++i)
                fits = p.extents[i] == 0 || p.extents[i] == p.example[i];
            if (!fits) throw error(concat(at, ", example"), "extents that the shape allows", "others");
        }
        made(p.name, at);
        out_.inputs.push_back(std::move(p));
    }
    void read_output(const json_value& v) {
        const std::string at = concat(where_, ", output ", out_.outputs.size());
        of_kind(v, kind::object, at);
        only(v, {"name", "value"}, at);
        output_port p{name_at(v, "name", at), name_at(v, "value", at)};
        known(p.value, at);
        out_.outputs.push_back(std::move(p));
    }
    void read_node(const json_value& v) {
        const std::string at = concat(where_, ", node ", out_.nodes.size());
        of_kind(v, kind::object, at);
        node n{name_at(v, "op", at), name_at(v, "name", at), name_at(v, "out", at)};
        const std::string named = concat(where_, ", ", n.where());
        n.attributes.is = kind::object;
        for (std::size_t i = 0; i < v.keys.size(); ++i) {
            const std::string& key = v.keys[i];
            const json_value& item = v.items[i];
            if (key == "op" || key == "name" || key == "out") continue;
            if (key == "in") {
                for (const json_value& name : of_kind(item, kind::array, concat(named, ", in")).items) {
                    n.in.push_back(of_kind(name, kind::string, concat(named, ", in")).string);
                    known(n.in.back(), concat(named, ", in"));
                }
            } else if (key == "tensors") {
                of_kind(item, kind::object, concat(named, ", tensors"));
                for (std::size_t k = 0; k < item.keys.size(); ++k)
                    n.tensors[item.keys[k]] = checked_name(item.items[k], concat(named, ", tensors"));
            } else {
                n.attributes.keys.push_back(key);
                n.attributes.items.push_back(item);
            }
        }
        made(n.out, named);
        out_.nodes.push_back(std::move(n));
    }

    const json_value* root_;
    std::string where_;
    description out_{};
    std::set<std::string> values_{};
};

}  // namespace detail

KDNA_FUNC std::string node::where() const { return concat("node ", name, " (", op, ")"); }

KDNA_FUNC description parse(std::string_view json, std::string_view where) {
    return detail::description_reader(parse_json(json, where), where).read();
}

KDNA_FUNC std::string attributes::at(std::string_view key) const { return concat(where_, ", ", key); }

KDNA_FUNC const json_value* attributes::take(std::string_view key, bool needed) {
    const json_value* v = node_->attributes.find(key);
    if (v == nullptr && needed) throw error(where_, concat("an attribute \"", key, "\""), "none");
    if (v != nullptr) taken_.emplace(key);
    return v;
}

KDNA_FUNC bool attributes::contains(std::string_view key) const { return node_->attributes.find(key) != nullptr; }

KDNA_FUNC index_t attributes::integer(std::string_view key, std::optional<index_t> otherwise) {
    const json_value* v = take(key, !otherwise);
    return v == nullptr ? *otherwise : detail::of_kind(*v, detail::kind::integer, at(key)).integer;
}

KDNA_FUNC double attributes::number(std::string_view key, std::optional<double> otherwise) {
    const json_value* v = take(key, !otherwise);
    if (v == nullptr) return *otherwise;
    if (v->is == detail::kind::integer) return v->number;
    return detail::of_kind(*v, detail::kind::number, at(key)).number;
}

KDNA_FUNC bool attributes::boolean(std::string_view key, std::optional<bool> otherwise) {
    const json_value* v = take(key, !otherwise);
    return v == nullptr ? *otherwise : detail::of_kind(*v, detail::kind::boolean, at(key)).boolean;
}

KDNA_FUNC std::string attributes::text(std::string_view key, std::optional<std::string> otherwise) {
    const json_value* v = take(key, !otherwise);
    return v == nullptr ? *otherwise : detail::of_kind(*v, detail::kind::string, at(key)).string;
}

KDNA_FUNC std::vector<index_t> attributes::integers(std::string_view key,
                                                    std::optional<std::vector<index_t>> otherwise) {
    const json_value* v = take(key, !otherwise);
    if (v == nullptr) return *otherwise;
    std::vector<index_t> out;
    for (const json_value& i : detail::of_kind(*v, detail::kind::array, at(key)).items)
        out.push_back(detail::of_kind(i, detail::kind::integer, at(key)).integer);
    return out;
}

KDNA_FUNC std::vector<double> attributes::numbers(std::string_view key) {
    std::vector<double> out;
    for (const json_value& i : detail::of_kind(*take(key, true), detail::kind::array, at(key)).items)
        out.push_back(i.is == detail::kind::integer ? i.number
                                                    : detail::of_kind(i, detail::kind::number, at(key)).number);
    return out;
}

namespace detail {

/// Throws kdna::error unless there are `count` integers from 0 to 2^30.
inline void check_small(const std::vector<index_t>& v, std::size_t count, const std::string& where) {
    if (v.size() != count) throw error(where, concat(count, " integers"), concat(v.size()));
    for (const index_t e : v)
        if (e < 0 || e > (index_t{1} << 30)) throw error(where, "integers from 0 to 2^30", concat(e));
}

}  // namespace detail

KDNA_FUNC extent2 attributes::pair(std::string_view key, std::optional<index_t> otherwise) {
    std::optional<std::vector<index_t>> absent;
    if (otherwise) absent = {*otherwise, *otherwise};
    const std::vector<index_t> v = integers(key, absent);
    detail::check_small(v, 2, at(key));
    return {v[0], v[1]};
}

KDNA_FUNC padding attributes::sides(std::string_view key) {
    const std::vector<index_t> v = integers(key, std::vector<index_t>{0, 0, 0, 0});
    detail::check_small(v, 4, at(key));
    return {v[0], v[1], v[2], v[3]};
}

KDNA_FUNC extent attributes::read_extent(const json_value& v, std::string_view key, std::vector<std::string>& shapes,
                                         index_t first, index_t depth) const {
    using detail::kind;
    if (v.is == kind::integer) return v.integer;
    if (depth > detail::deepest_expression)
        throw error(at(key), concat("expressions at most ", detail::deepest_expression, " deep"), "deeper");
    const auto wrong = [&](const std::string& found) {
        return error(at(key), R"(an integer or an expression: ["dim", value, axis], ["add", a, b], ...)", found);
    };
    if (v.is != kind::array || v.items.size() != 3 || v.items.front().is != kind::string)
        throw wrong(v.is == kind::array ? "another array" : concat(name_of(v.is)));
    const std::string& op = v.items.front().string;
    if (op == "dim") {
        const std::string& value = detail::of_kind(v.items[1], kind::string, at(key)).string;
        const index_t axis = detail::of_kind(v.items[2], kind::integer, at(key)).integer;
        const auto found = std::find(shapes.begin(), shapes.end(), value);
        const index_t i = found - shapes.begin();
        if (found == shapes.end()) {
            if (shapes.size() == detail::most_named_shapes)
                throw error(at(key), concat("extents of at most ", detail::most_named_shapes, " values"), "more");
            shapes.push_back(value);
        }
        return extent::dim(first + i, axis);
    }
    const extent a = read_extent(v.items[1], key, shapes, first, depth + 1),
                 b = read_extent(v.items[2], key, shapes, first, depth + 1);
    if (op == "add") return a + b;
    if (op == "sub") return a - b;
    if (op == "mul") return a * b;
    if (op == "div") return a / b;
    if (op == "ceil_div") return extent::ceil_div(a, b);
    if (op == "max") return extent::max(a, b);
    if (op == "min") return extent::min(a, b);
    throw wrong(detail::in_quotes(op));
}

KDNA_FUNC std::vector<extent> attributes::extents(std::string_view key, std::vector<std::string>& shapes,
                                                  index_t first) {
    std::vector<extent> out;
    const std::vector<json_value>& items = detail::of_kind(*take(key, true), detail::kind::array, at(key)).items;
    if (static_cast<index_t>(items.size()) > most_axes)
        throw error(at(key), concat("at most ", most_axes, " extents"), concat(items.size()));
    out.reserve(items.size());
    for (const json_value& v : items) out.push_back(read_extent(v, key, shapes, first, 0));
    return out;
}

KDNA_FUNC extent attributes::one_extent(std::string_view key, std::vector<std::string>& shapes, index_t first) {
    return read_extent(*take(key, true), key, shapes, first, 0);
}

KDNA_FUNC void attributes::finish() const {
    for (const std::string& key : node_->attributes.keys)
        if (!taken_.contains(key)) throw error(where_, "attributes of this operation only", detail::in_quotes(key));
}

}  // namespace kdna::inline KDNA_ABI::graph

#include <kdna/core/macros_pop.hpp>
