// Definitions of npy.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <array>
#include <cstring>
#include <limits>
#include <ostream>
#include <string>
#include <utility>

#include <kdna/core/error.hpp>
#include <kdna/io/dtype.hpp>
#include <kdna/io/file.hpp>
#include <kdna/io/npy.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

inline constexpr std::string_view npy_magic = "\x93NUMPY";

// The header of a .npy file is a Python dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. This reads
// that and nothing else of Python.
class npy_header {
public:
    npy_header(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

    [[nodiscard]] std::vector<index_t> read_shape() {
        bool has_descr = false, has_order = false, has_shape = false;
        std::vector<index_t> shape;
        expect('{');
        while (!accept('}')) {
            const std::string_view key = string();
            expect(':');
            if (key == "descr") {
                once(key, has_descr);
                read_descr();
            } else if (key == "fortran_order") {
                once(key, has_order);
                read_order();
            } else if (key == "shape") {
                once(key, has_shape);
                shape = tuple();
            } else {
                throw error(where_, "the keys descr, fortran_order and shape", concat("key '", printable(key), "'"));
            }
            if (accept(',')) continue;
            expect('}');
            break;
        }
        if (peek() != end) fail("only white space after the header's dict");
        require("descr", has_descr);
        require("fortran_order", has_order);
        require("shape", has_shape);
        return shape;
    }

private:
    static constexpr int end = -1;

    // The next character that is not white space.
    int peek() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
        return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : end;
    }
    bool accept(char c) {
        if (peek() != c) return false;
        ++at_;
        return true;
    }
    void expect(char c) {
        if (!accept(c)) fail(concat("'", c, "'"));
    }
    [[noreturn]] void fail(std::string_view expected) {
        const bool at_end = peek() == end;
        throw error(where_, concat(expected, " at byte ", at_, " of the header"),
                    at_end ? std::string("the end of the header") : printable(text_.substr(at_), 20));
    }
    void once(std::string_view key, bool& seen) const {
        if (seen) throw error(where_, concat("'", key, "' once in the header"), "it twice");
        seen = true;
    }
    void require(std::string_view key, bool seen) const {
        if (!seen) throw error(where_, concat("'", key, "' in the header"), "none");
    }

    std::string_view string() {
        const int quote = peek();
        if (quote != '\'' && quote != '"') fail("a quoted string");
        const std::size_t close = text_.find(static_cast<char>(quote), at_ + 1);
        if (close == std::string_view::npos) fail("a string that ends");
        const std::string_view out = text_.substr(at_ + 1, close - at_ - 1);
        at_ = close + 1;
        return out;
    }

    void read_descr() {
        const int first = peek();
        if (first != '\'' && first != '"') throw error(where_, "dtype '<f4'", "a structured dtype");
        const std::string_view descr = string();
        if (descr != "<f4") throw error(where_, "dtype '<f4'", concat("dtype '", printable(descr), "'"));
    }

    void read_order() {
        peek();
        if (text_.substr(at_).starts_with("True")) throw error(where_, "C order", "fortran_order: True");
        if (!text_.substr(at_).starts_with("False")) fail("True or False");
        at_ += std::string_view("False").size();
    }

    std::vector<index_t> tuple() {
        std::vector<index_t> out;
        expect('(');
        while (!accept(')')) {
            if (out.size() == max_rank) fail(concat("a shape of at most ", max_rank, " extents"));
            out.push_back(extent());
            if (accept(',')) continue;
            if (out.size() == 1) fail("',' after the only extent");  // (3) is a number in Python, not a tuple
            expect(')');
            break;
        }
        return out;
    }

    index_t extent() {
        constexpr index_t limit = std::numeric_limits<index_t>::max();
        const auto is_digit = [](int c) { return c >= '0' && c <= '9'; };
        if (!is_digit(peek())) fail("an extent >= 0");
        const std::size_t begin = at_;
        index_t value = 0;
        for (; at_ < text_.size() && is_digit(text_[at_]); ++at_) {
            const index_t digit = text_[at_] - '0';
            if (value > (limit - digit) / 10)
                throw error(where_, "extents that fit in 64 bits", printable(text_.substr(begin), 40));
            value = value * 10 + digit;
        }
        if (text_[begin] == '0' && at_ - begin > 1)
            throw error(where_, "extents without leading zeros", printable(text_.substr(begin), 20));
        return value;
    }

