// What instructions do, after the PTX ISA manual; each says under which section. decode.cpp chooses among them.
#pragma once

#include <optional>
#include <string_view>

#include "cuda/ptx/program.hpp"

namespace kdna_test::ptx {

using handler = void (*)(machine&, const instruction&, lane_mask);

/// An instruction that computes one register of a lane from registers of the same lane.
struct arithmetic {
    handler run = nullptr;
    std::uint8_t result_width = 0;  ///< in bytes; 1: a predicate
    std::uint8_t widths[4]{};       ///< of the operands
    int operands = 0;
};
/// None: there is no such instruction, or nobody needed it yet.
[[nodiscard]] std::optional<arithmetic> find_arithmetic(std::string_view opcode);

// "ld", "st", "cp.async", "mov" of packed registers (access.cpp).
void load_parameter(machine& m, const instruction& i, lane_mask mask);
void load_global(machine& m, const instruction& i, lane_mask mask);
void store_global(machine& m, const instruction& i, lane_mask mask);
void load_shared(machine& m, const instruction& i, lane_mask mask);
void store_shared(machine& m, const instruction& i, lane_mask mask);
void load_local(machine& m, const instruction& i, lane_mask mask);
void store_local(machine& m, const instruction& i, lane_mask mask);
void copy_async(machine& m, const instruction& i, lane_mask mask);
void commit_copies(machine& m, const instruction& i, lane_mask mask);
void wait_for_copies(machine& m, const instruction& i, lane_mask mask);
void pack_registers(machine& m, const instruction& i, lane_mask mask);
void unpack_registers(machine& m, const instruction& i, lane_mask mask);

// "mma", "ldmatrix" (matrix.cpp). The mask is all lanes.
void multiply_f16(machine& m, const instruction& i, lane_mask mask);
void multiply_bf16(machine& m, const instruction& i, lane_mask mask);
void multiply_tf32(machine& m, const instruction& i, lane_mask mask);
void load_matrices(machine& m, const instruction& i, lane_mask mask);
void load_matrices_transposed(machine& m, const instruction& i, lane_mask mask);

}  // namespace kdna_test::ptx
