// IDX files of unsigned bytes, the format of MNIST and its relatives: plain or gzipped.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <kdna/core/arithmetic.hpp>
#include <kdna/core/error.hpp>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace examples {

using kdna::index_t;

/// What an IDX file holds: unsigned bytes, row-major.
struct idx_array {
    std::vector<index_t> shape;
    std::vector<std::uint8_t> values;
};

namespace detail {

/// A file that zlib reads, unpacking it if it is packed.
class gz_file {
public:
    explicit gz_file(const std::filesystem::path& path) : name_(path.string()) {
        std::error_code ignored;
        if (!std::filesystem::is_regular_file(path, ignored)) throw kdna::error(name_, "a file", "none");
        file_.reset(gzopen(name_.c_str(), "rb"));
        if (file_ == nullptr) throw kdna::error(name_, "a readable file", "one that cannot be opened");
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    /// Reads up to out.size() bytes, fewer only at the end of the file.
    [[nodiscard]] std::size_t read_some(std::span<std::uint8_t> out) {
        const int count = gzread(file_.get(), out.data(), static_cast<unsigned>(out.size()));
        int status = Z_OK;
        std::string_view message = gzerror(file_.get(), &status);
        if (count >= 0 && (status == Z_OK || status == Z_STREAM_END)) return static_cast<std::size_t>(count);
        if (message.starts_with(name_ + ": ")) message.remove_prefix(name_.size() + 2);
        throw kdna::error(name_, "intact gzip data", status == Z_ERRNO ? "a read error" : std::string(message));
    }
    void read(std::span<std::uint8_t> out, const char* what) {
        if (const auto count = read_some(out); count != out.size())
            throw kdna::error(name_, kdna::concat(out.size(), " bytes of ", what),
                              kdna::concat(count, ", then the end"));
    }

private:
    struct close {
        void operator()(gzFile_s* file) const noexcept { gzclose_r(file); }
    };
    std::string name_;
    std::unique_ptr<gzFile_s, close> file_;
};

}  // namespace detail

/// Reads an IDX file of `rank` axes: two zero bytes, 8 (unsigned bytes), the rank, big-endian extents, the values. Any
/// bytes are safe to read. Throws kdna::error naming the file, what was expected there and what was found.
inline idx_array load_idx(const std::filesystem::path& path, std::size_t rank) {
    constexpr index_t largest = index_t{1} << 30;
    detail::gz_file file(path);
    std::array<std::uint8_t, 4> magic{};
    file.read(magic, "magic number");
    if (magic[0] != 0 || magic[1] != 0 || magic[2] != 8 || magic[3] != rank)
        throw kdna::error(file.name(), kdna::concat("IDX magic 0 0 8 ", rank),
                          kdna::concat(int{magic[0]}, " ", int{magic[1]}, " ", int{magic[2]}, " ", int{magic[3]}));
    idx_array out;
    index_t size = 1;
    for (std::size_t axis = 0; axis < rank; ++axis) {
        std::array<std::uint8_t, 4> bytes{};
        file.read(bytes, "extents");
        index_t extent = 0;
        for (const std::uint8_t b : bytes) extent = extent * 256 + b;
        out.shape.push_back(extent);
        size = kdna::checked_mul(size, extent, file.name());
        if (size > largest)
            throw kdna::error(file.name(), kdna::concat("at most ", largest, " values"), "extents of more");
    }
    // Memory grows with what the file really has, not with what its header says.
    while (static_cast<index_t>(out.values.size()) < size) {
        const std::size_t at = out.values.size();
        const auto step = static_cast<std::size_t>(std::min<index_t>(size - static_cast<index_t>(at), 1 << 20));
        out.values.resize(at + step);
        file.read(std::span(out.values).subspan(at), "values");
    }
    std::array<std::uint8_t, 1> more{};
    if (file.read_some(more) != 0) throw kdna::error(file.name(), kdna::concat(size, " values"), "more");
    return out;
}

/// Grey images and the class of each.
struct labelled_images {
    index_t count = 0, rows = 0, columns = 0;
    std::vector<std::uint8_t> pixels;  ///< [count][rows][columns]
    std::vector<std::uint8_t> labels;  ///< [count]

    [[nodiscard]] std::span<const std::uint8_t> image(index_t i) const {
        const auto size = static_cast<std::size_t>(rows * columns);
        return std::span(pixels).subspan(static_cast<std::size_t>(i) * size, size);
    }
    [[nodiscard]] int label(index_t i) const { return labels[static_cast<std::size_t>(i)]; }
};

/// Throws kdna::error if the two files do not belong together or a label is not below `classes`.
inline labelled_images load_labelled_images(const std::filesystem::path& images, const std::filesystem::path& labels,
                                            int classes) {
    idx_array x = load_idx(images, 3), y = load_idx(labels, 1);
    if (x.values.empty()) throw kdna::error(images.string(), "at least one image", "none");
    if (x.shape[0] != y.shape[0])
        throw kdna::error(labels.string(), kdna::concat(x.shape[0], " labels, one an image"), kdna::concat(y.shape[0]));
    for (const std::uint8_t label : y.values)
        if (label >= classes)
            throw kdna::error(labels.string(), kdna::concat("labels below ", classes), kdna::concat(int{label}));
    return {x.shape[0], x.shape[1], x.shape[2], std::move(x.values), std::move(y.values)};
}

}  // namespace examples
