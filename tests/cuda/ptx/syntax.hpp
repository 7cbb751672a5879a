// PTX text as a list of statements, nothing of it interpreted yet. Manual: "Syntax", "Directives", "Instruction Operands".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kdna_test::ptx {

/// An operand as it is written. Views are of the text that was parsed.
struct operand {
    enum class form { name, integer, float32, vector, address };
    form kind = form::name;
    std::string_view name{};       ///< a register, variable or label; of an address its base, empty if it has none
    std::uint64_t bits = 0;        ///< an integer, the bits of a float, or the offset of an address
    std::vector<operand> parts{};  ///< of a vector
};

struct statement {
    int line = 0;
    std::string_view text{};       ///< the whole of it, for messages
    std::string_view predicate{};  ///< of @p and @!p
    bool negated = false;
    std::string_view opcode{};  ///< with all its modifiers
    std::vector<operand> operands{};
};

/// .reg .type name; or .reg .type name<count>; which declares name0 ... name(count - 1).
struct register_declaration {
    std::string_view type{}, name{};
    int count = 0;  ///< 0: the name itself
};

/// .param, .shared or .local memory.
struct variable {
    std::string_view space{}, name{};
    std::size_t bytes = 0, alignment = 1;
    bool is_extern = false;  ///< of dynamic size
};

struct entry_text {
    std::string_view name{};
    int line = 0, max_threads = 0;  ///< .maxntid, all axes; 0: none
    std::vector<variable> parameters{}, variables{};
    std::vector<register_declaration> registers{};
    std::vector<statement> statements{};
    std::map<std::string_view, std::size_t> labels{};  ///< the statement behind a label
};

struct module_text {
    std::vector<variable> variables{};
    std::vector<entry_text> entries{};
};

/// Throws kdna::error with the line of what it does not know. `text` must outlive what is returned.
[[nodiscard]] module_text parse(std::string_view text);

}  // namespace kdna_test::ptx
