#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include <kdna/io/safetensors.hpp>

#include "io/support.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#include <sys/stat.h>
#include <csignal>
#endif

namespace {

using io_test::as_bytes;
using io_test::check_error;
using io_test::error_of;
using kdna::dtype;
using kdna::index_t;
using kdna::state_dict;
using kdna::tensor_data;

std::string length_prefix(std::uint64_t length) {
    const auto bytes = std::bit_cast<std::array<char, 8>>(length);
    return {bytes.data(), bytes.size()};
}

// A file of this header and as many bytes of data.
std::string safetensors_file_of(const std::string& header, std::size_t data_bytes = 0) {
    return length_prefix(header.size()) + header + std::string(data_bytes, '\x11');
}

state_dict parsed_safetensors(const std::string& bytes) { return kdna::parse_safetensors(as_bytes(bytes), "test"); }

// The bytes must be rejected, with these texts in the error.
void rejects(const std::string& bytes, std::string_view where, std::string_view expected, std::string_view found) {
    check_error(error_of([&] { parsed_safetensors(bytes); }), where, expected, found);
}
void rejects_header(const std::string& header, std::string_view where, std::string_view expected,
                    std::string_view found) {
    rejects(safetensors_file_of(header, 8), where, expected, found);
}

// A header of the one tensor "w" with these fields.
std::string w(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

const std::string good_header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
const std::string good_file = safetensors_file_of(good_header, 8);
constexpr std::string_view at_w = "test, tensor \"w\"";

}  // namespace

TEST_CASE("safetensors: what is saved is loaded", "[safetensors]") {
    const io_test::temporary_folder folder;
    state_dict dict;
    dict.add("b.weight", tensor_data::copy_of<float>({2, 3}, std::array{1.f, -2.f, 3.f, -4.f, 5.f, 1e-40f}));
    dict.add("b.num_batches_tracked", tensor_data::copy_of<std::int64_t>({}, std::array<std::int64_t, 1>{-5}));
    dict.add("a", tensor_data::copy_of<std::uint8_t>({3}, std::array<std::uint8_t, 3>{1, 2, 255}));
    dict.add("empty", tensor_data(dtype::f32, {4, 0}));
    for (const auto& [name, type] : kdna::detail::safetensors_dtypes)
        dict.add(kdna::concat("type.", name), tensor_data(type, {1, 3}));
    dict.add("quote\" backslash\\ caf\xc3\xa9", tensor_data(dtype::i8, {1}));
    dict.metadata() = {{"format", "pt"}, {"note", "line\nbreak"}};
    kdna::save_safetensors(folder / "x.safetensors", dict);

    const state_dict loaded = kdna::load_safetensors(folder / "x.safetensors");
    CHECK(loaded.metadata() == dict.metadata());
    REQUIRE(loaded.names() == dict.names());
    for (const auto& [name, tensor] : dict.tensors()) {
        CAPTURE(name);
        CHECK(loaded.at(name).type() == tensor.type());
        CHECK(loaded.at(name).shape() == tensor.shape());
        const auto a = loaded.at(name).bytes(), b = tensor.bytes();
        CHECK(std::vector(a.begin(), a.end()) == std::vector(b.begin(), b.end()));
    }
    CHECK(loaded.at("b.weight").values<float>()[5] == 1e-40f);
    CHECK(folder.files() == 1);
}

TEST_CASE("safetensors: an empty state_dict is a file", "[safetensors]") {
    const io_test::temporary_folder folder;
    kdna::save_safetensors(folder / "x", state_dict());
    CHECK(kdna::load_safetensors(folder / "x").size() == 0);
    CHECK(parsed_safetensors(safetensors_file_of("{}")).size() == 0);
}

TEST_CASE("safetensors: saving aligns the data and replaces the file", "[safetensors]") {
    const io_test::temporary_folder folder;
    io_test::write_file(folder / "x", "something longer that was there before, and must not shine through at the end");
    state_dict dict;
    dict.add("a", tensor_data(dtype::u8, {3}));
    dict.add("b", tensor_data(dtype::i64, {}));
    kdna::save_safetensors(folder / "x", dict);
    const std::string bytes = io_test::read_file(folder / "x");
    const std::string header = R"({"b":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                               R"("a":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";
    CHECK(bytes.substr(8) == header + std::string(6, ' ') + std::string(11, '\0'));
    CHECK(bytes.substr(0, 8) == length_prefix(112));
}

TEST_CASE("safetensors: tensors may come in any order and at any alignment", "[safetensors]") {
    std::string bytes = safetensors_file_of(R"( {"x":{"data_offsets":[5,9],"shape":[1],"dtype":"F32"},
        "c":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}, "n":{"dtype":"F32","shape":[0],"data_offsets":[5,5]}}  )");
    bytes.erase(8, 1);  // the leading blank, which is not allowed
    const auto length = length_prefix(bytes.size() - 8);
    bytes.replace(0, 8, length);
    const float value = 2.5f;
    bytes += "abcde" + std::string(reinterpret_cast<const char*>(&value), 4);
    const state_dict dict = parsed_safetensors(bytes);
    CHECK(dict.at("x").values<float>()[0] == 2.5f);
    CHECK(dict.at("c").values<std::uint8_t>()[4] == 'e');
    CHECK(dict.at("n").values<float>().empty());
}

