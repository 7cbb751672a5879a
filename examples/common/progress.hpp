// A progress bar on standard error, where that is a terminal.
#pragma once

#include <cstdio>
#include <kdna/core/config.hpp>
#include <string>
#include <utility>
#ifdef _WIN32
#include <io.h>
#else
#include <unistd.h>
#endif

namespace examples {

/// Draws one line over and over and wipes it at the end. Does nothing if standard error goes to a file or a pipe.
class progress_bar {
public:
    progress_bar(std::string label, kdna::index_t total)
        : label_(std::move(label)), total_(total), shown_(is_terminal()) {}
    progress_bar(const progress_bar&) = delete;
    progress_bar& operator=(const progress_bar&) = delete;
    ~progress_bar() {
        if (shown_) std::fputs("\r\x1b[K", stderr);  // to the start of the line, and clear it
    }

    void update(kdna::index_t done) {
        constexpr int width = 40;
        const int percent = static_cast<int>(done * 100 / total_), filled = percent * width / 100;
        if (!shown_ || percent == percent_) return;
        percent_ = percent;
        const std::string bar = std::string(static_cast<std::size_t>(filled), '#') +
                                std::string(static_cast<std::size_t>(width - filled), '.');
        std::fprintf(stderr, "\r%s [%s] %3d %%", label_.c_str(), bar.c_str(), percent);
        std::fflush(stderr);
    }

private:
    static bool is_terminal() {
#ifdef _WIN32
        return _isatty(_fileno(stderr)) != 0;
#else
        return isatty(STDERR_FILENO) != 0;
#endif
    }
    std::string label_;
    kdna::index_t total_;
    bool shown_;
    int percent_ = -1;
};

}  // namespace examples
