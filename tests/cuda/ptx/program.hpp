// A program decoded: instructions that know what they do and where in a warp's registers their operands lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "cuda/ptx/memory.hpp"
#include "cuda/ptx/syntax.hpp"

namespace kdna_test::ptx {

inline constexpr int warp_lanes = 32;
using lane_mask = std::uint32_t;
inline constexpr lane_mask all_lanes = 0xffffffffU;

/// A register of all lanes of a warp, one after another.
template <class T>
struct lanes {
    T v[warp_lanes];
};

struct instruction;

/// cp.async of a thread: done when it is waited for, which is as late as may be.
struct async_copy {
    std::uint64_t to = 0;
    const std::byte* from = nullptr;
    std::uint8_t bytes = 0, valid_bytes = 0;
    int group = 0;
};
struct thread_copies {
    std::deque<async_copy> pending{};
    int groups = 0;  ///< committed
};

/// What instructions work on: the block, and the warp whose turn it is.
struct machine {
    device_heap* heap = nullptr;
    shared_memory shared{};
    std::byte* parameters = nullptr;
    std::size_t parameter_bytes = 0, local_bytes = 0;
    std::vector<std::byte> local{};        ///< [thread][local_bytes]
    std::vector<thread_copies> copies{};   ///< [thread]
    std::byte* registers = nullptr;        ///< of the warp
    int first_thread = 0;                  ///< of the warp
    const instruction* current = nullptr;  ///< what is being executed
    int current_lane = -1;                 ///< whose access it is, for messages; -1: all of the warp together

    template <class T>
    [[nodiscard]] lanes<T> read(std::uint32_t at) const {
        lanes<T> r;
        std::memcpy(&r, registers + at, sizeof(r));
        return r;
    }
    template <class T>
    void write(std::uint32_t at, const lanes<T>& r) {
        std::memcpy(registers + at, &r, sizeof(r));
    }
    /// A register of `width` bytes of one lane, filled up with zeros.
    [[nodiscard]] std::uint64_t read_lane(std::uint32_t at, std::size_t width, int lane) const {
        std::uint64_t v = 0;
        std::memcpy(&v, registers + at + width * static_cast<std::size_t>(lane), width);
        return v;
    }
    void write_lane(std::uint32_t at, std::size_t width, int lane, std::uint64_t v) {
        std::memcpy(registers + at + width * static_cast<std::size_t>(lane), &v, width);
    }
};

enum class flow : std::uint8_t {
    next,     ///< goes on behind it
    branch,   ///< those that take it go on at `target`
    leave,    ///< ends threads
    warp,     ///< done by all lanes of a warp together
    barrier,  ///< waits for the block
};

struct instruction {
    static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

    /// For the lanes of the mask.
    void (*run)(machine&, const instruction&, lane_mask) = nullptr;
    flow kind = flow::next;
    bool negated = false;
    std::uint8_t address_width = 8, element_bytes = 0, elements = 1, register_width = 4;
    bool sign_extends = false;
    std::uint32_t predicate = none;
    std::uint32_t to[4]{}, from[10]{};            ///< registers, as bytes from the warp's first
    std::uint64_t offset = 0, source_offset = 0;  ///< of its addresses; or an integer of its own
    std::size_t target = 0;
    const statement* source = nullptr;
};

/// What stands in registers before the first instruction: constants and special registers.
struct initial_value {
    enum class origin {
        constant,
        parameters,
        local,
        tid_x,
        ctaid_x,
        ctaid_y,
        ctaid_z,
        ntid_x,
        nctaid_x,
        nctaid_y,
        nctaid_z
    };
    origin from = origin::constant;
    std::uint32_t at = 0;
    std::size_t width = 4;
    std::uint64_t value = 0;  ///< of a constant; else added
};

struct program {
    std::string_view name{};
    int line = 0, max_threads = 0;
    std::size_t parameter_bytes = 0, static_shared_bytes = 0, local_bytes = 0, register_bytes = 0, cell_bytes = 4;
    std::vector<std::uint32_t> predicates{};  ///< registers that are one
    std::vector<initial_value> initial{};
    std::vector<instruction> code{};
    mutable std::vector<std::uint8_t> reached{};  ///< which instructions some thread has executed
};

/// Throws kdna::error that names an instruction it does not know. `e` must outlive what is returned.
[[nodiscard]] program decode(const entry_text& e, const std::vector<variable>& module_variables);

}  // namespace kdna_test::ptx
