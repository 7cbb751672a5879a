// A network as a file describes it: values and nodes by name, before anything is fused or made (docs/graph-file.md).
#pragma once

#include <kdna/core/macros_push.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/io/json.hpp>
#include <kdna/nn/extents.hpp>

namespace kdna::inline KDNA_ABI::graph {

namespace detail {
using kind = json_value::kind;
}

/// An input: its name, and its extents, 0 where any will do.
struct input_port {
    std::string name;
    std::vector<index_t> extents;
    std::vector<index_t> example{};  ///< extents on which the network runs; empty if the file names none
};

/// An output: what callers call it, and the value that it is.
struct output_port {
    std::string name, value;
};

/// One operation on values.
struct node {
    std::string op, name, out;
    std::vector<std::string> in{};
    std::map<std::string, std::string> tensors{};  ///< roles to names of tensors
    json_value attributes{};                       ///< an object

    /// "node conv1 (conv2d)", for messages.
    [[nodiscard]] KDNA_FUNC std::string where() const;
};

/// A whole network.
struct description {
    std::vector<input_port> inputs;
    std::vector<output_port> outputs;
    std::vector<node> nodes;
};

/// Reads the JSON of a network file. Throws kdna::error, naming `where` and the node, for another version, unknown fields, a value
/// that is made twice or read before it is made, and limits that are passed: 65,536 nodes, 1,024 inputs or outputs.
[[nodiscard]] KDNA_FUNC description parse(std::string_view json, std::string_view where);

/// The attributes of a node, each of which must be asked for.
class attributes {
public:
    /// The node must outlive the reader.
    explicit attributes(const node& n) : node_(&n), where_(n.where()) {}

    /// What an attribute is, or `otherwise` where it is absent; without `otherwise` it must be there. All throw kdna::error naming
    /// node and attribute, what was expected and found.
    [[nodiscard]] KDNA_FUNC index_t integer(std::string_view key, std::optional<index_t> otherwise = {});
    [[nodiscard]] KDNA_FUNC double number(std::string_view key, std::optional<double> otherwise = {});
    [[nodiscard]] KDNA_FUNC bool boolean(std::string_view key, std::optional<bool> otherwise = {});
    [[nodiscard]] KDNA_FUNC std::string text(std::string_view key, std::optional<std::string> otherwise = {});
    [[nodiscard]] KDNA_FUNC std::vector<index_t> integers(std::string_view key,
                                                          std::optional<std::vector<index_t>> otherwise = {});
    [[nodiscard]] KDNA_FUNC std::vector<double> numbers(std::string_view key);
    /// Two integers from 0 to 2^30, rows and columns; `otherwise` both.
    [[nodiscard]] KDNA_FUNC extent2 pair(std::string_view key, std::optional<index_t> otherwise = {});
    /// Padding, four integers from 0 to 2^30: top, bottom, left, right; 0 where it is absent.
    [[nodiscard]] KDNA_FUNC padding sides(std::string_view key);
    /// One that may be absent.
    [[nodiscard]] KDNA_FUNC bool contains(std::string_view key) const;
    /// A list of extents, or one, whose expressions name values; `shapes` collects the values they name, and the extents count
    /// them from `first` on.
    [[nodiscard]] KDNA_FUNC std::vector<extent> extents(std::string_view key, std::vector<std::string>& shapes,
                                                        index_t first);
    [[nodiscard]] KDNA_FUNC extent one_extent(std::string_view key, std::vector<std::string>& shapes, index_t first);
    /// Throws kdna::error if there is an attribute that was not asked for.
    KDNA_FUNC void finish() const;
    [[nodiscard]] const std::string& where() const noexcept { return where_; }

private:
    [[nodiscard]] KDNA_FUNC const json_value* take(std::string_view key, bool needed);
    [[nodiscard]] KDNA_FUNC std::string at(std::string_view key) const;
    [[nodiscard]] KDNA_FUNC extent read_extent(const json_value& v, std::string_view key,
                                               std::vector<std::string>& shapes, index_t first, index_t depth) const;
    const node* node_;
    std::string where_;
    std::set<std::string, std::less<>> taken_{};
};

}  // namespace kdna::inline KDNA_ABI::graph

#ifndef KDNA_COMPILED
#include <kdna/graph/graph.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
