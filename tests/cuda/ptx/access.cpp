// Instructions that move data: between registers and memory, and between registers of different widths.
#include <bit>

#include "cuda/ptx/instructions.hpp"

namespace kdna_test::ptx {
namespace {

/// f(lane) for the lanes of a mask.
template <class F>
void for_lanes(machine& m, lane_mask mask, F&& f) {
    for (; mask != 0; mask &= mask - 1) {
        m.current_lane = std::countr_zero(mask);
        f(m.current_lane);
    }
    m.current_lane = -1;
}
std::uint64_t address_of(const machine& m, const instruction& i, int lane) {
    return m.read_lane(i.from[0], i.address_width, lane) + i.offset;
}

/// "ld": fetch(address, bytes, to) for every lane. Registers may be wider than the type: then with zeros, or its sign.
template <class Fetch>
void load(machine& m, const instruction& i, lane_mask mask, Fetch&& fetch) {
    const std::size_t element = i.element_bytes, all = element * i.elements;
    for_lanes(m, mask, [&](int lane) {
        std::byte bytes[16];
        fetch(address_of(m, i, lane), all, bytes);
        for (std::size_t e = 0; e < i.elements; ++e) {
            std::uint64_t v = 0;
            std::memcpy(&v, bytes + e * element, element);
            if (i.sign_extends && (v >> (8 * element - 1) & 1U) != 0 && element < 8)
                v |= ~std::uint64_t{0} << (8 * element);
            m.write_lane(i.to[e], i.register_width, lane, v);
        }
    });
}
/// "st": put(address, bytes, from) for every lane.
template <class Put>
void store(machine& m, const instruction& i, lane_mask mask, Put&& put) {
    const std::size_t element = i.element_bytes, all = element * i.elements;
    for_lanes(m, mask, [&](int lane) {
        std::byte bytes[16];
        for (std::size_t e = 0; e < i.elements; ++e) {
            const std::uint64_t v = m.read_lane(i.from[e + 1], i.register_width, lane);
            std::memcpy(bytes + e * element, &v, element);
        }
        put(address_of(m, i, lane), all, bytes);
    });
}
/// Memory of the host's [begin, begin + size), where an access must lie. Throws fault.
std::byte* inside(std::byte* begin, std::size_t size, std::uint64_t address, std::size_t bytes, const char* what) {
    const std::uint64_t at = address - reinterpret_cast<std::uintptr_t>(begin);
    if (at > size || bytes > size - at)
        throw fault{kdna::concat(what, " inside [0, ", size, ")"),
                    kdna::concat(bytes, " bytes at ", static_cast<std::int64_t>(at))};
    if (address % bytes != 0)
        throw fault{kdna::concat(what, " aligned to ", bytes, " bytes"), kdna::concat("byte ", at)};
    return begin + at;
}
std::byte* local_at(machine& m, std::uint64_t address, std::size_t bytes) {
    const auto thread = static_cast<std::size_t>(m.first_thread + m.current_lane);
    return inside(m.local.data() + thread * m.local_bytes, m.local_bytes, address, bytes, "local memory of the thread");
}

}  // namespace

void load_parameter(machine& m, const instruction& i, lane_mask mask) {
    load(m, i, mask, [&](std::uint64_t address, std::size_t bytes, std::byte* to) {
        std::memcpy(to, inside(m.parameters, m.parameter_bytes, address, bytes, "parameters"), bytes);
    });
}
void load_global(machine& m, const instruction& i, lane_mask mask) {
    load(m, i, mask, [&](std::uint64_t address, std::size_t bytes, std::byte* to) {
        std::memcpy(to, m.heap->at(address, bytes, bytes), bytes);
    });
}
void store_global(machine& m, const instruction& i, lane_mask mask) {
    store(m, i, mask, [&](std::uint64_t address, std::size_t bytes, const std::byte* from) {
        std::memcpy(m.heap->at(address, bytes, bytes), from, bytes);
    });
}
void load_shared(machine& m, const instruction& i, lane_mask mask) {
    load(m, i, mask, [&](std::uint64_t address, std::size_t bytes, std::byte* to) {
        m.shared.read(m.first_thread + m.current_lane, address, bytes, to);
    });
}
void store_shared(machine& m, const instruction& i, lane_mask mask) {
    store(m, i, mask, [&](std::uint64_t address, std::size_t bytes, const std::byte* from) {
        m.shared.write(m.first_thread + m.current_lane, address, bytes, from);
    });
}
void load_local(machine& m, const instruction& i, lane_mask mask) {
    load(m, i, mask, [&](std::uint64_t address, std::size_t bytes, std::byte* to) {
        std::memcpy(to, local_at(m, address, bytes), bytes);
    });
}
void store_local(machine& m, const instruction& i, lane_mask mask) {
    store(m, i, mask, [&](std::uint64_t address, std::size_t bytes, const std::byte* from) {
        std::memcpy(local_at(m, address, bytes), from, bytes);
    });
}

// "cp.async": cp-size bytes, of which the first src-size are read, and zeros are written for the others. Nothing says when, but
// that it is done when the thread has waited for its group; so both memories are touched then, and not before.
void copy_async(machine& m, const instruction& i, lane_mask mask) {
    for_lanes(m, mask, [&](int lane) {
        const std::uint64_t to = address_of(m, i, lane), from = m.read_lane(i.from[1], 8, lane) + i.source_offset,
                            valid = m.read_lane(i.from[2], 4, lane);
        if (valid > i.element_bytes)
            throw fault{kdna::concat("at most ", i.element_bytes, " bytes to copy"), kdna::concat(valid)};
        const int thread = m.first_thread + lane;
        m.shared.begin_copy(thread, to, i.element_bytes);
        thread_copies& c = m.copies[static_cast<std::size_t>(thread)];
        c.pending.push_back({to, m.heap->at(from, static_cast<std::size_t>(valid), i.element_bytes), i.element_bytes,
                             static_cast<std::uint8_t>(valid), c.groups});
    });
}
// "cp.async.commit_group"
void commit_copies(machine& m, const instruction&, lane_mask mask) {
    for_lanes(m, mask, [&](int lane) { ++m.copies[static_cast<std::size_t>(m.first_thread + lane)].groups; });
}
// "cp.async.wait_group": until at most N of the thread's newest groups are under way. N all ones: "wait_all", which takes in what
// was not committed.
void wait_for_copies(machine& m, const instruction& i, lane_mask mask) {
    for_lanes(m, mask, [&](int lane) {
        const int thread = m.first_thread + lane;
        thread_copies& c = m.copies[static_cast<std::size_t>(thread)];
        const int end = i.offset == ~std::uint64_t{0} ? c.groups + 1 : c.groups - static_cast<int>(i.offset);
        for (; !c.pending.empty() && c.pending.front().group < end; c.pending.pop_front()) {
            const async_copy& copy = c.pending.front();
            std::byte bytes[16]{};
            if (copy.valid_bytes != 0) std::memcpy(bytes, copy.from, copy.valid_bytes);
            m.shared.write(thread, copy.to, copy.bytes, bytes);
        }
    });
}

// "mov": "pack" and "unpack", the first part is the lowest bits.
void pack_registers(machine& m, const instruction& i, lane_mask mask) {
    for_lanes(m, mask, [&](int lane) {
        std::uint64_t v = 0;
        for (std::size_t e = 0; e < i.elements; ++e)
            v |= m.read_lane(i.from[e], i.element_bytes, lane) << (8 * i.element_bytes * e);
        m.write_lane(i.to[0], i.register_width, lane, v);
    });
}
void unpack_registers(machine& m, const instruction& i, lane_mask mask) {
    for_lanes(m, mask, [&](int lane) {
        const std::uint64_t v = m.read_lane(i.from[0], i.register_width, lane);
        for (std::size_t e = 0; e < i.elements; ++e)
            m.write_lane(i.to[e], i.element_bytes, lane, v >> (8 * i.element_bytes * e));
    });
}

}  // namespace kdna_test::ptx
