// Tests of functions that end the program, where processes can be forked.
#pragma once

#include <string>

#if defined(__unix__) || defined(__APPLE__)
#define KDNA_TEST_DEATH 1
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace kdna_test {

/// Runs f() in a child process. Returns what it wrote to stderr if it ended by abort(), and a complaint otherwise.
template <class F>
std::string last_words(F&& f) {
    int ends[2];
    if (pipe(ends) != 0) return "no pipe";
    const pid_t child = fork();
    if (child < 0) return "no fork";
    if (child == 0) {
        std::signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        f();
        _exit(0);
    }
    close(ends[1]);
    std::string text;
    char part[256];
    for (ssize_t n = 0; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(n));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? text : "did not abort: " + text;
}

}  // namespace kdna_test
#endif
