// What the tests of file formats share: temporary folders, expected errors, and damage done at random.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory_resource>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <kdna/core/error.hpp>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace io_test {

// A new folder, removed with everything in it at the end.
class temporary_folder {
public:
    temporary_folder() {
        static std::atomic<unsigned> count{0};
        std::random_device random;
        do {
            path_ = std::filesystem::temp_directory_path() / kdna::concat("kdna-test-", random(), "-", count++);
        } while (!std::filesystem::create_directory(path_));
    }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;
    ~temporary_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    [[nodiscard]] std::size_t files() const {
        std::size_t n = 0;
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++n;
        return n;
    }

private:
    std::filesystem::path path_;
};

inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string read_file(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline std::span<const std::byte> as_bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

using kdna_test::error_of;

/// Each part of an error must contain its text.
inline void check_error(const kdna::error& e, std::string_view where, std::string_view expected,
                        std::string_view found) {
    INFO(e.what());
    INFO("where: " << where << "; expected: " << expected << "; found: " << found);
    CHECK(e.where().find(where) != std::string::npos);
    CHECK(e.expected().find(expected) != std::string::npos);
    CHECK(e.found().find(found) != std::string::npos);
}

/// Counts the bytes that kdna::buffer asks for while it lives.
class counting_resource final : public std::pmr::memory_resource {
public:
    counting_resource() : old_(std::pmr::set_default_resource(this)) {}
    counting_resource(const counting_resource&) = delete;
    counting_resource& operator=(const counting_resource&) = delete;
    ~counting_resource() override { std::pmr::set_default_resource(old_); }

    std::size_t allocated = 0;

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        allocated += bytes;
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

    std::pmr::memory_resource* old_;
};

/// Damages files: flips bits, changes digits, removes, repeats, truncates, inserts noise or tokens of the format. The
/// same on every platform for the same seed.
class mutator {
public:
    mutator(std::uint32_t seed, std::vector<std::string> tokens) : random_(seed), tokens_(std::move(tokens)) {}

    std::size_t below(std::size_t n) { return n == 0 ? 0 : random_() % n; }

    std::string operator()(std::string bytes) {
        const std::size_t times = 1 + below(3);
        for (std::size_t i = 0; i < times; ++i) mutate(bytes);
        return bytes;
    }

private:
    void mutate(std::string& bytes) {
        const std::size_t at = below(bytes.size());
        const std::size_t length = below(std::min<std::size_t>(16, bytes.size() - at + 1));
        switch (below(8)) {
            case 0: bytes.resize(at); break;
            case 1: bytes.erase(at, length); break;
            case 2: bytes.insert(at, 1, static_cast<char>(below(256))); break;
            case 3: bytes.insert(at, bytes.substr(at, length)); break;
            case 4: bytes.insert(at, tokens_[below(tokens_.size())]); break;
            case 5: change_digit(bytes, at); break;
            default:
                if (!bytes.empty())
                    bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ (1U << below(8)));
        }
    }

    void change_digit(std::string& bytes, std::size_t from) {
        const std::size_t at = bytes.find_first_of("0123456789", from);
        if (at != std::string::npos) bytes[at] = static_cast<char>('0' + below(10));
    }

    std::mt19937 random_;
    std::vector<std::string> tokens_;
};

}  // namespace io_test
