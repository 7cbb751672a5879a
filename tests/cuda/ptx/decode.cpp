// From statements to instructions: registers become places in a warp's register file, opcodes what they do.
#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>
#include <utility>

#include <kdna/core/error.hpp>

#include "cuda/ptx/instructions.hpp"

namespace kdna_test::ptx {
namespace {

struct place {
    std::uint32_t at = 0;
    std::uint8_t width = 0;  ///< in bytes; 1: a predicate
};
/// A type of memory or of registers.
struct data_type {
    std::uint8_t bytes = 0;
    bool is_signed = false;
};

std::vector<std::string_view> split(std::string_view opcode) {
    std::vector<std::string_view> parts;
    for (std::size_t begin = 0; begin <= opcode.size();) {
        const std::size_t end = std::min(opcode.find('.', begin), opcode.size());
        parts.push_back(opcode.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

class decoder {
public:
    decoder(const entry_text& e, const std::vector<variable>& module_variables) : e_(e) {
        p_.name = e.name;
        p_.line = e.line;
        p_.max_threads = e.max_threads;
        for (const variable& v : e.parameters) {
            symbols_[v.name] = {initial_value::origin::parameters, place_in(p_.parameter_bytes, v)};
        }
        for (const auto* variables : {&module_variables, &e.variables})
            for (const variable& v : *variables) {
                if (v.is_extern) continue;
                if (v.space == ".local")
                    symbols_[v.name] = {initial_value::origin::local, place_in(p_.local_bytes, v)};
                else
                    symbols_[v.name] = {initial_value::origin::constant,
                                        shared_memory::window + place_in(p_.static_shared_bytes, v)};
            }
        // What has its size from the launch lies behind the rest, all such arrays in one place ("extern .shared").
        constexpr std::size_t alignment = 128;
        p_.static_shared_bytes = (p_.static_shared_bytes + alignment - 1) / alignment * alignment;
        p_.local_bytes = (p_.local_bytes + 15) / 16 * 16;
        for (const variable& v : module_variables)
            if (v.is_extern)
                symbols_[v.name] = {initial_value::origin::constant, shared_memory::window + p_.static_shared_bytes};
        for (const register_declaration& r : e.registers) declare(r);
    }

    program run() {
        p_.cell_bytes = 4;
        p_.code.reserve(e_.statements.size() + 1);
        for (const statement& s : e_.statements) {
            s_ = &s;
            p_.code.push_back(one());
        }
        p_.reached.assign(p_.code.size(), false);
        return std::move(p_);
    }

private:
    struct symbol {
        initial_value::origin from;
        std::uint64_t value;
    };

    [[noreturn]] void fail(std::string expected, std::string_view found) const {
        throw kdna::error(kdna::concat(e_.name, ", line ", s_ != nullptr ? s_->line : e_.line), std::move(expected),
                          std::string(found));
    }
    [[noreturn]] void fail_unknown() const { fail("an instruction that the interpreter knows", s_->text); }

    static std::uint64_t place_in(std::size_t& size, const variable& v) {
        size = (size + v.alignment - 1) / v.alignment * v.alignment;
        return std::exchange(size, size + v.bytes);
    }
    place new_place(std::size_t width) {
        const place p{static_cast<std::uint32_t>(p_.register_bytes), static_cast<std::uint8_t>(width)};
        p_.register_bytes += width * warp_lanes;
        return p;
    }
    void declare(const register_declaration& r) {
        const std::size_t width = r.type == ".pred" ? 1U : type_of(r.type.substr(1)).bytes;
        const auto add = [&](std::string name) {
            const place p = new_place(width);
            registers_.emplace(std::move(name), p);
            if (width == 1) p_.predicates.push_back(p.at);
        };
        if (r.count == 0) add(std::string(r.name));
        for (int i = 0; i < r.count; ++i) add(kdna::concat(r.name, i));
    }
    data_type type_of(std::string_view name) const {
        int bits = 0;
        if (name.size() < 2 || std::string_view("busf").find(name[0]) == std::string_view::npos ||
            std::from_chars(name.data() + 1, name.data() + name.size(), bits).ec != std::errc())
            fail("a type", name);
        return {static_cast<std::uint8_t>(bits / 8), name[0] == 's'};
    }

    /// A register that holds a value from the beginning.
    place initial(initial_value::origin from, std::uint64_t value, std::size_t width) {
        const auto key = std::tuple(from, value, width);
        const auto found = constants_.find(key);
        if (found != constants_.end()) return found->second;
        const place p = new_place(width);
        p_.initial.push_back({from, p.at, width, value});
        constants_.emplace(key, p);
        return p;
    }
    /// A register, or a constant of that width; width 0: a register of any.
    place resolve(const operand& o, std::size_t width) {
        using origin = initial_value::origin;
        if (o.kind == operand::form::integer || o.kind == operand::form::float32) {
            if (width == 0) fail("a register", s_->text);
            if (o.kind == operand::form::float32 && width != 4) fail("a constant of another type", s_->text);
            return initial(origin::constant, width < 8 ? o.bits & ((std::uint64_t{1} << 8 * width) - 1) : o.bits,
                           width);
        }
        if (o.kind != operand::form::name) fail("a register or a constant", s_->text);
        if (const auto r = registers_.find(o.name); r != registers_.end()) {
            if (width != 0 && r->second.width != width)
                fail(kdna::concat("a register of ", width, " bytes, not ", o.name), s_->text);
            return r->second;
        }
        if (const auto s = symbols_.find(o.name); s != symbols_.end())
            return initial(s->second.from, s->second.value, width == 0 ? 8 : width);
        static constexpr std::pair<std::string_view, origin> specials[] = {
            {"%tid.x", origin::tid_x},       {"%ntid.x", origin::ntid_x},    {"%ctaid.x", origin::ctaid_x},
            {"%ctaid.y", origin::ctaid_y},   {"%ctaid.z", origin::ctaid_z},  {"%nctaid.x", origin::nctaid_x},
            {"%nctaid.y", origin::nctaid_y}, {"%nctaid.z", origin::nctaid_z}};
        for (const auto& [name, from] : specials)
            if (o.name == name) {
                if (width != 4) fail("a special register of 4 bytes", s_->text);
                return initial(from, 0, width);
            }
        fail(kdna::concat("a register or variable that is declared, or a special register that is known, not ", o.name),
             s_->text);
    }
    /// A register that is written.
    std::uint32_t destination(const operand& o, std::size_t width) {
        if (o.kind != operand::form::name || !registers_.contains(o.name)) fail("a register to write to", s_->text);
        return resolve(o, width).at;
    }
    void require_operands(std::size_t count) const {
        if (s_->operands.size() != count) fail(kdna::concat(count, " operands"), s_->text);
    }
    /// The parts of {a, b}, or the operand itself.
    std::vector<operand> parts_of(const operand& o) const {
        return o.kind == operand::form::vector ? o.parts : std::vector<operand>{o};
    }
    void set_address(instruction& i, const operand& o) {
        if (o.kind != operand::form::address) fail("an address in brackets", s_->text);
        const place p = address_base(o);
        i.from[0] = p.at;
        i.address_width = p.width;
        i.offset = o.bits;
    }
    place address_base(const operand& o) {
        if (o.name.empty()) return initial(initial_value::origin::constant, 0, 8);
        operand base;
        base.name = o.name;
        const place p = resolve(base, 0);
        if (p.width != 4 && p.width != 8) fail("an address of 4 or 8 bytes", s_->text);
        return p;
    }

    instruction one() {
        instruction i;
        i.source = s_;
        if (!s_->predicate.empty()) {
            operand p;
            p.name = s_->predicate;
            i.predicate = resolve(p, 1).at;
            i.negated = s_->negated;
        }
        const std::string_view opcode = s_->opcode;
        const std::vector<std::string_view> words = split(opcode);
        if (opcode == "bra" || opcode == "bra.uni") {
            branch(i);
        } else if (opcode == "ret" || opcode == "exit") {
            require_operands(0);
            i.kind = flow::leave;
        } else if (opcode == "bar.sync" || opcode == "barrier.sync.aligned") {
            barrier(i);
        } else if (words[0] == "ld" || words[0] == "st") {
            access(i, words);
        } else if (opcode.starts_with("cp.async")) {
            copy(i, opcode);
        } else if (words[0] == "mma") {
            multiply(i, opcode);
        } else if (words[0] == "ldmatrix") {
            load_matrix(i, words);
        } else if (words[0] == "mov" && std::ranges::any_of(s_->operands, [](const operand& o) {
                       return o.kind == operand::form::vector;
                   })) {
            move_packed(i, words);
        } else {
            compute(i, opcode);
        }
        if (i.predicate != instruction::none && (i.kind == flow::warp || i.kind == flow::barrier))
            fail("no predicate on what all threads do together", s_->text);
        return i;
    }

    void compute(instruction& i, std::string_view opcode) {
        const auto a = find_arithmetic(opcode);
        if (!a) fail_unknown();
        require_operands(static_cast<std::size_t>(a->operands) + 1);
        i.run = a->run;
        for (std::size_t n = 0; n < static_cast<std::size_t>(a->operands); ++n)
            i.from[n] = resolve(s_->operands[n + 1], a->widths[n]).at;
        i.to[0] = destination(s_->operands[0], a->result_width);
    }
    void branch(instruction& i) {
        require_operands(1);
        const auto label = e_.labels.find(s_->operands[0].name);
        if (label == e_.labels.end()) fail("a label of the program", s_->text);
        i.kind = flow::branch;
        i.target = label->second;
    }
    void barrier(instruction& i) {
        // Of all threads, and always the same one: what __syncthreads() is.
        if (s_->operands.size() != 1 || s_->operands[0].kind != operand::form::integer || s_->operands[0].bits != 0)
            fail_unknown();
        i.kind = flow::barrier;
    }

    /// ld, st: .space, .v2 or .v4, type. .nc is another way of the same bytes.
    void access(instruction& i, const std::vector<std::string_view>& words) {
        const bool loads = words[0] == "ld";
        std::size_t next = 2;
        if (words.size() > next && loads && words[1] == "global" && words[next] == "nc") ++next;
        if (words.size() > next && (words[next] == "v2" || words[next] == "v4"))
            i.elements = words[next++] == "v2" ? 2 : 4;
        if (words.size() != next + 1) fail_unknown();
        const data_type type = type_of(words[next]);
        struct known {
            std::string_view space;
            handler load, store;
        };
        static constexpr known spaces[] = {{"param", load_parameter, nullptr},
                                           {"global", load_global, store_global},
                                           {"shared", load_shared, store_shared},
                                           {"local", load_local, store_local}};
        const auto* space =
            std::find_if(std::begin(spaces), std::end(spaces), [&](const known& k) { return k.space == words[1]; });
        if (space == std::end(spaces)) fail_unknown();
        i.run = loads ? space->load : space->store;
        if (i.run == nullptr) fail_unknown();
        i.element_bytes = type.bytes;
        i.sign_extends = type.is_signed;
        if (words[1] == "shared") p_.cell_bytes = std::min<std::size_t>(p_.cell_bytes, type.bytes);
        require_operands(2);
        set_address(i, s_->operands[loads ? 1 : 0]);
        const std::vector<operand> registers = parts_of(s_->operands[loads ? 0 : 1]);
        if (registers.size() != i.elements) fail(kdna::concat(i.elements, " registers"), s_->text);
        for (std::size_t n = 0; n < registers.size(); ++n) {
            // Bytes pass through registers of 16 bits at least.
            const std::size_t constant = std::max<std::size_t>(type.bytes, 2);
            const bool literal = registers[n].kind != operand::form::name;
            const place p = resolve(registers[n], literal && !loads ? constant : 0);
            if (p.width < type.bytes) fail("registers that hold the type", s_->text);
            if (n != 0 && p.width != i.register_width) fail("registers of one width", s_->text);
            i.register_width = p.width;
            if (loads)
                i.to[n] = destination(registers[n], 0);
            else
                i.from[n + 1] = p.at;
        }
    }

    void copy(instruction& i, std::string_view opcode) {
        if (opcode == "cp.async.commit_group" || opcode == "cp.async.wait_all") {
            require_operands(0);
            i.run = opcode == "cp.async.wait_all" ? wait_for_copies : commit_copies;
            i.offset = ~std::uint64_t{0};
            return;
        }
        if (opcode == "cp.async.wait_group") {
            require_operands(1);
            i.run = wait_for_copies;
            i.offset = s_->operands[0].bits;
            return;
        }
        const bool all_caches = opcode == "cp.async.ca.shared.global";
        if (!all_caches && opcode != "cp.async.cg.shared.global") fail_unknown();
        const std::vector<operand>& o = s_->operands;
        if (o.size() != 3 && o.size() != 4) fail("3 or 4 operands", s_->text);
        if (o[2].kind != operand::form::integer || o[1].kind != operand::form::address) fail_unknown();
        const std::uint64_t bytes = o[2].bits;
        if (bytes != 16 && (!all_caches || (bytes != 4 && bytes != 8)))
            fail("16 bytes, and with .ca 4 or 8 as well", s_->text);
        i.run = copy_async;
        i.element_bytes = static_cast<std::uint8_t>(bytes);
        set_address(i, o[0]);
        const place from = address_base(o[1]);
        if (from.width != 8) fail("a global address of 8 bytes", s_->text);
        i.from[1] = from.at;
        i.source_offset = o[1].bits;
        i.from[2] = resolve(o[o.size() - 1], 4).at;
    }

    void multiply(instruction& i, std::string_view opcode) {
        static constexpr std::pair<std::string_view, handler> known[] = {
            {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", multiply_f16},
            {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", multiply_bf16},
            {"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", multiply_tf32}};
        for (const auto& [name, run] : known)
            if (opcode == name) i.run = run;
        if (i.run == nullptr) fail_unknown();
        i.kind = flow::warp;
        require_operands(4);
        const std::size_t counts[] = {4, 4, 2, 4};
        std::size_t next = 0;
        for (std::size_t n = 0; n < 4; ++n) {
            const std::vector<operand> parts = parts_of(s_->operands[n]);
            if (parts.size() != counts[n]) fail(kdna::concat(counts[n], " registers in operand ", n), s_->text);
            for (std::size_t r = 0; r < parts.size(); ++r)
                if (n == 0)
                    i.to[r] = destination(parts[r], 4);
                else
                    i.from[next++] = resolve(parts[r], 4).at;
        }
    }
    void load_matrix(instruction& i, const std::vector<std::string_view>& words) {
        const bool transposed = words.size() == 8 && words[5] == "trans";
        const std::vector<std::string_view> rest(words.begin() + (transposed ? 6 : 5), words.end());
        if (words.size() < 7 || words[1] != "sync" || words[2] != "aligned" || words[3] != "m8n8" ||
            (words[4] != "x1" && words[4] != "x2" && words[4] != "x4") ||
            rest != std::vector<std::string_view>{"shared", "b16"})
            fail_unknown();
        require_operands(2);
        i.kind = flow::warp;
        i.run = transposed ? load_matrices_transposed : load_matrices;
        i.elements = static_cast<std::uint8_t>(words[4][1] - '0');
        const std::vector<operand> parts = parts_of(s_->operands[0]);
        if (parts.size() != i.elements) fail(kdna::concat(i.elements, " registers"), s_->text);
        for (std::size_t n = 0; n < parts.size(); ++n) i.to[n] = destination(parts[n], 4);
        set_address(i, s_->operands[1]);
    }
    void move_packed(instruction& i, const std::vector<std::string_view>& words) {
        require_operands(2);
        const bool packs = s_->operands[1].kind == operand::form::vector;
        const std::vector<operand>& parts = s_->operands[packs ? 1 : 0].parts;
        i.register_width = type_of(words.back()).bytes;
        i.elements = static_cast<std::uint8_t>(parts.size());
        i.element_bytes = static_cast<std::uint8_t>(i.register_width / parts.size());
        if (words.size() != 2 || (parts.size() != 2 && parts.size() != 4) || i.element_bytes < 2) fail_unknown();
        i.run = packs ? pack_registers : unpack_registers;
        for (std::size_t n = 0; n < parts.size(); ++n)
            if (packs)
                i.from[n] = resolve(parts[n], i.element_bytes).at;
            else
                i.to[n] = destination(parts[n], i.element_bytes);
        if (packs)
            i.to[0] = destination(s_->operands[0], i.register_width);
        else
            i.from[0] = resolve(s_->operands[1], i.register_width).at;
    }

    const entry_text& e_;
    const statement* s_ = nullptr;
    program p_{};
    std::map<std::string, place, std::less<>> registers_{};
    std::map<std::string_view, symbol> symbols_{};
    std::map<std::tuple<initial_value::origin, std::uint64_t, std::size_t>, place> constants_{};
};

}  // namespace

program decode(const entry_text& e, const std::vector<variable>& module_variables) {
    return decoder(e, module_variables).run();
}

}  // namespace kdna_test::ptx
