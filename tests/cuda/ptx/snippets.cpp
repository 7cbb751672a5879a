// The interpreter itself, on PTX written by hand: what it computes, and that it finds what it promises to find.
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "cuda/ptx/interpreter.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using namespace kdna_test;

namespace {

/// Runs instructions with 32-bit registers %r0 ... %r39, floats %f0 ... %f39, halves %h0 ... %h7, predicates %p0 ... %p3, 64-bit
/// %d0 ... %d7, and 64 words of output, where thread %r0 writes at %d0. %d1 is the output's beginning, `shared` 1 KiB.
std::vector<std::uint32_t> run_snippet(const std::string& body, int threads = 32) {
    const ptx::module m(
        ".version 9.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 shared[];\n"
        ".visible .entry k(.param .u64 out)\n.maxntid 64, 1, 1\n{\n"
        ".reg .b32 %r<40>; .reg .f32 %f<40>; .reg .b16 %h<8>; .reg .pred %p<4>; .reg .b64 %d<8>;\n"
        "mov.u32 %r0, %tid.x; ld.param.u64 %d1, [out]; mad.wide.s32 %d0, %r0, 4, %d1;\n" +
        body + "\nret;\n}\n");
    ptx::device_heap heap;
    auto* out = static_cast<std::uint32_t*>(heap.allocate(64 * 4));
    ptx::run(
        m.program_of("k"),
        {.name = "snippet", .threads = threads, .arguments = &out, .argument_bytes = sizeof(out), .shared_bytes = 1024},
        heap);
    return {out, out + 64};
}
/// What every thread finds in %r1.
std::uint32_t result_of(const std::string& body) {
    const auto out = run_snippet(body + " st.global.u32 [%d0], %r1;");
    for (int i = 1; i < 32; ++i) CHECK(out[static_cast<std::size_t>(i)] == out[0]);
    return out[0];
}
float float_of(const std::string& body) { return std::bit_cast<float>(result_of(body + " mov.b32 %r1, %f1;")); }
std::string literal(float v) {
    char text[16];
    std::snprintf(text, sizeof(text), "0f%08X", std::bit_cast<unsigned>(v));
    return text;
}

}  // namespace

TEST_CASE("Interpreted integers are the PTX manual's") {
    CHECK(result_of("mov.u32 %r2, -7; div.s32 %r1, %r2, 2;") == static_cast<std::uint32_t>(-3));
    CHECK(result_of("mov.u32 %r2, -7; rem.s32 %r1, %r2, 2;") == static_cast<std::uint32_t>(-1));
    CHECK(result_of("mov.u32 %r2, -7; shr.s32 %r1, %r2, 1;") == static_cast<std::uint32_t>(-4));
    CHECK(result_of("mov.u32 %r2, -7; shr.u32 %r1, %r2, 28;") == 15U);
    CHECK(result_of("mov.u32 %r2, -7; shr.s32 %r1, %r2, 99;") == ~0U);
    CHECK(result_of("mov.u32 %r2, 7; shl.b32 %r1, %r2, 32;") == 0U);
    CHECK(result_of("mov.u32 %r2, 0x40000000; mul.hi.s32 %r1, %r2, -8;") == static_cast<std::uint32_t>(-2));
    CHECK(result_of("mov.u32 %r2, -3; mul.wide.s32 %d2, %r2, 5; mov.b64 {%r3, %r1}, %d2;") == ~0U);
    CHECK(result_of("mov.u32 %r2, -3; mad.lo.s32 %r1, %r2, 5, 20;") == 5U);
    CHECK(result_of("mov.u32 %r2, 0x12345678; bfe.u32 %r1, %r2, 8, 12;") == 0x456U);
    CHECK(result_of("mov.u32 %r2, 0x0000f800; bfe.s32 %r1, %r2, 8, 8;") == static_cast<std::uint32_t>(-8));
    CHECK(result_of("mov.u32 %r2, 0x12345678; bfi.b32 %r1, 0xfab, %r2, 4, 8;") == 0x12345ab8U);
    CHECK(result_of("mov.u32 %r2, 0x12345678; bfi.b32 %r1, 7, %r2, 6, 26;") == (7U << 6 | 0x38U));
    CHECK(result_of("mov.u32 %r2, 0x12345678; prmt.b32 %r1, %r2, 0, 0x0123;") == 0x78563412U);
    CHECK(result_of("mov.u32 %r2, 0xff00; lop3.b32 %r1, %r2, 0x0ff0, 0x3333, 0x80;") == 0x0300U);
    CHECK(result_of("mov.u16 %h1, -2; cvt.u32.u16 %r1, %h1;") == 0xfffeU);
    CHECK(result_of("mov.u16 %h1, 1; mov.u16 %h2, 2; mov.b32 %r1, {%h1, %h2};") == 0x20001U);
    CHECK(result_of("mov.u32 %r2, -5; setp.lt.u32 %p1, %r2, 3; selp.b32 %r1, 1, 2, %p1;") == 2U);
    CHECK(result_of("mov.u32 %r2, -5; setp.lt.s32 %p1, %r2, 3; selp.b32 %r1, 1, 2, %p1;") == 1U);
}