TEST_CASE("safetensors: metadata is strings by name", "[safetensors]") {
    CHECK(parsed_safetensors(safetensors_file_of(R"({"__metadata__":{"format":"pt","empty":""}})")).metadata().size() ==
          2);
    const std::string_view where = "test, __metadata__";
    rejects_header(R"({"__metadata__":"pt"})", where, "an object of strings", "the string \"pt\"");
    rejects_header(R"({"__metadata__":["pt"]})", where, "an object of strings", "an array");
    rejects_header(R"({"__metadata__":{"v":1}})", where, "a string", "the number 1");
    rejects_header(R"({"__metadata__":{"v":{}}})", where, "a string", "an object");
    rejects_header(R"({"__metadata__":{"v":null}})", where, "a string", "null");
    rejects_header(R"({"__metadata__":{"v":"1","v":"2"}})", where, "once", "duplicate key \"v\"");
    rejects_header(R"({"__metadata__":{},"__metadata__":{}})", "__metadata__", "once", "duplicate");
}

TEST_CASE("safetensors: empty and short files", "[safetensors]") {
    rejects("", "test", "8 bytes of header length", "0 bytes");
    rejects("1234567", "test", "8 bytes of header length", "7 bytes");
    rejects(length_prefix(0), "test", "starts with '{'", "\"\"");
}

TEST_CASE("safetensors: a file cut anywhere is rejected", "[safetensors]") {
    for (std::size_t length = 0; length < good_file.size(); ++length) {
        CAPTURE(length);
        CHECK_THROWS_AS(parsed_safetensors(good_file.substr(0, length)), kdna::error);
    }
    CHECK(parsed_safetensors(good_file).size() == 1);
}

TEST_CASE("safetensors: a header length of 2^63", "[safetensors]") {
    rejects(length_prefix(std::uint64_t{1} << 63U) + good_header, "test", "at most 100000000 bytes",
            "9223372036854775808");
    rejects(std::string(8, '\xff') + good_header, "test", "at most 100000000 bytes", "18446744073709551615");
}

TEST_CASE("safetensors: a header longer than the file", "[safetensors]") {
    rejects(length_prefix(good_header.size() + 9) + good_header + "12345678", "test", "header of 63 bytes", "62 bytes");
    rejects(length_prefix(100'000'000) + good_header, "test", "header of 100000000 bytes", "54 bytes after");
}