    std::string_view text_;
    std::string where_;
    std::size_t at_ = 0;
};

template <class Source>
[[nodiscard]] npy_array read_npy(Source& in) {
    std::array<std::byte, 12> fixed{};
    index_t used = 10;  // magic, version, 2 bytes of header length
    if (in.size() < used) throw error(in.name(), "a .npy file", concat(in.size(), " bytes"));
    in.read(std::span(fixed).first(10));
    if (std::memcmp(fixed.data(), npy_magic.data(), npy_magic.size()) != 0)
        throw error(in.name(), "a .npy file, starting with \\x93NUMPY", "other bytes");
    const int major = std::to_integer<int>(fixed[6]), minor = std::to_integer<int>(fixed[7]);
    if (major < 1 || major > 3 || minor != 0)
        throw error(in.name(), "a .npy file of version 1.0, 2.0 or 3.0", concat("version ", major, ".", minor));
    if (major > 1) {
        used = 12;
        if (in.size() < used) throw error(in.name(), "a .npy file", concat(in.size(), " bytes"));
        in.read(std::span(fixed).last(2));
    }
    index_t length = 0;
    for (index_t i = used; i-- > 8;)
        length = length * 256 + std::to_integer<index_t>(fixed[static_cast<std::size_t>(i)]);

    // Later versions allow more, but only structured dtypes need it.
    constexpr index_t max_header = 65535;
    if (length > max_header)
        throw error(in.name(), concat("a header of at most ", max_header, " bytes"), concat(length, " bytes"));
    if (length > in.size() - used)
        throw error(in.name(), concat("a header of ", length, " bytes, as the file says"),
                    concat(in.size() - used, " bytes after its length"));
    std::string header(static_cast<std::size_t>(length), '\0');
    in.read(std::as_writable_bytes(std::span(header)));
    used += length;

    npy_array out;
    out.shape = npy_header(header, in.name()).read_shape();
    const index_t bytes = byte_count(dtype::f32, out.shape, in.name());
    if (bytes != in.size() - used)
        throw error(in.name(), concat(bytes, " bytes of data for ", kdna::to_string(dtype::f32, out.shape)),
                    concat(in.size() - used, " bytes"));
    out.data = buffer<float>(bytes / size_of(dtype::f32));
    in.read(std::as_writable_bytes(out.data.span()));
    return out;
}

}  // namespace detail

KDNA_FUNC npy_array parse_npy(std::span<const std::byte> bytes, std::string_view source) {
    detail::memory_source in(bytes, source);
    return detail::read_npy(in);
}

KDNA_FUNC npy_array load_npy(const std::filesystem::path& path) {
    detail::file_source in(path);
    return detail::read_npy(in);
}

KDNA_FUNC void save_npy(const std::filesystem::path& path, const std::vector<index_t>& shape,
                        std::span<const float> data) {
    const std::string name = detail::file_name(path);
    if (detail::byte_count(dtype::f32, shape, name) != static_cast<index_t>(data.size_bytes()))
        throw error(name, concat("data for ", to_string(dtype::f32, shape)), concat(data.size(), " values"));

    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
    for (std::size_t i = 0; i < shape.size(); ++i) header += concat(i > 0 ? ", " : "", shape[i]);
    header += shape.size() == 1 ? ",), }" : "), }";
    // As NumPy does: a newline at the end, and the data at a multiple of 64 bytes.
    constexpr std::size_t before = 10;  // magic, version, header length
    while ((before + header.size() + 1) % 64 != 0) header += ' ';
    header += '\n';
    const std::array<char, 4> version_and_length{'\1', '\0', static_cast<char>(header.size() & 255U),
                                                 static_cast<char>(header.size() >> 8U)};
    detail::replace_file(path, [&](std::ostream& out) {
        detail::write_bytes(out, detail::npy_magic);
        detail::write_bytes(out, std::as_bytes(std::span(version_and_length)));
        detail::write_bytes(out, header);
        detail::write_bytes(out, std::as_bytes(data));
    });
}

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
