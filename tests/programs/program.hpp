// Running an example program as its users do.
#pragma once

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <kdna/core/error.hpp>

#include "support/catch.hpp"

namespace kdna_test {

namespace fs = std::filesystem;

/// A folder of its own, removed at the end.
struct scratch_folder {
    fs::path path = fs::temp_directory_path() / kdna::concat("kdna_program_test_", getpid());
    scratch_folder() { fs::create_directories(path); }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;
    ~scratch_folder() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
    [[nodiscard]] std::string operator/(const char* name) const { return (path / name).string(); }
};

struct outcome {
    int code;
    std::string output;  ///< standard output and error
};

/// Runs a program with the shell's help.
inline outcome run(const std::string& program, const scratch_folder& folder, const std::string& arguments) {
    const std::string log = folder / "log";
    const int status = std::system(kdna::concat("'", program, "' ", arguments, " > '", log, "' 2>&1").c_str());
    std::ifstream file(log);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, {std::istreambuf_iterator<char>(file), {}}};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace kdna_test

#endif
