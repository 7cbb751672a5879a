// Where the file formats read from and write to: sources of bytes whose size is known before anything is believed, and
// files that are replaced as a whole or not at all.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <kdna/core/config.hpp>
#include <kdna/core/error.hpp>
#include <kdna/io/dtype.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

static_assert(std::endian::native == std::endian::little, "kdna::io copies little-endian numbers as they are");

[[nodiscard]] KDNA_FUNC std::string file_name(const std::filesystem::path& path);

[[nodiscard]] KDNA_FUNC std::string last_system_error();

// The sources below share this interface: name() for messages, size() in bytes, peek(n) at most n of the next bytes without
// reading them, read(out) of the next out.size() bytes.

class memory_source {
public:
    memory_source(std::span<const std::byte> bytes, std::string_view name)
        : rest_(bytes), size_(bytes.size()), name_(name) {}

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(size_); }
    [[nodiscard]] KDNA_FUNC std::string peek(std::size_t n) const;
    KDNA_FUNC void read(std::span<std::byte> out);

private:
    std::span<const std::byte> rest_;
    std::size_t size_;
    std::string name_;
};

class file_source {
public:
    KDNA_FUNC explicit file_source(const std::filesystem::path& path);

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] index_t size() const noexcept { return size_; }
    [[nodiscard]] KDNA_FUNC std::string peek(std::size_t n);
    KDNA_FUNC void read(std::span<std::byte> out);

private:
    std::ifstream stream_;
    index_t size_ = 0;
    std::string name_;
};

// Calls write(stream) on a new file beside `path` and gives it that name when everything is in it. Whatever fails,
// `path` is as it was and the new file is gone.
template <class Write>
void replace_file(const std::filesystem::path& path, Write&& write) {
    const std::string name = file_name(path);
    std::error_code ignored;
    const auto status = std::filesystem::status(path, ignored);
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
        throw error(name, "a path to write a file to",
                    std::filesystem::is_directory(status) ? "a directory" : "a device, pipe or socket");

    struct temporary {
        std::filesystem::path path;
        ~temporary() {
            std::error_code unremovable;
            if (!path.empty()) std::filesystem::remove(path, unremovable);
        }
    };
    std::random_device random;
    std::uint64_t number = random();
    number = number << 32U | random();
    temporary file{path.parent_path() / concat(".kdna-", number, ".tmp")};

    errno = 0;
    std::ofstream stream(file.path, std::ios::binary | std::ios::trunc);
    if (!stream) throw error(name, "a writable folder", last_system_error());
    write(static_cast<std::ostream&>(stream));
    stream.close();
    if (!stream) throw error(name, "a file that can be written", last_system_error());
    std::error_code failure;
    std::filesystem::rename(file.path, path, failure);
    if (failure) throw error(name, "a file that can be replaced", failure.message());
    file.path.clear();
}

KDNA_FUNC void write_bytes(std::ostream& stream, std::span<const std::byte> bytes);

KDNA_FUNC void write_bytes(std::ostream& stream, std::string_view text);

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#ifndef KDNA_COMPILED
#include <kdna/io/file.ipp>
#endif

#include <kdna/core/macros_pop.hpp>