TEST_CASE("safetensors: a header over the limit of the format", "[safetensors]") {
    rejects(length_prefix(100'000'001) + good_header, "test", "at most 100000000 bytes", "100000001 bytes");
}

TEST_CASE("safetensors: a header that is not a JSON object", "[safetensors]") {
    rejects_header("[]", "test", "starts with '{'", "[]");
    rejects_header("\"text\"", "test", "starts with '{'", "text");
    rejects_header(" " + good_header, "test", "starts with '{'", " {");
    rejects_header("\xef\xbb\xbf" + good_header, "test", "starts with '{'", "\xef\xbb\xbf{");
    rejects_header("{", "test", "JSON", "at its byte 2");
    rejects_header("{\"w\"}", at_w, "JSON", "at its byte 5");
    rejects_header("{/* comment */}", "test", "JSON", "at its byte 2");
    rejects_header("{\"w\":{\"dtype\":\"F32\",}}", at_w, "JSON", "syntax error");
    rejects_header("{'w':{}}", "test", "JSON", "syntax error");
}

TEST_CASE("safetensors: garbage after the header's object", "[safetensors]") {
    rejects_header(good_header + "x", "test", "JSON", "syntax error");
    rejects_header(good_header + "{}", "test", "JSON", "expected end of input");
    rejects_header(good_header + std::string("\0garbage", 8), "test", "JSON", "a NUL at its byte 54");
    CHECK(parsed_safetensors(safetensors_file_of(good_header + " \n\t ", 8)).size() == 1);
}

TEST_CASE("safetensors: invalid UTF-8 and control characters", "[safetensors]") {
    rejects_header("{\"w\xff\":{}}", "test", "JSON", "UTF-8");
    rejects_header("{\"\xc3\":{}}", "test", "JSON", "UTF-8");
    rejects_header("{\"w\n\":{}}", "test", "JSON", "control character");
    rejects_header(R"({"\ud800":{}})", "test", "JSON", "surrogate");
    const kdna::error e = error_of([] { parsed_safetensors(safetensors_file_of("{\"\x1b[31m\xff")); });
    CHECK(std::string(e.what()).find('\x1b') == std::string::npos);
}

TEST_CASE("safetensors: misnamed tensors", "[safetensors]") {
    const std::string rest = R"(":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
    rejects_header("{\"" + rest, "test, tensor \"\"", "a tensor name", "an empty name");
    rejects_header(R"({"a\u0000b)" + rest, "test, tensor \"a\\x00b\"", "without control characters", "byte 0");
    rejects_header(R"({"a\u001b[31m)" + rest, "test, tensor \"a\\x1b[31m\"", "without control characters", "byte 27");
}

TEST_CASE("safetensors: a duplicated tensor", "[safetensors]") {
    const std::string fields = R"({"dtype":"F32","shape":[1],"data_offsets":)";
    rejects_header("{\"w\":" + fields + "[0,4]},\"w\":" + fields + "[4,8]}}", at_w, "once", "duplicate");
    rejects_header("{\"w\":" + fields + "[0,4]},\"\\u0077\":" + fields + "[4,8]}}", at_w, "once", "duplicate");
}

TEST_CASE("safetensors: a tensor that is not an object", "[safetensors]") {
    for (const std::string value : {"1", "null", "true", "\"F32\"", "[]", "-1", "1.5", "1e999"}) {
        CAPTURE(value);
        CHECK(error_of([&] { parsed_safetensors(safetensors_file_of("{\"w\":" + value + "}")); }).where() == at_w);
    }
    rejects_header(R"({"w":[]})", at_w, "an object with dtype, shape and data_offsets", "an array");
    rejects_header(R"({"w":false})", at_w, "an object with dtype, shape and data_offsets", "false");
}

