#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <kdna/io/npy.hpp>

#include "io/support.hpp"

namespace {

using io_test::as_bytes;
using io_test::check_error;
using io_test::error_of;
using kdna::index_t;
using kdna::npy_array;

using shape = std::vector<index_t>;

std::string version(char major, char minor = 0) { return std::string("\x93NUMPY") + major + minor; }

std::string little_endian(std::size_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 255U);
    return out;
}

// A file of version 1.0 with this header and as many bytes of data.
std::string npy_file_of(const std::string& header, std::size_t data_bytes = 0) {
    return version(1) + little_endian(header.size(), 2) + header + std::string(data_bytes, '\0');
}

std::string header_of(const std::string& extents) {
    return "{'descr': '<f4', 'fortran_order': False, 'shape': " + extents + ", }\n";
}

npy_array parsed_npy(const std::string& bytes) { return kdna::parse_npy(as_bytes(bytes), "test"); }

void rejects(const std::string& bytes, std::string_view expected, std::string_view found) {
    check_error(error_of([&] { return parsed_npy(bytes); }), "test", expected, found);
}
void rejects_header(const std::string& header, std::string_view expected, std::string_view found) {
    rejects(npy_file_of(header, 24), expected, found);
}
void rejects_shape(const std::string& extents, std::string_view expected, std::string_view found) {
    rejects_header(header_of(extents), expected, found);
}

}  // namespace

TEST_CASE("npy: what is saved is loaded", "[npy]") {
    const io_test::temporary_folder folder;
    const std::array data{1.f, -2.f, 3.f, 1e-40f, 5.f, 6.f};
    for (const shape& extents : {shape{6}, shape{2, 3}, shape{1, 2, 3, 1}}) {
        kdna::save_npy(folder / "x.npy", extents, data);
        const npy_array loaded = kdna::load_npy(folder / "x.npy");
        CHECK(loaded.shape == extents);
        CHECK(std::vector(loaded.data.data(), loaded.data.data() + 6) == std::vector(data.begin(), data.end()));
        CHECK(std::filesystem::file_size(folder / "x.npy") == 128 + 24);
    }
    kdna::save_npy(folder / "x.npy", {}, std::array{7.f});
    CHECK(kdna::load_npy(folder / "x.npy").shape.empty());
    CHECK(kdna::load_npy(folder / "x.npy").data[0] == 7.f);
    kdna::save_npy(folder / "x.npy", {3, 0}, {});
    CHECK(kdna::load_npy(folder / "x.npy").shape == shape{3, 0});
    CHECK(kdna::load_npy(folder / "x.npy").data.size() == 0);
    CHECK(folder.files() == 1);
}

