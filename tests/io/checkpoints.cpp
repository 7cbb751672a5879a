// Checkpoints as people have them: other element types, names of wrapped modules, counts in any form, shards, and files that
// are something else.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <kdna/io/safetensors.hpp>
#include <kdna/io/shard_index.hpp>

#include "io/support.hpp"

namespace {

using io_test::check_error;
using io_test::error_of;
using kdna::dtype;
using kdna::index_t;
using kdna::state_dict;
using kdna::state_dict_reader;
using kdna::tensor_data;

/// A tensor of one dimension with these bytes.
template <class T>
tensor_data stored(dtype type, const std::vector<T>& values) {
    tensor_data out(type, {static_cast<index_t>(values.size())});
    REQUIRE(out.bytes().size() == values.size() * sizeof(T));
    std::memcpy(out.bytes().data(), values.data(), out.bytes().size());
    return out;
}

std::span<const float> taken(const state_dict_reader& reader, std::string_view name) {
    return reader.take(name, reader.shape_of(name));
}

state_dict of_names(std::initializer_list<const char*> names) {
    state_dict out;
    for (const char* name : names) out.add(name, tensor_data(dtype::f32, {1}));
    return out;
}

constexpr std::string_view wrappers[] = {"_orig_mod.", "model.", "module."};

/// A sharded state_dict: "a" and "b" in the first of two files, "c" in the second.
struct sharded {
    io_test::temporary_folder folder;
    std::string index = R"({"metadata": {"total_size": 12, "note": "x", "all": true},
 "weight_map": {"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}})";

    sharded() {
        save("m-1.safetensors", {"a", "b"});
        save("m-2.safetensors", {"c"});
    }
    void save(std::string_view file, std::initializer_list<const char*> names, const std::string& format = "pt") const {
        state_dict out;
        for (const char* name : names)
            out.add(name, tensor_data::copy_of<float>({1}, std::array{static_cast<float>(*name)}));
        out.metadata()["format"] = format;
        kdna::save_safetensors(folder / file, out);
    }
    [[nodiscard]] state_dict load() const {
        io_test::write_file(folder / "m.safetensors.index.json", index);
        return kdna::load_safetensors(folder / "m.safetensors.index.json");
    }
    void replace(std::string_view from, std::string_view to) { index.replace(index.find(from), from.size(), to); }
    void fails(std::string_view where, std::string_view expected, std::string_view found) const {
        check_error(error_of([&] { return load(); }), where, expected, found);
    }
};

}  // namespace

TEST_CASE("float16 is converted exactly, all 65536 of them", "[state_dict]") {
    std::vector<std::uint16_t> all(65536);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
    state_dict dict;
    dict.add("w", stored(dtype::f16, all));
    const state_dict_reader reader(dict);
    const auto values = taken(reader, "w");
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const int exponent = static_cast<int>(i >> 10U & 31U), mantissa = static_cast<int>(i & 1023U);
        double expected = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
        if (exponent == 31) expected = std::numeric_limits<double>::infinity();
        if ((i & 0x8000U) != 0) expected = -expected;
        const auto found = static_cast<double>(values[i]);
        const bool right = exponent == 31 && mantissa != 0
                               ? std::isnan(found)
                               : found == expected && std::signbit(found) == std::signbit(expected);
        wrong += right ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK(reader.conversions()[0].rounded == 0);
}

TEST_CASE("bfloat16 is the upper half of float32", "[state_dict]") {
    state_dict dict;
    dict.add("w", stored<std::uint16_t>(dtype::bf16, {0x3f80, 0xc000, 0x0001, 0x7f80, 0xff80, 0x7fc1, 0x8000}));
    const state_dict_reader reader(dict);
    const auto w = taken(reader, "w");
    const std::uint32_t bits[] = {0x3f800000, 0xc0000000, 0x00010000, 0x7f800000, 0xff800000, 0x7fc10000, 0x80000000};
    for (std::size_t i = 0; i < w.size(); ++i) CHECK(std::bit_cast<std::uint32_t>(w[i]) == bits[i]);
}

TEST_CASE("float64 is rounded to the nearest float32", "[state_dict]") {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    constexpr float largest = std::numeric_limits<float>::max();
    state_dict dict;
    dict.add("w", stored<double>(dtype::f64, {1.5, 0.1, -infinity, std::nan(""), static_cast<double>(largest),
                                              std::nextafter(0x1.ffffffp127, 0.0), 1e-300, -0.0}));
    const state_dict_reader reader(dict);
    const auto w = taken(reader, "w");
    CHECK(w[0] == 1.5F);
    CHECK(w[1] == 0.1F);
    CHECK(w[2] == -std::numeric_limits<float>::infinity());
    CHECK(std::isnan(w[3]));
    CHECK(w[4] == largest);
    CHECK(w[5] == largest);
    CHECK(w[6] == 0.0F);
    CHECK(std::signbit(w[7]));
    CHECK(reader.conversions()[0].rounded == 3);
}

TEST_CASE("a float64 beyond float32 is refused by the name of its tensor", "[state_dict]") {
    for (const double value : {0x1.ffffffp127, 1e39, -1e300}) {
        state_dict dict;
        dict.add("layer.w", stored<double>(dtype::f64, {0.0, value}));
        const state_dict_reader reader(dict);
        check_error(error_of([&] { return taken(reader, "layer.w"); }), "layer.w", "within the range of float32",
                    "at element 1");
    }
}

TEST_CASE("a tensor is converted once, and stays as long as a copy of its reader", "[state_dict]") {
    state_dict dict;
    dict.add("a.w", stored<double>(dtype::f64, {2.5, 3.5}));
    dict.add("a.f", tensor_data(dtype::f32, {1}));
    dict.add("a.unused", stored<std::uint16_t>(dtype::bf16, {0x3f80}));
    auto scope = [&] {
        const state_dict_reader reader(dict);
        return reader.scope("a.");
    }();
    CHECK(scope.conversions().empty());
    const auto first = taken(scope, "w"), second = state_dict_reader(scope).take("w", {2});
    CHECK(first.data() == second.data());
    CHECK(reinterpret_cast<std::uintptr_t>(first.data()) % kdna::alignment == 0);
    static_cast<void>(taken(scope, "f"));
    // Only what was converted is listed, by its whole name.
    const auto list = scope.conversions();
    REQUIRE(list.size() == 1);
    CHECK(list[0].name == "a.w");
    CHECK(list[0].from == dtype::f64);
    CHECK(first[1] == 3.5F);
    CHECK(dict.at("a.w").type() == dtype::f64);
    check_error(error_of([&] { return scope.take("w", {3}); }), "a.w", "float32 3", "float64 2");
    check_error(error_of([&] { return scope.take<double>("f", {1}); }), "a.f", "float64 1", "float32 1");
    CHECK(scope.take<double>("w", {2})[0] == 2.5);
    check_error(error_of([&] { scope.finish(); }), "a.unused", "used", "1 unused");
}

TEST_CASE("a report says what was done in words", "[state_dict]") {
    kdna::load_report report;
    CHECK(to_string(report).empty());
    report.prefix = "module.";
    report.converted = {{"a", dtype::f16, 0}, {"b", dtype::f64, 2}, {"c", dtype::f16, 0}};
    CHECK(to_string(report) ==
          "3 tensors converted to float32: 2 from float16, 1 from float64; 2 values rounded\n"
          "\"module.\" taken off every name\n");
}

TEST_CASE("a count may be written in any form, or be absent", "[state_dict]") {
    state_dict dict;
    dict.add("scalar", tensor_data(dtype::i64, {}));
    dict.add("one", tensor_data(dtype::i64, {1}));
    dict.add("floating", tensor_data(dtype::f32, {}));
    dict.add("half", tensor_data(dtype::f16, {1}));
    const state_dict_reader reader(dict);
    for (const char* name : {"scalar", "one", "floating", "half", "absent"}) reader.take_count(name);
    reader.finish();
    CHECK(reader.conversions().empty());
    dict.add("two", tensor_data(dtype::i64, {2}));
    dict.add("none", tensor_data(dtype::i64, {0}));
    dict.add("matrix", tensor_data(dtype::i64, {1, 1}));
    dict.add("flag", tensor_data(dtype::boolean, {}));
    for (const char* name : {"two", "none", "matrix", "flag"})
        check_error(error_of([&] {
                        reader.take_count(name);
                        return 0;
                    }),
                    name, "one number", "");
}

TEST_CASE("prefixes of wrapped modules come off in any combination", "[state_dict]") {
    for (const std::string prefix :
         {"", "module.", "_orig_mod.", "model.", "_orig_mod.module.", "module._orig_mod.model.", "module.module."}) {
        CAPTURE(prefix);
        state_dict dict;
        for (const char* name : {"conv1.weight", "fc.bias"}) dict.add(prefix + name, tensor_data(dtype::f32, {1}));
        CHECK(dict.strip_prefixes(wrappers) == prefix);
        CHECK(dict.names() == std::vector<std::string>{"conv1.weight", "fc.bias"});
    }
    CHECK(state_dict().strip_prefixes(wrappers).empty());
    state_dict other = of_names({"modules.a", "modules.b"});
    CHECK(other.strip_prefixes(wrappers).empty());
    CHECK(other.contains("modules.a"));
}

TEST_CASE("a prefix before some names only is refused", "[state_dict]") {
    state_dict dict = of_names({"_orig_mod.model.a", "_orig_mod.b"});
    check_error(error_of([&] { return dict.strip_prefixes(wrappers); }), "_orig_mod.b",
                "the prefix \"_orig_mod.model.\"", "without it beside _orig_mod.model.a");
    CHECK(dict.names() == std::vector<std::string>{"_orig_mod.b", "_orig_mod.model.a"});
    // As torch's AveragedModel writes it.
    state_dict averaged = of_names({"module.a", "module.b", "n_averaged"});
    check_error(error_of([&] { return averaged.strip_prefixes(wrappers); }), "n_averaged", "\"module.\"", "module.a");
    state_dict only = of_names({"module.", "module.a"});
    check_error(error_of([&] { return only.strip_prefixes(wrappers); }), "module.", "a name after", "only the prefix");
}

TEST_CASE("a prefix repeated a million times takes no longer", "[state_dict]") {
    std::string name;
    for (int i = 0; i < 1'000'000; ++i) name += "model.";
    state_dict dict;
    dict.add(name + "a", tensor_data(dtype::f32, {1}));
    CHECK(dict.strip_prefixes(wrappers) == name);
    CHECK(dict.contains("a"));
}

TEST_CASE("a file of another kind is named, with what to do", "[safetensors]") {
    using namespace std::string_literals;
    const std::pair<std::string, std::string> kinds[] = {
        {"PK\x03\x04\x00\x00\x08\x08"s, "a zip archive, as torch.save writes"},
        {"\x80\x02\x8a\x0alF"s, "a pickle, as older torch.save writes"},
        {"\x80\x04\x95\x10\x00\x00"s, "tools/export.py"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:4d"s, "git lfs pull"},
        {"<!DOCTYPE html>\n<html>"s, "an HTML page"},
        {"\n <html lang=en>"s, "an HTML page"},
        {"<?xml version=\"1.0\"?><Error><Code>AccessDenied"s, "server's error message"},
        {"{\"metadata\":{},\"weight_map\":{}}"s, "load_safetensors reads an index"},
        {"\xef\xbb\xbf{ }"s, "a JSON text"},
        {"GGUF\x03\x00\x00\x00"s, "a GGUF file"},
        {"\x93NUMPY\x01\x00"s, "load_npy"},
        {"\x89HDF\r\n\x1a\n"s, "an HDF5 file"},
        {"\x1f\x8b\x08"s, "a gzip archive"}};
    const io_test::temporary_folder folder;
    for (const auto& [start, found] : kinds) {
        for (const std::string& rest : {std::string(), std::string(600, 'x')}) {
            const std::string bytes = start + rest;
            check_error(error_of([&] { return kdna::parse_safetensors(io_test::as_bytes(bytes), "test"); }), "test",
                        "a safetensors file", found);
            if (start.find('{') != std::string::npos) continue;
            io_test::write_file(folder / "x", bytes);
            check_error(error_of([&] { return kdna::load_safetensors(folder / "x"); }), "x", "a safetensors file",
                        found);
        }
    }
    io_test::write_file(folder / "x", "");
    check_error(error_of([&] { return kdna::load_safetensors(folder / "x"); }), "x", "a safetensors file",
                "0 bytes: an empty file");
}

TEST_CASE("a header whose length looks like another file is read", "[safetensors]") {
    // 0x8b1f and 0x7b bytes of header begin like gzip and like JSON, 0x580 with 0x80 first like a pickle.
    for (const std::uint64_t length : {0x8b1fU, 0x7bU, 0x480U}) {
        const auto prefix = std::bit_cast<std::array<char, 8>>(length);
        std::string bytes(prefix.data(), prefix.size());
        bytes += "{}";
        bytes.resize(8 + length, ' ');
        CHECK(kdna::parse_safetensors(io_test::as_bytes(bytes), "test").size() == 0);
        const io_test::temporary_folder folder;
        io_test::write_file(folder / "x", bytes);
        CHECK(kdna::load_safetensors(folder / "x").size() == 0);
        bytes.pop_back();
        check_error(error_of([&] { return kdna::parse_safetensors(io_test::as_bytes(bytes), "test"); }), "test",
                    "a header of", "bytes after its length");
    }
}

TEST_CASE("sharded weights are loaded by the path of their index", "[safetensors]") {
    const sharded s;
    const state_dict dict = s.load();
    CHECK(dict.names() == std::vector<std::string>{"a", "b", "c"});
    CHECK(dict.at("c").values<float>()[0] == static_cast<float>('c'));
    CHECK(dict.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
}

TEST_CASE("an index and its shards must agree", "[safetensors]") {
    sharded missing, extra, moved, absent, other;
    missing.save("m-2.safetensors", {});
    missing.fails("m.safetensors.index.json, tensor \"c\"", "a tensor in m-2.safetensors", "no such tensor");
    extra.save("m-2.safetensors", {"c", "d"});
    extra.fails("m-2.safetensors, tensor \"d\"", "looks for here", "it does not name");
    moved.save("m-2.safetensors", {"b", "c"});
    moved.fails("m-2.safetensors, tensor \"b\"", "looks for here", "it looks for in m-1.safetensors");
    std::filesystem::remove(absent.folder / "m-2.safetensors");
    absent.fails("m-2.safetensors", "a file", "no such file");
    other.save("m-2.safetensors", {"c"}, "tf");
    other.fails("m-2.safetensors, __metadata__", "the same \"format\"", "another value");
    sharded index;
    io_test::write_file(index.folder / "m-2.safetensors", R"({"weight_map": {}})");
    index.fails("m-2.safetensors", "a safetensors file", "a JSON text");
}

TEST_CASE("shards lie in the folder of the index", "[safetensors]") {
    for (const std::string name : {"", ".", "..", "../m-2.safetensors", "/etc/passwd", "sub/m-2.safetensors",
                                   "..\\\\m-2.safetensors", "C:m-2.safetensors", "m-2.safetensors\\u0000"}) {
        CAPTURE(name);
        sharded s;
        s.replace("m-2.safetensors", name);
        s.fails("m.safetensors.index.json, tensor \"c\"", "a file in the folder of the index", "");
    }
}

TEST_CASE("an index is strict JSON of two fields", "[safetensors]") {
    const auto rejects = [](const std::string& text, std::string_view where, std::string_view expected,
                            std::string_view found) {
        check_error(error_of([&] { return kdna::detail::parse_shard_index(text, "test"); }), where, expected, found);
    };
    CHECK(kdna::detail::parse_shard_index(R"( {"weight_map":{}} )", "test").empty());
    CHECK(kdna::detail::parse_shard_index(R"({"weight_map":{"a":"x"},"metadata":{"n":-1,"e":1.5,"z":null}})", "test")
              .at("a") == "x");
    rejects("{}", "test", "with a weight_map", "none");
    rejects(R"({"architectures":["x"]})", "test", "only metadata and weight_map", "\"architectures\"");
    rejects(R"({"weight_map":[]})", "test", "a weight_map that is an object", "an array");
    rejects(R"({"weight_map":{"a":1}})", "tensor \"a\"", "the name of a file", "the number 1");
    rejects(R"({"weight_map":{"a":{}}})", "tensor \"a\"", "the name of a file", "an object");
    rejects(R"({"weight_map":{"a":"x","a":"x"}})", "tensor \"a\"", "once", "duplicate");
    rejects(R"({"weight_map":{},"weight_map":{}})", "test", "once", "weight_map");
    rejects(R"({"weight_map":{"":"x"}})", "tensor \"\"", "a tensor name", "empty");
    rejects(R"({"weight_map":{"a\n":"x"}})", "tensor \"a\\x0a\"", "control characters", "10");
    rejects(R"({"metadata":1})", "test", "metadata that are an object", "the number 1");
    rejects(R"({"metadata":{"a":{}}})", "test", "a text or number", "an object");
    rejects(R"({"metadata":{"a":1,"a":2}})", "test", "once", "duplicate");
    rejects(R"({"weight_map":{}}x)", "test", "in JSON", "syntax error");
    rejects(R"({"weight_map":)", "test", "in JSON", "syntax error");
    rejects("{\"weight_map\":{\"\xff\":\"x\"}}", "test", "in JSON", "UTF-8");
    rejects(std::string("{\"weight_map\":{}}\0", 18), "test", "in JSON", "a NUL at its byte 17");
    rejects("[]", "test", "starts with '{'", "[]");
    rejects("", "test", "starts with '{'", "\"\"");
    std::string deep = R"({"weight_map":)";
    for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
    rejects(deep, "test", "the name of a file", "an object");
}

TEST_CASE("random damage to an index is either harmless or a kdna::error", "[safetensors]") {
    io_test::mutator damage(20251130, {"{", "}", "[", "]", ",", ":", "\"", "\"a\":", "0", "-1", "1e9", "null",
                                       "\\u0000", "..", "/", "\"metadata\":{}", "\"weight_map\":{}"});
    const std::string text =
        R"({"metadata":{"total_size":12},"weight_map":{"conv1.weight":"m-00001-of-00002.safetensors","fc":"m-2"}})";
    int accepted = 0, rejected = 0;
    for (int i = 0; i < 20'000; ++i) try {
            for (const auto& [name, file] : kdna::detail::parse_shard_index(damage(text), "test"))
                if (name.empty() || file.empty() || file == ".." || file.find('/') != std::string::npos)
                    FAIL("a shard outside: " << file << ", case " << i);
            ++accepted;
        } catch (const kdna::error&) {
            ++rejected;
        }
    CAPTURE(accepted, rejected);
    CHECK(accepted > 1000);
    CHECK(rejected > 1000);
}
