// Warps that diverge and meet again, barriers, blocks.
#include "cuda/ptx/interpreter.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include <kdna/core/error.hpp>

#include "support/random.hpp"

namespace kdna_test::ptx {
namespace {

constexpr std::size_t nowhere = std::numeric_limits<std::size_t>::max();

/// Lanes that stand at the same instruction.
struct lane_group {
    std::size_t at = 0;
    lane_mask mask = 0;
    bool waits = false;  ///< at something that all lanes do together
};

struct warp {
    std::vector<lane_group> groups{};  ///< of those that have not left; instructions differ
    bool at_barrier = false;

    void add(const lane_group& g) {
        for (lane_group& other : groups)
            if (other.at == g.at) {
                other.mask |= g.mask;
                other.waits |= g.waits;
                return;
            }
        groups.push_back(g);
    }
    /// Takes out those that stand at the earliest instruction and need not wait; none: an empty mask.
    lane_group take_first() {
        auto first = groups.end();
        for (auto i = groups.begin(); i != groups.end(); ++i)
            if (!i->waits && (first == groups.end() || i->at < first->at)) first = i;
        if (first == groups.end()) return {};
        const lane_group g = *first;
        groups.erase(first);
        return g;
    }
    /// Where lanes that run on from `at` meet others.
    [[nodiscard]] std::size_t next_meeting(std::size_t at) const {
        std::size_t meeting = nowhere;
        for (const lane_group& g : groups)
            if (g.at > at) meeting = std::min(meeting, g.at);
        return meeting;
    }
};

/// Lanes where a predicate holds.
lane_mask holds(const machine& m, std::uint32_t predicate) {
    lane_mask mask = 0;
    for (int i = 0; i < warp_lanes / 8; ++i) {
        // Eight bytes of 0 or 1: byte k times bit 56 - 7k of the factor is bit 56 + k of the product.
        std::uint64_t bytes = 0;
        std::memcpy(&bytes, m.registers + predicate + 8 * i, 8);
        mask |= static_cast<lane_mask>(bytes * 0x0102040810204080U >> 56U) << (8 * i);
    }
    return mask;
}

class block_runner {
public:
    block_runner(const program& p, const launch& l, device_heap& heap)
        : p_(p), l_(l), warps_(static_cast<std::size_t>(l.threads / warp_lanes)) {
        m_.heap = &heap;
        m_.shared.begin_program(p.static_shared_bytes + l.shared_bytes, p.cell_bytes);
        m_.local_bytes = p.local_bytes;
        m_.local.assign(static_cast<std::size_t>(l.threads) * p.local_bytes, std::byte{0xff});
        m_.parameter_bytes = p.parameter_bytes;
        parameters_.resize(p.parameter_bytes / sizeof(parameters_[0]) + 1);
        if (p.parameter_bytes > 0) std::memcpy(parameters_.data(), l.arguments, p.parameter_bytes);
        m_.parameters = reinterpret_cast<std::byte*>(parameters_.data());
        // What nobody wrote is NaN, or far away.
        registers_.assign(warps_.size() * p.register_bytes, std::byte{0xff});
    }

    void run(int x, int y, int z) {
        m_.shared.begin_block();
        m_.copies.assign(static_cast<std::size_t>(l_.threads), {});
        for (std::size_t w = 0; w < warps_.size(); ++w) {
            select(w);
            for (const std::uint32_t at : p_.predicates) m_.write(at, lanes<std::uint8_t>{});
            for (const initial_value& v : p_.initial)
                for (int lane = 0; lane < warp_lanes; ++lane)
                    m_.write_lane(v.at, v.width, lane, value_of(v, lane, x, y, z));
            warps_[w] = {};
            warps_[w].groups.push_back({0, all_lanes, false});
        }
        try {
            for (bool forth = true; phase(forth); forth = !forth) m_.shared.sync();
        } catch (const fault& f) {
            const std::string thread = m_.current_lane < 0 ? kdna::concat("warp ", m_.first_thread / warp_lanes)
                                                           : kdna::concat("thread ", m_.first_thread + m_.current_lane);
            const statement* s = m_.current->source;
            throw kdna::error(kdna::concat(l_.name, " block ", x, ", ", y, ", ", z, ", ", thread, ", line ", s->line,
                                           " of its PTX, ", s->text),
                              f.expected, f.found);
        }
    }

private:
    void select(std::size_t w) {
        m_.registers = registers_.data() + w * p_.register_bytes;
        m_.first_thread = static_cast<int>(w) * warp_lanes;
        m_.current_lane = -1;
    }
    [[nodiscard]] std::uint64_t value_of(const initial_value& v, int lane, int x, int y, int z) const {
        using origin = initial_value::origin;
        const auto thread = static_cast<std::size_t>(m_.first_thread + lane);
        const auto number = [](int i) { return static_cast<std::uint64_t>(i); };
        switch (v.from) {
            case origin::constant: return v.value;
            case origin::parameters: return reinterpret_cast<std::uintptr_t>(m_.parameters) + v.value;
            case origin::local:
                return reinterpret_cast<std::uintptr_t>(m_.local.data()) + thread * p_.local_bytes + v.value;
            case origin::tid_x: return thread;
            case origin::ntid_x: return number(l_.threads);
            case origin::ctaid_x: return number(x);
            case origin::ctaid_y: return number(y);
            case origin::ctaid_z: return number(z);
            case origin::nctaid_x: return number(l_.x);
            case origin::nctaid_y: return number(l_.y);
            default: return number(l_.z);
        }
    }