TEST_CASE("npy: files are the bytes that numpy.save writes", "[npy]") {
    const io_test::temporary_folder folder;
    const auto saved_header = [&](const shape& extents, std::size_t count) {
        kdna::save_npy(folder / "x.npy", extents, std::vector<float>(count));
        return io_test::read_file(folder / "x.npy").substr(0, 128);
    };
    const auto numpy_header = [](std::string dict) {
        dict.resize(117, ' ');
        return version(1) + std::string("\x76\0", 2) + dict + '\n';
    };
    CHECK(saved_header({2, 3}, 6) == numpy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
    CHECK(saved_header({4}, 4) == numpy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"));
    CHECK(saved_header({}, 1) == numpy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (), }"));
}

TEST_CASE("npy: versions 1.0, 2.0 and 3.0 are read", "[npy]") {
    const std::string header = header_of("(2,)"), data(8, '\0');
    CHECK(parsed_npy(npy_file_of(header, 8)).shape == shape{2});
    CHECK(parsed_npy(version(2) + little_endian(header.size(), 4) + header + data).shape == shape{2});
    CHECK(parsed_npy(version(3) + little_endian(header.size(), 4) + header + data).shape == shape{2});
    rejects(version(0) + little_endian(header.size(), 2) + header + data, "version 1.0, 2.0 or 3.0", "version 0.0");
    rejects(version(1, 1) + little_endian(header.size(), 2) + header + data, "version 1.0, 2.0 or 3.0", "version 1.1");
    rejects(version(4) + little_endian(header.size(), 4) + header + data, "version 1.0, 2.0 or 3.0", "version 4.0");
    rejects(version('\xff') + little_endian(header.size(), 4) + header + data, "version", "version 255.0");
}

TEST_CASE("npy: a dict may be spelled in several ways", "[npy]") {
    for (const std::string header : {"{\"shape\":(2,3),\"descr\":\"<f4\",\"fortran_order\":False}",
                                     "{ 'fortran_order' : False , 'shape' : ( 2 , 3 , ) , 'descr' : '<f4' , } \n ",
                                     "\n{'descr':'<f4','fortran_order':False,'shape':(2,3)}"}) {
        CAPTURE(header);
        CHECK(parsed_npy(npy_file_of(header, 24)).shape == shape{2, 3});
    }
}

TEST_CASE("npy: empty and short files", "[npy]") {
    rejects("", "a .npy file", "0 bytes");
    rejects(version(1) + "\x10", "a .npy file", "9 bytes");
    rejects(version(2) + std::string(3, '\0'), "a .npy file", "11 bytes");
    rejects(npy_file_of(""), "'{' at byte 0", "the end of the header");
}

TEST_CASE("npy: a file cut anywhere is rejected", "[npy]") {
    for (const char major : {'\1', '\2'}) {
        const std::string header = header_of("(2, 3)");
        const std::string bytes =
            version(major) + little_endian(header.size(), major == 1 ? 2 : 4) + header + std::string(24, '\0');
        CHECK(parsed_npy(bytes).data.size() == 6);
        for (std::size_t length = 0; length < bytes.size(); ++length) {
            CAPTURE(major, length);
            CHECK_THROWS_AS(parsed_npy(bytes.substr(0, length)), kdna::error);
        }
    }
}

TEST_CASE("npy: other files are not taken for one", "[npy]") {
    rejects("PK\3\4 a zip archive, as numpy.savez writes", "starting with \\x93NUMPY", "other bytes");
    rejects("\x93numpy\1\0\0\0", "a .npy file", "");
}

TEST_CASE("npy: a header length beyond the file or beyond reason", "[npy]") {
    const std::string header = header_of("(2,)");
    rejects(version(1) + little_endian(header.size() + 9, 2) + header + "12345678",
            kdna::concat("a header of ", header.size() + 9), kdna::concat(header.size() + 8, " bytes after"));
    rejects(version(1) + "\xff\xff" + header, "a header of 65535 bytes", "bytes after");
    rejects(version(2) + "\xff\xff\xff\xff" + header, "at most 65535 bytes", "4294967295 bytes");
    rejects(version(3) + std::string("\0\0\0\x80", 4) + header, "at most 65535 bytes", "2147483648 bytes");
}

TEST_CASE("npy: other dtypes are named", "[npy]") {
    for (const std::string descr : {"<f8", ">f4", "=f4", "<i8", "|b1", "|O", "<f2", "f4", "<f4 ", ""}) {
        const std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (2, 3), }\n";
        rejects_header(header, "dtype '<f4'", "dtype '" + descr + "'");
    }
    rejects_header("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", "dtype '<f4'", "structured");
    rejects_header("{'descr': '\x1b[31m', 'shape': (2, 3), }", "dtype '<f4'", "\\x1b");
}

TEST_CASE("npy: Fortran order is rejected", "[npy]") {
    rejects_header("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", "C order", "fortran_order: True");
    rejects_header("{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3), }", "True or False", "0, 'shape'");
    rejects_header("{'descr': '<f4', 'fortran_order': 'False', 'shape': (2, 3), }", "True or False", "'False'");
}

TEST_CASE("npy: missing, unknown and repeated keys", "[npy]") {
    rejects_header("{}", "'descr' in the header", "none");
    rejects_header("{'descr': '<f4', 'shape': (2, 3), }", "'fortran_order' in the header", "none");
    rejects_header("{'descr': '<f4', 'fortran_order': False, }", "'shape' in the header", "none");
    rejects_header("{'descr': '<f4', 'order': 'C', }", "the keys descr, fortran_order and shape", "key 'order'");
    rejects_header("{'descr': '<f4', 'descr': '<f4'}", "'descr' once", "twice");
    rejects_header("{'shape': (2, 3), 'shape': (2, 3)}", "'shape' once", "twice");
}

TEST_CASE("npy: what is not the dict of a header", "[npy]") {
    rejects_header("", "'{' at byte 0", "end of the header");
    rejects_header("['descr']", "'{' at byte 0", "['descr']");
    rejects_header("{'descr'", "':' at byte 8", "end of the header");
    rejects_header("{'descr: '<f4'", "':' at byte", "<f4'");
    rejects_header("{descr: '<f4'}", "a quoted string at byte 1", "descr");
    rejects_header("{'descr", "a string that ends", "'descr");
    rejects_header("{,}", "a quoted string", ",}");
    rejects_header("{'descr': '<f4' 'shape': (2, 3)}", "'}' at byte", "'shape'");
    rejects_header(header_of("(2, 3)") + "x", "only white space", "x");
    rejects_header(header_of("(2, 3)") + std::string(1, '\0'), "only white space", "\\x00");
    rejects_header(std::string(60'000, '{'), "a quoted string at byte 1", "{{{");
}

TEST_CASE("npy: what is not a shape", "[npy]") {
    rejects_shape("[2, 3]", "'(' at byte", "[2, 3]");
    rejects_shape("6", "'(' at byte", "6");
    rejects_shape("(6)", "',' after the only extent", ")");
    rejects_shape("(2 3)", "',' after the only extent", "3)");
    rejects_shape("(1, 2 3)", "')' at byte", "3)");
    rejects_shape("(,)", "an extent", ",)");
    rejects_shape("(2,,3)", "an extent", ",3)");
    rejects_shape("(-2, -3)", "an extent", "-2");
    rejects_shape("(+2, 3)", "an extent", "+2");
    rejects_shape("(2.0, 3)", "',' after", ".0");
    rejects_shape("(02, 3)", "leading zeros", "02");
    rejects_shape("(2L, 3L)", "',' after", "L");
    rejects_shape("('2', 3)", "an extent", "'2'");
    rejects_shape("((2, 3))", "an extent", "(2, 3)");
    rejects_shape("(2, 3", "an extent", "}");
    std::string ones = "(1";
    for (int i = 0; i < 32; ++i) ones += ", 1";
    rejects_shape(ones + ")", "at most 32 extents", "1)");
}

TEST_CASE("npy: a shape whose product overflows", "[npy]") {
    rejects_shape("(9223372036854775808,)", "fit in 64 bits", "9223372036854775808");
    rejects_shape("(99999999999999999999999999,)", "fit in 64 bits", "99999999999");
    rejects_shape("(4294967296, 4294967296)", "fits in 64 bits", "4294967296");
    rejects_shape("(4611686018427387910,)", "fits in 64 bits", "4 * ");  // 24 bytes modulo 2^64
    rejects_shape("(0, 9223372036854775807, 2)", "fits in 64 bits", "");
}

TEST_CASE("npy: the data must be as long as the shape says", "[npy]") {
    const std::string header = header_of("(2, 3)");
    rejects(npy_file_of(header, 23), "24 bytes of data for float32 2x3", "23 bytes");
    rejects(npy_file_of(header, 25), "24 bytes of data for float32 2x3", "25 bytes");
    rejects(npy_file_of(header), "24 bytes of data for float32 2x3", "0 bytes");
    rejects(npy_file_of(header_of("(0,)"), 4), "0 bytes of data", "4 bytes");
}

TEST_CASE("npy: claims of a small file allocate nothing", "[npy]") {
    io_test::counting_resource memory;
    rejects_shape("(1073741824, 4)", "17179869184 bytes", "24 bytes");
    CHECK(memory.allocated == 0);
    CHECK(parsed_npy(npy_file_of(header_of("(2, 3)"), 24)).data.size() == 6);
    CHECK(memory.allocated == 24);
}

TEST_CASE("npy: errors name the file", "[npy]") {
    const io_test::temporary_folder folder;
    io_test::write_file(folder / "a.npy", npy_file_of(header_of("(2, 3)"), 20));
    check_error(error_of([&] { return kdna::load_npy(folder / "a.npy"); }), "a.npy", "24 bytes", "20 bytes");
    check_error(error_of([&] { return kdna::load_npy(folder / "b.npy"); }), "b.npy", "a file", "no such file");
    check_error(error_of([&] { return kdna::load_npy(folder.path()); }), "kdna-test-", "a file", "a directory");
}

TEST_CASE("npy: impossible saves leave nothing behind", "[npy]") {
    const io_test::temporary_folder folder;
    const std::array data{1.f, 2.f, 3.f};
    constexpr index_t half = index_t{1} << 62;
    check_error(error_of([&] { kdna::save_npy(folder / "x.npy", {2}, data); }), "x.npy", "float32 2", "3 values");
    check_error(error_of([&] { kdna::save_npy(folder / "x.npy", {-1, -3}, data); }), "x.npy", ">= 0", "-1");
    check_error(error_of([&] { kdna::save_npy(folder / "x.npy", {half}, data); }), "x.npy", "64 bits", "");
    check_error(error_of([&] { kdna::save_npy(folder / "no/x.npy", {3}, data); }), "x.npy", "a writable folder", "");
    check_error(error_of([&] { kdna::save_npy(folder.path(), {3}, data); }), "kdna-test-", "write", "a directory");
    CHECK(folder.files() == 0);
}

TEST_CASE("npy: random damage is either harmless or a kdna::error", "[npy]") {
    constexpr std::uint32_t seed = 20240608;
    const std::string header = header_of("(2, 3)");
    io_test::mutator damage(seed, {"{", "}", "(", ")", ",", ":", "'", "\"", "0", "-1", "1", " ", "True",
                                   "'shape': (), ", "'descr': '<f4', ", "9223372036854775807", std::string(1, '\0')});
    int accepted = 0, rejected = 0;
    for (int i = 0; i < 20'000; ++i) {
        // Half of the time the damage is in the header, and the length before it is right again.
        std::string bytes = npy_file_of(header, 24);
        if (damage.below(2) == 0)
            bytes = damage(std::move(bytes));
        else
            bytes = npy_file_of(damage(header), 24);
        io_test::counting_resource memory;
        try {
            const npy_array array = parsed_npy(bytes);
            index_t count = 1;
            for (const index_t extent : array.shape) count *= extent;
            if (count != array.data.size()) FAIL("shape and data differ; seed " << seed << ", case " << i);
            ++accepted;
        } catch (const kdna::error&) {
            ++rejected;
        } catch (const std::exception& e) {
            FAIL("another exception: " << e.what() << "; seed " << seed << ", case " << i);
        }
        if (memory.allocated > bytes.size()) FAIL("more memory than the file has; seed " << seed << ", case " << i);
    }
    CAPTURE(seed, accepted, rejected);
    CHECK(accepted > 100);
    CHECK(rejected > 10'000);
}
