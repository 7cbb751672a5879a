// Instructions that compute one register from others of the same lane.
#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include <kdna/cuda/device/numbers.hpp>

#include "cuda/ptx/instructions.hpp"

// Float32 multiply-adds round once. Without the instruction for it std::fma is a call, lane by lane.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__FMA__)
#define KDNA_TEST_FMA_CLONES __attribute__((target_clones("default", "arch=haswell")))
#else
#define KDNA_TEST_FMA_CLONES
#endif

namespace kdna_test::ptx {
namespace {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using kdna::cuda::bfloat16;
using kdna::cuda::half;

/// Also for lanes that are switched off, whose results are dropped: F is defined for all there is.
template <class F, class R, class... A>
void each_lane(machine& m, const instruction& i, lane_mask mask) {
    [&]<std::size_t... N>(std::index_sequence<N...>) {
        const std::tuple<lanes<A>...> a{m.read<A>(i.from[N])...};
        lanes<R> r;
        for (int l = 0; l < warp_lanes; ++l) r.v[l] = F{}(std::get<N>(a).v[l]...);
        if (mask != all_lanes) {
            const auto before = m.read<R>(i.to[0]);
            for (int l = 0; l < warp_lanes; ++l)
                if ((mask >> l & 1U) == 0) r.v[l] = before.v[l];
        }
        m.write(i.to[0], r);
    }
    (std::index_sequence_for<A...>());
}
template <class F, class R, class... A>
arithmetic lanewise_as(R (F::*)(A...) const) {
    return {each_lane<F, R, A...>, sizeof(R), {sizeof(A)...}, sizeof...(A)};
}
/// f(operands) for every lane; its types say how wide registers are.
template <class F>
arithmetic lanewise(F) {
    return lanewise_as(&F::operator());
}

KDNA_TEST_FMA_CLONES void fused(const lanes<float>& a, const lanes<float>& b, const lanes<float>& c, lanes<float>& r) {
    for (int l = 0; l < warp_lanes; ++l) r.v[l] = std::fma(a.v[l], b.v[l], c.v[l]);
}
void multiply_add(machine& m, const instruction& i, lane_mask mask) {
    lanes<float> r;
    fused(m.read<float>(i.from[0]), m.read<float>(i.from[1]), m.read<float>(i.from[2]), r);
    const auto before = m.read<float>(i.to[0]);
    for (int l = 0; l < warp_lanes; ++l)
        if ((mask >> l & 1U) == 0) r.v[l] = before.v[l];
    m.write(i.to[0], r);
}
/// a * b + c towards minus infinity. The product is exact in double; of the sum, s, the error e is known exactly (Knuth).
float multiply_add_down(float a, float b, float c) {
    const double p = static_cast<double>(a) * static_cast<double>(b), q = static_cast<double>(c), s = p + q;
    const double of_q = s - p, e = (p - (s - of_q)) + (q - of_q);
    const auto r = static_cast<float>(s);
    const double above = static_cast<double>(r) - s;
    return above > 0.0 || (above == 0.0 && e < 0.0) ? std::nextafter(r, -std::numeric_limits<float>::infinity()) : r;
}

/// "min", "max": of a number and NaN the number; -0 is less than +0.
float smaller(float a, float b) { return a == b ? (std::signbit(a) ? a : b) : std::fmin(a, b); }
float larger(float a, float b) { return a == b ? (std::signbit(a) ? b : a) : std::fmax(a, b); }

float flushed(float v) { return std::abs(v) < std::numeric_limits<float>::min() ? std::copysign(0.0F, v) : v; }

/// "cvt": an integer outside of the type becomes its end, NaN 0.
template <class I>
I saturated(float whole) {
    const auto v = static_cast<double>(whole);
    if (std::isnan(v)) return 0;
    // The largest of a 64-bit type is no double; the next above is.
    constexpr double above = static_cast<double>(std::numeric_limits<I>::max() / 2 + 1) * 2.0;
    if (v >= above) return std::numeric_limits<I>::max();
    if (v <= static_cast<double>(std::numeric_limits<I>::min())) return std::numeric_limits<I>::min();
    return static_cast<I>(v);
}

using table = std::unordered_map<std::string, arithmetic>;

/// "Comparison and Selection Instructions": what holds of whole numbers and ordered floats.
template <class T>
void add_comparisons(table& t, const std::string& type) {
    t["setp.eq." + type] = lanewise([](T a, T b) { return a == b; });
    // With NaN nothing of this holds, != neither.
    t["setp.ne." + type] = lanewise([](T a, T b) { return a < b || a > b; });
    t["setp.lt." + type] = lanewise([](T a, T b) { return a < b; });
    t["setp.le." + type] = lanewise([](T a, T b) { return a <= b; });
    t["setp.gt." + type] = lanewise([](T a, T b) { return a > b; });
    t["setp.ge." + type] = lanewise([](T a, T b) { return a >= b; });
}
template <class T>
void add_moves(table& t, const std::string& type) {
    t["mov." + type] = lanewise([](T a) { return a; });
    if constexpr (sizeof(T) > 1) t["selp." + type] = lanewise([](T a, T b, bool first) { return first ? a : b; });
}
/// "Logic and Shift Instructions".
template <class U>
void add_bits(table& t, const std::string& bits) {
    constexpr u32 all = 8 * sizeof(U);
    t["and.b" + bits] = lanewise([](U a, U b) { return static_cast<U>(a & b); });
    t["or.b" + bits] = lanewise([](U a, U b) { return static_cast<U>(a | b); });
    t["xor.b" + bits] = lanewise([](U a, U b) { return static_cast<U>(a ^ b); });
    t["not.b" + bits] = lanewise([](U a) { return static_cast<U>(~a); });
    // Shifts by more than there are bits are by as many.
    t["shl.b" + bits] = lanewise([](U a, u32 n) { return static_cast<U>(n >= all ? 0 : a << (n & (all - 1))); });
    t["shr.u" + bits] = lanewise([](U a, u32 n) { return static_cast<U>(n >= all ? 0 : a >> (n & (all - 1))); });
    t["shr.b" + bits] = t["shr.u" + bits];
    t["shr.s" + bits] = lanewise(
        [](std::make_signed_t<U> a, u32 n) { return static_cast<std::make_signed_t<U>>(a >> std::min(n, all - 1)); });
}
/// "Integer Arithmetic Instructions" of a type: I, computed without signs in W, which holds a product of two of U.
template <class I>
void add_integers(table& t, const std::string& type) {
    using U = std::make_unsigned_t<I>;
    using W = std::conditional_t<sizeof(I) == 2, u32, u64>;  // no promotion of 16 bits to a signed int
    t["add." + type] = lanewise([](U a, U b) { return static_cast<U>(W{a} + W{b}); });
    t["sub." + type] = lanewise([](U a, U b) { return static_cast<U>(W{a} - W{b}); });
    t["mul.lo." + type] = lanewise([](U a, U b) { return static_cast<U>(W{a} * W{b}); });
    t["mad.lo." + type] = lanewise([](U a, U b, U c) { return static_cast<U>(W{a} * W{b} + W{c}); });
    t["min." + type] = lanewise([](I a, I b) { return std::min(a, b); });
    t["max." + type] = lanewise([](I a, I b) { return std::max(a, b); });
    // A division by zero gives what the machine likes.
    t["div." + type] = lanewise([](I a, I b) {
        if (b == 0) return static_cast<I>(~U{0});
        if constexpr (std::is_signed_v<I>)
            if (b == -1) return static_cast<I>(static_cast<U>(W{0} - static_cast<U>(a)));
        return static_cast<I>(a / b);
    });
    t["rem." + type] = lanewise([](I a, I b) {
        if (b == 0) return static_cast<I>(~U{0});
        if constexpr (std::is_signed_v<I>)
            if (b == -1) return I{0};
        return static_cast<I>(a % b);
    });
    if constexpr (std::is_signed_v<I>) {
        t["neg." + type] = lanewise([](U a) { return static_cast<U>(W{0} - W{a}); });
        t["abs." + type] = lanewise([](I a) { return static_cast<U>(a < 0 ? W{0} - static_cast<U>(a) : W(a)); });
    }
    if constexpr (sizeof(I) < 8) {
        using D = std::conditional_t<sizeof(I) == 2, std::conditional_t<std::is_signed_v<I>, s32, u32>,
                                     std::conditional_t<std::is_signed_v<I>, s64, u64>>;
        using UD = std::make_unsigned_t<D>;
        t["mul.hi." + type] = lanewise([](I a, I b) { return static_cast<I>(D{a} * D{b} >> (8 * sizeof(I))); });
        t["mul.wide." + type] = lanewise([](I a, I b) { return D{a} * D{b}; });
        t["mad.wide." + type] = lanewise([](I a, I b, UD c) { return static_cast<UD>(D{a} * D{b}) + c; });
    }
    add_comparisons<I>(t, type);
    add_moves<U>(t, type);
}
/// "cvt" between integers: to fewer bits, or with the sign or zeros to more.
template <class To, class... From>
void add_extensions(table& t, const std::string& to) {
    const auto name = []<class T>(T) {
        return kdna::concat(std::is_signed_v<T> ? "s" : "u", static_cast<int>(8 * sizeof(T)));
    };
    ((t["cvt." + to + "." + name(From{})] = lanewise([](From a) { return static_cast<To>(a); })), ...);
}
template <class I>
void add_float_conversions(table& t, const std::string& type) {
    t["cvt.rn.f32." + type] = lanewise([](I a) { return static_cast<float>(a); });
    t["cvt.rni." + type + ".f32"] = lanewise([](float a) { return saturated<I>(std::nearbyint(a)); });
    t["cvt.rzi." + type + ".f32"] = lanewise([](float a) { return saturated<I>(std::trunc(a)); });
    t["cvt.rmi." + type + ".f32"] = lanewise([](float a) { return saturated<I>(std::floor(a)); });
    t["cvt.rpi." + type + ".f32"] = lanewise([](float a) { return saturated<I>(std::ceil(a)); });
}

/// "Floating Point Instructions" in float32. Approximations are computed as exactly as the host does.
void add_floats(table& t) {
    t["add.f32"] = t["add.rn.f32"] = lanewise([](float a, float b) { return a + b; });
    t["sub.f32"] = t["sub.rn.f32"] = lanewise([](float a, float b) { return a - b; });
    t["mul.f32"] = t["mul.rn.f32"] = lanewise([](float a, float b) { return a * b; });
    t["fma.rn.f32"] = {multiply_add, 4, {4, 4, 4}, 3};
    t["fma.rm.f32"] = lanewise([](float a, float b, float c) { return multiply_add_down(a, b, c); });
    t["div.rn.f32"] = t["div.full.f32"] = t["div.approx.f32"] = lanewise([](float a, float b) { return a / b; });
    t["rcp.rn.f32"] = t["rcp.approx.f32"] = lanewise([](float a) { return 1.0F / a; });
    t["rcp.approx.ftz.f32"] = lanewise([](float a) { return flushed(1.0F / flushed(a)); });
    t["sqrt.rn.f32"] = t["sqrt.approx.f32"] = lanewise([](float a) { return std::sqrt(a); });
    t["rsqrt.approx.f32"] = lanewise([](float a) { return 1.0F / std::sqrt(a); });
    t["ex2.approx.f32"] = lanewise([](float a) { return std::exp2(a); });
    t["ex2.approx.ftz.f32"] = lanewise([](float a) { return flushed(std::exp2(flushed(a))); });
    t["lg2.approx.f32"] = lanewise([](float a) { return std::log2(a); });
    t["abs.f32"] = lanewise([](float a) { return std::abs(a); });
    t["neg.f32"] = lanewise([](float a) { return -a; });
    t["copysign.f32"] = lanewise([](float a, float b) { return std::copysign(b, a); });
    t["min.f32"] = lanewise([](float a, float b) { return smaller(a, b); });
    t["max.f32"] = lanewise([](float a, float b) { return larger(a, b); });
    add_comparisons<float>(t, "f32");
    add_moves<float>(t, "f32");
    // Those that hold with NaN as well.
    t["setp.equ.f32"] = lanewise([](float a, float b) { return !(a < b || a > b); });
    t["setp.neu.f32"] = lanewise([](float a, float b) { return !(a == b); });
    t["setp.ltu.f32"] = lanewise([](float a, float b) { return !(a >= b); });
    t["setp.leu.f32"] = lanewise([](float a, float b) { return !(a > b); });
    t["setp.gtu.f32"] = lanewise([](float a, float b) { return !(a <= b); });
    t["setp.geu.f32"] = lanewise([](float a, float b) { return !(a < b); });
    t["setp.num.f32"] = lanewise([](float a, float b) { return !std::isunordered(a, b); });
    t["setp.nan.f32"] = lanewise([](float a, float b) { return std::isunordered(a, b); });
    // The host's conversions, which cuda/numbers.cpp tests.
    t["cvt.f32.f16"] = lanewise([](u16 a) { return kdna::cuda::to_float(half{a}); });
    t["cvt.rn.f16.f32"] = lanewise([](float a) { return kdna::cuda::from_float<half>(a).bits; });
    t["cvt.rn.bf16.f32"] = lanewise([](float a) { return kdna::cuda::from_float<bfloat16>(a).bits; });
    t["cvt.rna.tf32.f32"] = lanewise([](float a) { return kdna::cuda::to_tf32(a); });
    // .sat: to [0, 1], NaN to 0.
    t["cvt.sat.f32.f32"] = lanewise([](float a) { return a > 0.0F ? std::min(a, 1.0F) : 0.0F; });
    t["cvt.rni.f32.f32"] = lanewise([](float a) { return std::nearbyint(a); });
    t["cvt.rzi.f32.f32"] = lanewise([](float a) { return std::trunc(a); });
    t["cvt.rmi.f32.f32"] = lanewise([](float a) { return std::floor(a); });
    t["cvt.rpi.f32.f32"] = lanewise([](float a) { return std::ceil(a); });
    add_float_conversions<s32>(t, "s32");
    add_float_conversions<u32>(t, "u32");
    add_float_conversions<s64>(t, "s64");
    add_float_conversions<u64>(t, "u64");
}

/// "bfe": bits [at, at + count) of a, with their sign where it has one; behind the last bit there are zeros, or signs.
template <class I>
I extracted(I a, u32 at, u32 count) {
    at &= 0xffU;
    count &= 0xffU;
    if (count == 0) return 0;
    const u32 last = std::min(at + count - 1, u32{31});
    const auto bits = static_cast<u32>(a);
    const bool sign = std::is_signed_v<I> && (bits >> last & 1U) != 0;
    const u32 fill = sign ? ~u32{0} : 0U, here = at > 31 ? fill : static_cast<u32>(a >> at);
    if (count >= 32 || at > 31) return static_cast<I>(at > 31 ? fill : here);
    const u32 mask = (u32{1} << std::min(count, 32 - at)) - 1U;
    return static_cast<I>(at + count >= 32 && at == 0 ? here : (here & mask) | (fill & ~mask));
}
/// "bfi": b with the lowest `count` bits of a at bit `at`.
u32 inserted(u32 a, u32 b, u32 at, u32 count) {
    at &= 0xffU;
    count &= 0xffU;
    if (at > 31) return b;
    const u32 mask = (count > 31 ? ~u32{0} : (u32{1} << count) - 1U) << at;
    return (b & ~mask) | (a << at & mask);
}
/// "prmt", default mode: every nibble of the selector takes one of the eight bytes of b:a, or spreads its sign.
u32 permuted(u32 a, u32 b, u32 selector) {
    const u64 bytes = u64{b} << 32U | a;
    u32 r = 0;
    for (u32 i = 0; i < 4; ++i) {
        const u32 s = selector >> 4 * i & 0xfU;
        const auto byte = static_cast<u32>(bytes >> 8 * (s & 7U)) & 0xffU;
        r |= ((s & 8U) == 0 ? byte : (byte & 0x80U) != 0 ? 0xffU : 0U) << 8 * i;
    }
    return r;
}
/// "lop3": the table has the result for every three bits.
u32 looked_up(u32 a, u32 b, u32 c, u32 lut) {
    u32 r = 0;
    for (u32 k = 0; k < 8; ++k)
        if ((lut >> k & 1U) != 0) r |= ((k & 4U) != 0 ? a : ~a) & ((k & 2U) != 0 ? b : ~b) & ((k & 1U) != 0 ? c : ~c);
    return r;
}

table make_table() {
    table t;
    add_integers<s16>(t, "s16");
    add_integers<u16>(t, "u16");
    add_integers<s32>(t, "s32");
    add_integers<u32>(t, "u32");
    add_integers<s64>(t, "s64");
    add_integers<u64>(t, "u64");
    const auto add_untyped = [&]<class U>(U, const std::string& bits) {
        add_bits<U>(t, bits);
        add_moves<U>(t, "b" + bits);
        t["setp.eq.b" + bits] = t["setp.eq.u" + bits];
        t["setp.ne.b" + bits] = t["setp.ne.u" + bits];
    };
    add_untyped(u16{}, "16");
    add_untyped(u32{}, "32");
    add_untyped(u64{}, "64");
    for (const char* type : {"u16", "u32", "u64"})
        for (const auto& [name, means] : {std::pair{"lo", "lt"}, {"ls", "le"}, {"hi", "gt"}, {"hs", "ge"}})
            t[std::string("setp.") + name + "." + type] = t[std::string("setp.") + means + "." + type];
    add_moves<bool>(t, "pred");
    t["and.pred"] = lanewise([](bool a, bool b) { return a && b; });
    t["or.pred"] = lanewise([](bool a, bool b) { return a || b; });
    t["xor.pred"] = lanewise([](bool a, bool b) { return a != b; });
    t["not.pred"] = lanewise([](bool a) { return !a; });
    t["bfe.u32"] = lanewise([](u32 a, u32 at, u32 count) { return extracted(a, at, count); });
    t["bfe.s32"] = lanewise([](s32 a, u32 at, u32 count) { return extracted(a, at, count); });
    t["bfi.b32"] = lanewise([](u32 a, u32 b, u32 at, u32 count) { return inserted(a, b, at, count); });
    t["prmt.b32"] = lanewise([](u32 a, u32 b, u32 selector) { return permuted(a, b, selector); });
    t["lop3.b32"] = lanewise([](u32 a, u32 b, u32 c, u32 lut) { return looked_up(a, b, c, lut); });
    add_extensions<s16, s32, u32, s64, u64>(t, "s16");
    add_extensions<u16, s32, u32, s64, u64>(t, "u16");
    add_extensions<s32, s16, u16, s64, u64>(t, "s32");
    add_extensions<u32, s16, u16, s64, u64>(t, "u32");
    add_extensions<s64, s16, u16, s32, u32>(t, "s64");
    add_extensions<u64, s16, u16, s32, u32>(t, "u64");
    // Addresses of the spaces that are the host's are the same with and without a space.
    for (const char* space : {"cvta.to.global.u64", "cvta.global.u64", "cvta.to.local.u64", "cvta.local.u64"})
        t[space] = t["mov.u64"];
    add_floats(t);
    return t;
}

}  // namespace

std::optional<arithmetic> find_arithmetic(std::string_view opcode) {
    static const table all = make_table();
    const auto found = all.find(std::string(opcode));
    return found == all.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace kdna_test::ptx
