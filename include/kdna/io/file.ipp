// Definitions of file.hpp.
#pragma once

#include <kdna/core/macros_push.hpp>

#include <kdna/io/file.hpp>

namespace kdna::inline KDNA_ABI {

namespace detail {

KDNA_FUNC std::string file_name(const std::filesystem::path& path) {
    return printable(path.string(), std::numeric_limits<std::size_t>::max());
}

KDNA_FUNC std::string last_system_error() {
    return errno != 0 ? std::generic_category().message(errno) : std::string("an unknown error");
}

KDNA_FUNC std::string memory_source::peek(std::size_t n) const {
    std::string out(std::min(n, rest_.size()), '\0');
    if (!out.empty()) std::memcpy(out.data(), rest_.data(), out.size());
    return out;
}

KDNA_FUNC void memory_source::read(std::span<std::byte> out) {
    if (out.size() > rest_.size()) throw error(name_, concat(out.size(), " more bytes"), concat(rest_.size()));
    if (out.empty()) return;
    std::memcpy(out.data(), rest_.data(), out.size());
    rest_ = rest_.subspan(out.size());
}

KDNA_FUNC file_source::file_source(const std::filesystem::path& path) : name_(file_name(path)) {
    // Asked for before opening: a pipe would wait for its writer, and the size of a device says nothing.
    std::error_code failure;
    const auto status = std::filesystem::status(path, failure);
    if (status.type() == std::filesystem::file_type::not_found) throw error(name_, "a file", "no such file");
    if (failure) throw error(name_, "a readable file", failure.message());
    if (std::filesystem::is_directory(status)) throw error(name_, "a file", "a directory");
    if (!std::filesystem::is_regular_file(status)) throw error(name_, "a regular file", "a device, pipe or socket");
    const auto size = std::filesystem::file_size(path, failure);
    if (failure) throw error(name_, "a readable file", failure.message());
    if (!std::in_range<index_t>(size)) throw error(name_, "a file of less than 2^63 bytes", concat(size, " bytes"));
    size_ = static_cast<index_t>(size);
    errno = 0;
    stream_.open(path, std::ios::binary);
    if (!stream_) throw error(name_, "a readable file", last_system_error());
}

KDNA_FUNC std::string file_source::peek(std::size_t n) {
    const auto start = stream_.tellg();
    std::string out(n, '\0');
    stream_.read(out.data(), static_cast<std::streamsize>(n));
    out.resize(static_cast<std::size_t>(stream_.gcount()));
    stream_.clear();
    stream_.seekg(start);
    if (!stream_) throw error(name_, "a readable file", last_system_error());
    return out;
}

KDNA_FUNC void file_source::read(std::span<std::byte> out) {
    if (out.empty()) return;
    stream_.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
    if (!stream_) throw error(name_, concat(out.size(), " more bytes"), concat(stream_.gcount()));
}

KDNA_FUNC void write_bytes(std::ostream& stream, std::span<const std::byte> bytes) {
    stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

KDNA_FUNC void write_bytes(std::ostream& stream, std::string_view text) {
    write_bytes(stream, std::as_bytes(std::span(text)));
}

}  // namespace detail

}  // namespace kdna::inline KDNA_ABI

#include <kdna/core/macros_pop.hpp>
