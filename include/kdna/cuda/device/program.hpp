// What a program for a device is, and the block of threads that it works with.
//
// A program is written for a whole block: parts that all threads run in parallel, barriers between them, shared memory
// by byte offsets, asynchronous copies in groups, and the product of a warp's fragments as one primitive. It is a type:
//
//     name                      for messages
//     threads                   per block, a multiple of 32
//     arguments                 trivially copyable, at most 4 KiB
//     registers                 what a thread keeps from one part of the program to the next
//     shared_bytes(arguments)   of dynamic shared memory
//     run(block, arguments)     the program of one block
//
// A program is a template over its block, and knows no more of it than this:
//
//     x, y, z                         which block of the grid it is
//     parallel(f)                     calls f(thread, its registers) for every thread, without a barrier before or after
//     sync()                          is a barrier for all threads of the block
//     load<T, N>(thread, at)          reads N elements of shared memory at a byte offset, a multiple of their size
//     store(thread, at, pack)         writes them
//     copy_async<Bytes>(thread, at, from, valid)
//                                     starts a copy of 4, 8 or 16 bytes of device memory to shared memory; an invalid
//                                     copy writes zeros
//     commit(), wait<N>()             closes a group of copies; waits until all but the last N groups of the calling
//                                     thread have arrived
//     load_matrices<Count>(at, take)  has each warp load, Count times, four matrices of eight 16-byte rows from shared
//                                     memory: row r of matrix m begins at byte at(thread, i) of lane 8m + r;
//                                     take(registers, i, words) receives the words of lane l, word l % 4 of row l / 4
//                                     of each matrix
//     multiply<Multiply>(operands)    multiplies the fragments of each warp; operands(registers) are those of a lane
//
// gpu_block (gpu.hpp) is a block of a GPU. Tests run programs on the host with a block of their own.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/core/error.hpp>

namespace kdna::inline KDNA_ABI::cuda {

/// Blocks of a launch along the three axes.
struct grid_size {
    int x = 1, y = 1, z = 1;
};

/// Throws kdna::error for grids that no device takes.
template <class Program>
void check_grid(const grid_size& g) {
    if (g.x < 1 || g.y < 1 || g.z < 1 || g.y > 65535 || g.z > 65535)
        throw error(Program::name, "a grid of at least one block, and at most 65535 along its second and third axis",
                    concat(g.x, " x ", g.y, " x ", g.z));
}

}  // namespace kdna::inline KDNA_ABI::cuda

#include <kdna/core/macros_pop.hpp>