    /// All warps up to the next barrier, the last one first where not `forth`. False: they have ended.
    bool phase(bool forth) {
        std::size_t waiting = 0;
        for (std::size_t i = 0; i < warps_.size(); ++i) {
            const std::size_t w = forth ? i : warps_.size() - 1 - i;
            select(w);
            advance(warps_[w]);
            if (warps_[w].at_barrier) ++waiting;
        }
        if (waiting != 0 && waiting != warps_.size())
            throw fault{"a barrier that all warps come to",
                        kdna::concat(waiting, " of ", warps_.size(), " while the others have ended")};
        return waiting != 0;
    }

    void advance(warp& w) {
        if (std::exchange(w.at_barrier, false)) {
            w.groups[0].waits = false;
            ++w.groups[0].at;
        }
        while (!w.groups.empty() && !w.at_barrier) {
            const lane_group g = w.take_first();
            if (g.mask != 0)
                follow(w, g);
            else if (w.groups.size() == 1 && w.groups[0].mask == all_lanes)
                together(w);
            else
                fail_divergence(w);
        }
    }
    /// What all lanes are waiting for at one instruction.
    void together(warp& w) {
        const instruction& i = p_.code[w.groups[0].at];
        m_.current = &i;
        p_.reached[w.groups[0].at] = 1;
        if (i.kind == flow::barrier) {
            w.at_barrier = true;
            return;
        }
        i.run(m_, i, all_lanes);
        w.groups[0].waits = false;
        ++w.groups[0].at;
    }
    [[noreturn]] void fail_divergence(const warp& w) {
        std::string found;
        lane_mask left = all_lanes;
        for (const lane_group& g : w.groups) {
            found += kdna::concat(std::popcount(g.mask), " at line ", p_.code[g.at].source->line, ", ");
            left &= ~g.mask;
        }
        m_.current = &p_.code[w.groups[0].at];
        throw fault{"all lanes of the warp at one instruction",
                    kdna::concat(found, std::popcount(left), " that ended")};
    }

    /// Lanes that run on, until they meet others, divide, leave, or come to what they do with all the others.
    void follow(warp& w, lane_group g) {
        const std::size_t meeting = w.next_meeting(g.at);
        for (;;) {
            if (g.at >= p_.code.size()) throw fault{"an instruction that ends the thread", "the end of the program"};
            const instruction& i = p_.code[g.at];
            m_.current = &i;
            lane_mask active = g.mask;
            if (i.predicate != instruction::none) {
                const lane_mask p = holds(m_, i.predicate);
                active &= i.negated ? ~p : p;
            }
            if (active != 0) p_.reached[g.at] = 1;
            switch (i.kind) {
                case flow::next:
                    if (active != 0) i.run(m_, i, active);
                    ++g.at;
                    break;
                case flow::branch:
                    if (active != 0) {
                        w.add({i.target, active, false});
                        if (active != g.mask) w.add({g.at + 1, g.mask & ~active, false});
                        return;
                    }
                    ++g.at;
                    break;
                case flow::leave:
                    g.mask &= ~active;
                    if (g.mask == 0) return;
                    ++g.at;
                    break;
                default:
                    g.waits = true;
                    w.add(g);
                    return;
            }
            if (g.at == meeting) {
                w.add(g);
                return;
            }
        }
    }

    const program& p_;
    const launch& l_;
    machine m_{};
    std::vector<warp> warps_;
    std::vector<std::byte> registers_{};
    std::vector<std::array<std::uint64_t, 8>> parameters_{};  // 64-byte pieces
};

}  // namespace

module::module(std::string text) :text_(std::move(text)), parsed_(parse(text_)) {
    for (const entry_text& e : parsed_.entries) programs_.push_back(decode(e, parsed_.variables));
}

const program& module::program_of(std::string_view beginning) const {
    const program* found = nullptr;
    int count = 0;
    for (const program& p : programs_)
        if (p.name.starts_with(beginning)) {
            found = &p;
            ++count;
        }
    if (count != 1)
        throw kdna::error("PTX", kdna::concat("one program whose name begins with ", beginning), kdna::concat(count));
    return *found;
}

void run(const program& p, const launch& l, device_heap& heap) {
    if (l.threads < 1 || l.threads % warp_lanes != 0 || (p.max_threads != 0 && l.threads > p.max_threads))
        throw kdna::error(std::string(l.name), kdna::concat("whole warps, and at most ", p.max_threads, " threads"),
                          kdna::concat(l.threads));
    if (l.argument_bytes != p.parameter_bytes)
        throw kdna::error(std::string(l.name), kdna::concat(p.parameter_bytes, " bytes of parameters, as PTX has them"),
                          kdna::concat(l.argument_bytes));
    block_runner runner(p, l, heap);
    std::vector<int> blocks(static_cast<std::size_t>(l.x * l.y * l.z));
    std::iota(blocks.begin(), blocks.end(), 0);
    rng order(l.seed);
    for (std::size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[order.bits() % i]);
    for (const int i : blocks) runner.run(i % l.x, i / l.x % l.y, i / l.x / l.y);
}

}  // namespace kdna_test::ptx