TEST_CASE("safetensors: missing fields", "[safetensors]") {
    const std::string_view all = "dtype, shape and data_offsets";
    rejects_header(w(""), at_w, all, "no dtype");
    rejects_header(w(R"("shape":[2],"data_offsets":[0,8])"), at_w, all, "no dtype");
    rejects_header(w(R"("dtype":"F32","data_offsets":[0,8])"), at_w, all, "no shape");
    rejects_header(w(R"("dtype":"F32","shape":[2])"), at_w, all, "no data_offsets");
    // A tensor before that had all of them does not lend them.
    rejects_header(R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{}})", at_w, all, "no dtype");
}

TEST_CASE("safetensors: unknown and repeated fields", "[safetensors]") {
    rejects_header(w(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"stride":[1])"), at_w, "only dtype",
                   "\"stride\"");
    rejects_header(w(R"("Dtype":"F32")"), at_w, "only dtype", "\"Dtype\"");
    rejects_header(w(R"("dtype":"F32","dtype":"F32")"), at_w, "dtype once", "twice");
    rejects_header(w(R"("shape":[],"shape":[])"), at_w, "shape once", "twice");
}

TEST_CASE("safetensors: a wrongly typed dtype", "[safetensors]") {
    rejects_header(w(R"("dtype":32)"), at_w, "a string as dtype", "the number 32");
    rejects_header(w(R"("dtype":["F32"])"), at_w, "a string as dtype", "an array");
    rejects_header(w(R"("dtype":null)"), at_w, "a string as dtype", "null");
}

TEST_CASE("safetensors: an unknown dtype", "[safetensors]") {
    rejects_header(w(R"("dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8])"), at_w, "a dtype that kdna knows",
                   "F8_E4M3");
    rejects_header(w(R"("dtype":"f32","shape":[2],"data_offsets":[0,8])"), at_w, "a dtype that kdna knows", "\"f32\"");
    rejects_header(w(R"("dtype":"")"), at_w, "a dtype that kdna knows", "\"\"");
}

TEST_CASE("safetensors: a wrongly typed shape", "[safetensors]") {
    rejects_header(w(R"("shape":2)"), at_w, "an array as shape", "the number 2");
    rejects_header(w(R"("shape":"[2]")"), at_w, "an array as shape", "the string");
    rejects_header(w(R"("shape":{"0":2})"), at_w, "an array as shape", "an object");
    rejects_header(w(R"("shape":[[2]])"), at_w, "whole numbers", "an array");
    rejects_header(w(R"("shape":["2"])"), at_w, "whole numbers", "the string \"2\"");
    rejects_header(w(R"("shape":[null])"), at_w, "whole numbers", "null");
    rejects_header(w(R"("shape":[-2])"), at_w, "whole numbers", "the negative number -2");
    rejects_header(w(R"("shape":[2.0])"), at_w, "whole numbers", "the number 2.0");
    rejects_header(w(R"("shape":[2e0])"), at_w, "whole numbers", "the number 2e0");
    rejects_header(w(R"("shape":[9223372036854775808])"), at_w, "less than 2^63", "9223372036854775808");
    rejects_header(w(R"("shape":[18446744073709551616])"), at_w, "whole numbers", "18446744073709551616");
    rejects_header(w(R"("shape":[1e999])"), at_w, "JSON", "number overflow");
}