TEST_CASE("Interpreted floats are the PTX manual's") {
    const std::string nan = "mov.f32 %f2, 0f7FC00000; ", select = " selp.b32 %r1, 1, 0, %p1;";
    for (const auto& [comparison, holds] : {std::pair{"lt", 0U},
                                            {"ne", 0U},
                                            {"eq", 0U},
                                            {"ltu", 1U},
                                            {"neu", 1U},
                                            {"equ", 1U},
                                            {"nan", 1U},
                                            {"num", 0U}}) {
        INFO(comparison);
        CHECK(result_of(nan + "setp." + comparison + ".f32 %p1, %f2, 0f3F800000;" + select) == holds);
    }
    CHECK(float_of(nan + "max.f32 %f1, %f2, 0f3F800000;") == 1.0F);
    CHECK(std::signbit(float_of("mov.f32 %f2, 0f80000000; min.f32 %f1, 0f00000000, %f2;")));
    const float one_up = 1.0F + 0x1p-23F;
    const std::string square = " %f1, " + literal(one_up) + ", " + literal(one_up) + ", " + literal(-1.0F) + ";";
    CHECK(float_of("fma.rn.f32" + square) == std::fma(one_up, one_up, -1.0F));
    CHECK(float_of("fma.rm.f32 %f1, " + literal(1.0F) + ", " + literal(0x1p-30F) + ", " + literal(1.0F) + ";") == 1.0F);
    CHECK(float_of("fma.rm.f32 %f1, " + literal(-1.0F) + ", " + literal(0x1p-60F) + ", " + literal(1.0F) + ";") ==
          1.0F - 0x1p-24F);
    CHECK(float_of(nan + "cvt.sat.f32.f32 %f1, %f2;") == 0.0F);
    CHECK(result_of("cvt.rni.s32.f32 %r1, " + literal(2.5F) + ";") == 2U);
    CHECK(result_of("cvt.rzi.u32.f32 %r1, " + literal(-2.5F) + ";") == 0U);
    CHECK(result_of("cvt.rzi.s32.f32 %r1, " + literal(1e20F) + ";") == 0x7fffffffU);
    CHECK(result_of("cvt.rna.tf32.f32 %r1, " + literal(1.0F + 0x1p-11F) + ";") ==
          std::bit_cast<std::uint32_t>(1.0F + 0x1p-10F));
    CHECK(float_of("ex2.approx.ftz.f32 %f1, " + literal(-130.0F) + ";") == 0.0F);
    // The sign of the first operand on the value of the second.
    CHECK(float_of("copysign.f32 %f1, " + literal(-0.0F) + ", " + literal(2.0F) + ";") == -2.0F);
    CHECK(float_of("copysign.f32 %f1, " + literal(1.0F) + ", " + literal(-2.0F) + ";") == 2.0F);
}

TEST_CASE("Interpreted lanes diverge, loop as often as each has to, and meet again") {
    const auto out = run_snippet(R"(
        mov.u32 %r1, 0;
        and.b32 %r2, %r0, 7;
        setp.eq.s32 %p1, %r2, 0;
        @%p1 bra $done;
    $more:
        add.s32 %r1, %r1, %r2;
        add.s32 %r2, %r2, -1;
        setp.gt.s32 %p1, %r2, 0;
        @%p1 bra $more;
        @!%p1 add.s32 %r1, %r1, 100;
    $done:
        mov.u32 %r3, shared;
        mad.lo.s32 %r4, %r0, 4, %r3;
        st.shared.u32 [%r4], %r1;
        bar.sync 0;
        xor.b32 %r5, %r0, 33;
        mad.lo.s32 %r4, %r5, 4, %r3;
        ld.shared.u32 %r1, [%r4];
        st.global.u32 [%d0], %r1;)",
                                 64);
    for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t n = (i ^ 33U) & 7U;
        CHECK(out[i] == (n == 0 ? 0 : 100 + n * (n + 1) / 2));
    }
}

