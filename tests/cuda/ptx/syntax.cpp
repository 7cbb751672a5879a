// The parser of PTX.
#include "cuda/ptx/syntax.hpp"

#include <cctype>
#include <charconv>

#include <kdna/core/error.hpp>

namespace kdna_test::ptx {
namespace {

class parser {
public:
    explicit parser(std::string_view text) : text_(text) {}

    module_text module() {
        module_text m;
        for (skip_space(); at_ < text_.size(); skip_space()) {
            const std::string_view word = name();
            if (word == ".version" || word == ".target" || word == ".address_size")
                at_ = text_.find('\n', at_);
            else if (word == ".visible" || word == ".weak")
                continue;
            else if (word == ".entry")
                m.entries.push_back(entry());
            else if (word == ".extern")
                m.variables.push_back(shared_or_local(name(), true));
            else
                m.variables.push_back(shared_or_local(word, false));
        }
        return m;
    }

private:
    [[noreturn]] void fail(std::string expected) const {
        throw kdna::error(kdna::concat("PTX, line ", line_), std::move(expected),
                          std::string(text_.substr(at_, text_.find('\n', at_) - at_)));
    }
    [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void skip_space() {
        for (; at_ < text_.size(); ++at_) {
            if (text_[at_] == '\n')
                ++line_;
            else if (text_.substr(at_, 2) == "//")
                at_ = std::min(text_.find('\n', at_), text_.size()) - 1;
            else if (std::isspace(static_cast<unsigned char>(text_[at_])) == 0)
                return;
        }
    }
    bool take(char c) {
        skip_space();
        if (peek() != c) return false;
        ++at_;
        return true;
    }
    void expect(char c) {
        if (!take(c)) fail(kdna::concat("'", c, "'"));
    }
    /// An identifier, directive or opcode: dots and colons (as in .L2::128B) are part of it.
    std::string_view name() {
        skip_space();
        const std::size_t begin = at_;
        const auto belongs = [&](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '%' || c == '.';
        };
        while (at_ < text_.size() && (belongs(text_[at_]) || text_.substr(at_, 2) == "::"))
            at_ += text_[at_] == ':' ? 2U : 1U;
        if (at_ == begin) fail("a name");
        return text_.substr(begin, at_ - begin);
    }
    /// "Constants": decimal and hexadecimal integers, and 0f with the bits of a float32.
    operand number() {
        skip_space();
        operand o;
        o.kind = operand::form::integer;
        const bool negative = take('-');
        int base = 10;
        if (text_.substr(at_, 2) == "0f" || text_.substr(at_, 2) == "0F") o.kind = operand::form::float32;
        if (o.kind == operand::form::float32 || text_.substr(at_, 2) == "0x" || text_.substr(at_, 2) == "0X") {
            base = 16;
            at_ += 2;
        }
        const char* first = text_.data() + at_;
        const auto [end, status] = std::from_chars(first, text_.data() + text_.size(), o.bits, base);
        if (status != std::errc()) fail("a number");
        at_ += static_cast<std::size_t>(end - first);
        if (peek() == 'U') ++at_;
        if (negative) o.bits = 0 - o.bits;
        return o;
    }
    [[nodiscard]] bool at_number() {
        skip_space();
        return peek() == '-' || std::isdigit(static_cast<unsigned char>(peek())) != 0;
    }
    operand any_operand() {
        operand o;
        if (take('{')) {
            o.kind = operand::form::vector;
            do o.parts.push_back(any_operand());
            while (take(','));
            expect('}');
        } else if (take('[')) {
            o.kind = operand::form::address;
            if (at_number()) {
                o.bits = number().bits;
            } else {
                o.name = name();
                if (take('+')) o.bits = number().bits;
            }
            expect(']');
        } else if (at_number()) {
            o = number();
        } else {
            o.name = name();
        }
        return o;
    }
    /// [.align N] .type name[bytes], of one-byte elements, as nvcc writes all memory.
    variable memory(std::string_view space) {
        variable v{.space = space};
        std::string_view word = name();
        if (word == ".align") {
            v.alignment = number().bits;
            word = name();
        }
        const std::size_t element = type_bytes(word);
        v.name = name();
        v.bytes = element;
        if (take('[')) {
            v.is_extern = take(']');
            if (!v.is_extern) {
                v.bytes = element * number().bits;
                expect(']');
            }
        }
        v.alignment = std::max(v.alignment, element);
        return v;
    }
    variable shared_or_local(std::string_view space, bool is_extern) {
        if (space != ".shared" && space != ".local") fail(kdna::concat("a directive that is known, not ", space));
        const variable v = memory(space);
        if (v.is_extern != is_extern) fail("an array whose size is known");
        expect(';');
        return v;
    }
    std::size_t type_bytes(std::string_view type) {
        int bits = 0;
        if (type.size() > 2) std::from_chars(type.data() + 2, type.data() + type.size(), bits);
        if (bits != 8 && bits != 16 && bits != 32 && bits != 64)
            fail(kdna::concat("a type of memory, not ", type, " before"));
        return static_cast<std::size_t>(bits) / 8;
    }

    entry_text entry() {
        entry_text e;
        e.name = name();
        e.line = line_;
        expect('(');
        while (!take(')')) {
            const std::string_view space = name();
            if (space != ".param") fail("a parameter");
            e.parameters.push_back(memory(space));
            take(',');
        }
        while (!take('{')) {  // "Performance-Tuning Directives"
            const std::string_view word = name();
            int product = 1;
            do product *= static_cast<int>(number().bits);
            while (take(','));
            if (word == ".maxntid") e.max_threads = product;
        }
        while (!take('}')) body(e);
        return e;
    }
    void body(entry_text& e) {
        statement s;
        s.line = line_;
        const std::size_t begin = at_;
        if (take('@')) {
            s.negated = take('!');
            s.predicate = name();
        }
        s.opcode = name();
        if (s.opcode == ".reg") {
            register_declaration r;
            r.type = name();
            r.name = name();
            if (take('<')) {
                r.count = static_cast<int>(number().bits);
                expect('>');
            }
            e.registers.push_back(r);
            expect(';');
        } else if (s.opcode == ".pragma") {  // says nothing about what is computed
            at_ = text_.find(';', at_) + 1;
        } else if (s.opcode.front() == '.') {
            e.variables.push_back(shared_or_local(s.opcode, false));
        } else if (take(':')) {
            e.labels[s.opcode] = e.statements.size();
        } else {
            while (!take(';')) {
                s.operands.push_back(any_operand());
                take(',');
            }
            s.text = text_.substr(begin, at_ - begin);
            e.statements.push_back(std::move(s));
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
    int line_ = 1;
};

}  // namespace

module_text parse(std::string_view text) { return parser(text).module(); }

}  // namespace kdna_test::ptx
