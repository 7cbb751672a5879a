// What the example programs have in common: arguments by CLI11, and errors as one line and exit code 2.
#pragma once

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <iostream>
#include <string>

namespace examples {

/// Parses the arguments, then runs `body`. Returns its result, 0 after --help, or 2 with one line on standard error for
/// bad arguments and for any exception, kdna::error first of all.
inline int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        if (e.get_exit_code() == 0) return app.exit(e);  // --help
        std::cerr << app.get_name() << ": " << e.what() << "\n";
        return 2;
    }
    try {
        return body();
    } catch (const std::exception& e) {
        std::cerr << app.get_name() << ": " << e.what() << "\n";
        return 2;
    }
}

}  // namespace examples