TEST_CASE("Interpreted matrices are loaded and multiplied as the PTX manual places them") {
    // Row r of the first matrix is 8r ... 8r + 7; transposed, lane 4g + t has columns 2t, 2t + 1 of what was row g.
    const std::string rows = R"(
        mov.u32 %r3, shared; shl.b32 %r4, %r0, 4; add.s32 %r3, %r3, %r4;
        shl.b32 %r5, %r0, 3; mad.lo.s32 %r5, %r5, 65537, 65536;
        add.s32 %r6, %r5, 131074; add.s32 %r7, %r5, 262148; add.s32 %r8, %r5, 393222;
        st.shared.v4.u32 [%r3], {%r5, %r6, %r7, %r8};
        bar.sync 0;)";
    const auto straight = run_snippet(
        rows + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2, %r9, %r10}, [%r3]; st.global.u32 [%d0], %r1;");
    const auto transposed =
        run_snippet(rows + "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r1}, [%r3]; st.global.u32 [%d0], %r1;");
    for (std::size_t lane = 0; lane < 32; ++lane) {
        const std::size_t g = lane / 4, t = lane % 4;
        CHECK(straight[lane] == ((8 * g + 2 * t + 1) << 16U | (8 * g + 2 * t)));
        CHECK(transposed[lane] == ((8 * (2 * t + 1) + g) << 16U | (8 * (2 * t) + g)));
    }
    // a: row 3, depth 9 is 2, all else 0 (lane 12 has a2: groupID 3, depths 8, 9). b: depth 9, column 5 is 3 (lane 20, b1).
    const auto d = run_snippet(R"(
        mov.u32 %r2, 0; mov.f32 %f1, 0f3F800000;
        setp.eq.s32 %p1, %r0, 12; selp.b32 %r3, 0x40000000, 0, %p1;
        setp.eq.s32 %p1, %r0, 20; selp.b32 %r4, 0x42000000, 0, %p1;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f2, %f3, %f4, %f5}, {%r2, %r2, %r3, %r2}, {%r2, %r4},
            {%f1, %f1, %f1, %f1};
        st.global.f32 [%d0], %f3;)");
    // Row 3, column 5: lane 4 * 3 + 2, second of its sums.
    for (std::size_t lane = 0; lane < 32; ++lane) CHECK(std::bit_cast<float>(d[lane]) == (lane == 14 ? 7.0F : 1.0F));
}

TEST_CASE("The interpreter finds what it promises to find") {
    const auto finds = [](const std::string& body, const char* where, const char* expected) {
        check_error([&] { return run_snippet(body, 64); }, where, expected, "");
    };
    finds("frob.b32 %r1, %r2;", "k, line 10", "knows");
    finds("add.s32 %r1, %r99, 1;", "k, line 10", "declared");
    finds("add.s32 %r1, %d1, 1;", "k, line 10", "4 bytes");
    finds("ld.global.u32 %r1, [%d0+4];", "thread 63", "allocated");
    finds("ld.global.u32 %r1, [%d1+-4];", "thread 0", "allocated");
    finds("ld.global.u32 %r1, [%d1+2];", "ld.global.u32", "aligned to 4");
    finds("ld.param.u64 %d2, [out+8];", "ld.param.u64", "parameters");
    finds("mov.u32 %r1, shared; ld.shared.u32 %r2, [%r1+1024];", "ld.shared.u32", "[0, 1024)");
    finds("mov.u32 %r1, 0; st.shared.u32 [%r1], %r1;", "st.shared.u32", "[0, 1024)");
    finds("mov.u32 %r1, shared; ld.shared.u32 %r2, [%r1];", "ld.shared.u32", "written");
    finds("mov.u32 %r1, shared; st.shared.u32 [%r1], %r0;", "thread 1", "writes of two threads");
    finds("mov.u32 %r1, shared; mad.lo.s32 %r1, %r0, 4, %r1; st.shared.u32 [%r1], %r0; ld.shared.u32 %r2, [shared+12];",
          "ld.shared.u32", "barrier before a read");
    const std::string copy =
        "mov.u32 %r1, shared; mad.lo.s32 %r1, %r0, 16, %r1; st.global.u32 [%d0], 5; bar.sync 0; "
        "cp.async.ca.shared.global [%r1], [%d0], 4, 4; cp.async.commit_group; ";
    finds(copy + "ld.shared.u32 %r2, [%r1];", "ld.shared.u32", "waited for");
    finds(copy + "cp.async.wait_group 1; ld.shared.u32 %r2, [%r1];", "ld.shared.u32", "waited for");
    finds(copy + "cp.async.wait_group 0; ld.shared.u32 %r2, [shared+560];", "ld.shared.u32", "barrier before a read");
    CHECK(run_snippet(
              copy + "cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r2, [shared+48]; st.global.u32 [%d0], %r2;",
              64)[7] == 5U);
    finds("setp.lt.u32 %p1, %r0, 40; @%p1 bra $past; bar.sync 0; $past: ", "bar.sync", "all lanes");
    finds("setp.lt.u32 %p1, %r0, 32; @%p1 bra $past; bar.sync 0; $past: ", "warp", "all warps");
    finds(R"(setp.lt.u32 %p1, %r0, 3; @%p1 bra $past;
        mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1, %f2, %f3, %f4}, {%r1, %r1, %r1, %r1}, {%r1, %r1},
            {%f1, %f2, %f3, %f4};
        $past: )",
          "mma.sync", "all lanes");
}
