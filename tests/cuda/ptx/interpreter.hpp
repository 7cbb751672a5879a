// Runs PTX on the host: the very text that nvcc made of the programs, before ptxas makes machine code of it.
//
// Blocks run one after another, and so do a block's warps, each until a barrier. The lanes of a warp go through the same
// instruction together, those that stand at the earliest one first, so that what has diverged meets again. kdna::error, with
// the program, block, thread, line and instruction, is thrown where a program
//   - has an instruction that the interpreter does not know (when the text is read),
//   - touches device memory that is not allocated, or shared memory or parameters outside of theirs, or unaligned,
//   - reads shared memory that nobody wrote, or that an asynchronous copy of its own or another thread has still to write,
//   - lets two threads touch the same shared memory, one of them writing, without a barrier between them,
//   - multiplies matrices or meets a barrier with a part of a warp, or a part of a block.
// It is our reading of the PTX ISA manual, not NVIDIA's. It knows nothing of time, of races in device memory, nor what ptxas does.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "cuda/ptx/program.hpp"

namespace kdna_test::ptx {

/// The programs of a PTX text.
class module {
public:
    /// Throws kdna::error.
    explicit module(std::string text);
    module(const module&) = delete;
    module& operator=(const module&) = delete;

    /// The only program whose name begins so. Throws kdna::error.
    [[nodiscard]] const program& program_of(std::string_view beginning) const;
    [[nodiscard]] const std::deque<program>& programs() const noexcept { return programs_; }

private:
    std::string text_;
    module_text parsed_{};
    std::deque<program> programs_{};
};

struct launch {
    std::string_view name{};  ///< for messages
    int x = 1, y = 1, z = 1;  ///< blocks
    int threads = 32;         ///< of a block, a multiple of 32
    const void* arguments = nullptr;
    std::size_t argument_bytes = 0;
    std::size_t shared_bytes = 0;  ///< of dynamic size
    std::uint64_t seed = 1;        ///< of the order of blocks
};

/// Throws kdna::error.
void run(const program& p, const launch& l, device_heap& heap);

}  // namespace kdna_test::ptx