TEST_CASE("safetensors: deep nesting", "[safetensors]") {
    rejects(safetensors_file_of(w("\"shape\":" + std::string(100'000, '['))), at_w, "whole numbers", "an array");
    std::string objects = "{";
    for (int i = 0; i < 100'000; ++i) objects += "\"a\":{";
    rejects(safetensors_file_of(objects), "test, tensor \"a\"", "only dtype", "\"a\"");
}

TEST_CASE("safetensors: too many extents", "[safetensors]") {
    std::string ones = "1";
    for (int i = 1; i < 33; ++i) ones += ",1";
    rejects_header(w("\"dtype\":\"F64\",\"shape\":[" + ones + "],\"data_offsets\":[0,8]"), at_w, "at most 32 extents",
                   "more");
    ones.resize(ones.size() - 2);
    CHECK(parsed_safetensors(
              safetensors_file_of(w("\"dtype\":\"F64\",\"shape\":[" + ones + "],\"data_offsets\":[0,8]"), 8))
              .size() == 1);
}

TEST_CASE("safetensors: a shape whose product overflows", "[safetensors]") {
    const std::string offsets = R"(,"data_offsets":[0,8])";
    rejects_header(w(R"("dtype":"F32","shape":[4294967296,4294967296])" + offsets), at_w, "fits in 64 bits",
                   "4294967296");
    rejects_header(w(R"("dtype":"U8","shape":[4294967296,4294967296])" + offsets), at_w, "fits in 64 bits",
                   "4294967296");
    rejects_header(w(R"("dtype":"F32","shape":[4611686018427387904])" + offsets), at_w, "fits in 64 bits", "4 * ");
    // 2^62 + 2 floats are 8 bytes modulo 2^64.
    rejects_header(w(R"("dtype":"F32","shape":[4611686018427387906])" + offsets), at_w, "fits in 64 bits", "4 * ");
    rejects_header(w(R"("dtype":"F32","shape":[0,9223372036854775807,9],"data_offsets":[0,0])"), at_w,
                   "fits in 64 bits", "");
}

TEST_CASE("safetensors: wrongly typed data_offsets", "[safetensors]") {
    const auto offsets = [](const std::string& value) {
        return w(R"("dtype":"F32","shape":[2],"data_offsets":)" + value);
    };
    rejects_header(offsets("8"), at_w, "an array as data_offsets", "the number 8");
    rejects_header(offsets("[]"), at_w, "two data_offsets", "0");
    rejects_header(offsets("[0]"), at_w, "two data_offsets", "1");
    rejects_header(offsets("[0,8,8]"), at_w, "at most 2 data_offsets", "more");
    rejects_header(offsets("[-8,0]"), at_w, "data_offsets that are whole numbers", "-8");
    rejects_header(offsets("[0,8.5]"), at_w, "data_offsets that are whole numbers", "8.5");
    rejects_header(offsets("[\"0\",8]"), at_w, "data_offsets that are whole numbers", "\"0\"");
    rejects_header(offsets("[0,18446744073709551615]"), at_w, "less than 2^63", "18446744073709551615");
}

TEST_CASE("safetensors: data that ends before it begins", "[safetensors]") {
    rejects_header(w(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), at_w, "not end before", "8 to 0");
}

TEST_CASE("safetensors: data outside the file", "[safetensors]") {
    rejects_header(w(R"("dtype":"F32","shape":[3],"data_offsets":[0,12])"), at_w, "within the 8 bytes", "0 to 12");
    rejects_header(w(R"("dtype":"F32","shape":[2],"data_offsets":[9223372036854775799,9223372036854775807])"), at_w,
                   "within the 8 bytes", "9223372036854775807");
}

TEST_CASE("safetensors: a truncated tensor", "[safetensors]") {
    rejects(good_file.substr(0, good_file.size() - 1), at_w, "within the 7 bytes", "0 to 8");
}

TEST_CASE("safetensors: an oversized tensor, in data and in shape", "[safetensors]") {
    rejects_header(w(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])"), at_w, "4 bytes for float32 1", "0 to 8");
    rejects_header(w(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), at_w, "12 bytes for float32 3", "0 to 8");
    rejects_header(w(R"("dtype":"F32","shape":[2,0],"data_offsets":[0,8])"), at_w, "0 bytes for float32 2x0", "0 to 8");
    rejects_header(w(R"("dtype":"F32","shape":[],"data_offsets":[0,8])"), at_w, "4 bytes for float32 scalar", "0 to 8");
}

TEST_CASE("safetensors: overlapping tensors", "[safetensors]") {
    const std::string v = R"({"v":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"w":{"dtype":"U8",)";
    rejects_header(v + R"("shape":[4],"data_offsets":[4,8]}})", at_w, "from byte 5", "byte 4 on: an overlap");
    rejects_header(v + R"("shape":[8],"data_offsets":[0,8]}})", at_w, "from byte 5", "byte 0 on: an overlap");
    rejects_header(v + R"("shape":[5],"data_offsets":[0,5]}})", "tensor", "from byte 5", "byte 0 on: an overlap");
    rejects_header(v + R"("shape":[0],"data_offsets":[2,2]}})", at_w, "from byte 5", "byte 2 on: an overlap");
}

TEST_CASE("safetensors: holes between and before tensors", "[safetensors]") {
    const std::string v = R"({"v":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"w":{"dtype":"U8",)";
    rejects_header(v + R"("shape":[4],"data_offsets":[4,8]}})", at_w, "from byte 3", "byte 4 on: a hole");
    rejects_header(w(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), at_w, "from byte 0", "byte 4 on: a hole");
}

TEST_CASE("safetensors: bytes left over", "[safetensors]") {
    rejects(good_file + "x", "test", "8 bytes of tensor data", "9: 1 bytes belong to no tensor");
    rejects(safetensors_file_of("{}", 3), "test", "0 bytes of tensor data", "3 bytes belong to no tensor");
}

TEST_CASE("safetensors: claims of a small file allocate nothing", "[safetensors]") {
    io_test::counting_resource memory;
    rejects_header(w(R"("dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296])"), at_w, "within the 8 bytes",
                   "");
    rejects_header(w(R"("dtype":"F32","shape":[1073741824],"data_offsets":[0,8])"), at_w, "4294967296 bytes", "");
    CHECK(memory.allocated == 0);
    CHECK(parsed_safetensors(good_file).size() == 1);
    CHECK(memory.allocated == 8);
}

TEST_CASE("safetensors: errors name the file", "[safetensors]") {
    const io_test::temporary_folder folder;
    io_test::write_file(folder / "net.safetensors",
                        safetensors_file_of(w(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 8));
    const kdna::error e = error_of([&] { return kdna::load_safetensors(folder / "net.safetensors"); });
    check_error(e, "net.safetensors, tensor \"w\"", "8 bytes for float32 2", "data_offsets 0 to 4");
    io_test::write_file(folder / "empty", "");
    check_error(error_of([&] { return kdna::load_safetensors(folder / "empty"); }), "empty", "a safetensors file",
                "0 bytes");
}

TEST_CASE("safetensors: a missing file, a directory, an unreadable file", "[safetensors]") {
    const io_test::temporary_folder folder;
    check_error(error_of([&] { return kdna::load_safetensors(folder / "none"); }), "none", "a file", "no such file");
    check_error(error_of([&] { return kdna::load_safetensors(folder.path()); }), "kdna-test-", "a file", "a directory");
#if defined(__unix__) || defined(__APPLE__)
    std::filesystem::create_symlink("loop", folder / "loop");
    check_error(error_of([&] { return kdna::load_safetensors(folder / "loop"); }), "loop", "a readable file",
                "symbolic");
    REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
    check_error(error_of([&] { return kdna::load_safetensors(folder / "pipe"); }), "pipe", "a regular file", "pipe");
    io_test::write_file(folder / "secret", good_file);
    std::filesystem::permissions(folder / "secret", std::filesystem::perms::none);
    if (!std::ifstream(folder / "secret"))  // the superuser reads it all the same
        check_error(error_of([&] { return kdna::load_safetensors(folder / "secret"); }), "secret", "a readable file",
                    "denied");
#endif
}

TEST_CASE("safetensors: saving to an impossible place leaves nothing behind", "[safetensors]") {
    const io_test::temporary_folder folder;
    state_dict dict;
    dict.add("w", tensor_data(dtype::f32, {2}));
    std::filesystem::create_directory(folder / "sub");
    check_error(error_of([&] { kdna::save_safetensors(folder / "sub", dict); }), "sub", "write", "a directory");
    check_error(error_of([&] { kdna::save_safetensors(folder / "no/x", dict); }), "x", "a writable folder", "No such");
    CHECK(folder.files() == 1);
}

TEST_CASE("safetensors: names that a file cannot hold are not saved", "[safetensors]") {
    const io_test::temporary_folder folder;
    state_dict reserved, broken, note;
    reserved.add("__metadata__", tensor_data(dtype::f32, {2}));
    broken.add("w\xff", tensor_data(dtype::f32, {2}));
    note.metadata()["a"] = "\xff";
    check_error(error_of([&] { kdna::save_safetensors(folder / "x", reserved); }), "__metadata__", "another",
                "metadata");
    check_error(error_of([&] { kdna::save_safetensors(folder / "x", broken); }), "w\xff", "UTF-8", "other bytes");
    check_error(error_of([&] { kdna::save_safetensors(folder / "x", note); }), "\xff", "UTF-8", "other bytes");
    CHECK(folder.files() == 0);
}

#if defined(__unix__) || defined(__APPLE__)
TEST_CASE("safetensors: a save that runs out of room leaves the old file", "[safetensors]") {
    const io_test::temporary_folder folder;
    state_dict dict;
    dict.add("w", tensor_data(dtype::f32, {1000}));
    io_test::write_file(folder / "x", "old");
    rlimit old{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
    rlimit small = old;
    small.rlim_cur = 1000;
    std::string message;
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    try {
        kdna::save_safetensors(folder / "x", dict);
    } catch (const kdna::error& e) {
        message = e.what();
    }
    setrlimit(RLIMIT_FSIZE, &old);
    std::signal(SIGXFSZ, old_handler);
    CHECK(message.find("expected a file that can be written, found") != std::string::npos);
    CHECK(io_test::read_file(folder / "x") == "old");
    CHECK(folder.files() == 1);
}
#endif

TEST_CASE("safetensors: random damage is either harmless or a kdna::error", "[safetensors]") {
    constexpr std::uint32_t seed = 20240607;
    const std::string header =
        R"({"__metadata__":{"format":"pt"},"conv.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
        R"("bn.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[24,32]},)"
        R"("mask":{"dtype":"BOOL","shape":[5],"data_offsets":[32,37]}})";
    io_test::mutator damage(seed,
                            {"{", "}", "[", "]", ",", ":", "\"", "\"a\":", "0", "-1", "1e9", "null", "\\u0000", " ",
                             "\"dtype\":\"F32\"", "\"shape\":[]", "\"data_offsets\":[0,0]", "9223372036854775807"});
    int accepted = 0, rejected = 0;
    for (int i = 0; i < 20'000; ++i) {
        // Half of the time the damage is in the header, and the length before it is right again.
        std::string bytes = safetensors_file_of(header, 37);
        if (damage.below(2) == 0)
            bytes = damage(std::move(bytes));
        else
            bytes = safetensors_file_of(damage(header), 37);
        io_test::counting_resource memory;
        try {
            std::size_t data = 0;
            const state_dict dict = parsed_safetensors(bytes);
            for (const auto& [name, tensor] : dict.tensors()) data += tensor.bytes().size();
            if (data != memory.allocated) FAIL("data and memory differ; seed " << seed << ", case " << i);
            ++accepted;
        } catch (const kdna::error&) {
            ++rejected;
        } catch (const std::exception& e) {
            FAIL("another exception: " << e.what() << "; seed " << seed << ", case " << i);
        }
        if (memory.allocated > bytes.size())
            FAIL("more memory than the file has bytes; seed " << seed << ", case " << i);
    }
    CAPTURE(seed, accepted, rejected);
    CHECK(accepted > 100);
    CHECK(rejected > 10'000);
}
