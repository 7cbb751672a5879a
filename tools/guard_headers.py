#!/usr/bin/env python3
"""guard_headers.py [--check] [ROOT]: every header under ROOT/kdna (default: include/) begins with <kdna/core/macros_push.hpp>,
before any other include, and ends with <kdna/core/macros_pop.hpp>.

Without --check it adds the lines that are missing. With --check it changes nothing, names the headers that lack one, and ends with
1 if there are any, or if the two headers differ in their macros."""

import pathlib
import re
import sys

PUSH = "#include <kdna/core/macros_push.hpp>"
POP = "#include <kdna/core/macros_pop.hpp>"
# The first of all headers, and the two themselves.
WITHOUT = {"kdna/core/guard.hpp", "kdna/core/macros_push.hpp", "kdna/core/macros_pop.hpp"}


def code_of(text):
    """The lines that are neither blank, nor a comment, nor `#pragma once`."""
    lines = (line.rstrip() for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("//") and line != "#pragma once"]


def is_guarded(text):
    code = code_of(text)
    return len(code) > 1 and code[0] == PUSH and code[-1] == POP and code.count(PUSH) == code.count(POP) == 1


def guarded(text):
    """The text with both lines: behind `#pragma once`, or else behind the opening comment, and at the end."""
    text = re.sub(rf"^(?:{re.escape(PUSH)}|{re.escape(POP)})\n\n?", "", text.rstrip() + "\n", flags=re.MULTILINE)
    lines = text.rstrip().split("\n")
    if "#pragma once" in lines:
        at = lines.index("#pragma once") + 1
    else:
        at = next((i for i, line in enumerate(lines) if not line.startswith("//")), len(lines))
    while at < len(lines) and not lines[at]:
        del lines[at]
    return "\n".join([*lines[:at], "", PUSH, "", *lines[at:], "", POP, ""])


def names(path, pragma):
    return re.findall(rf'^#pragma {pragma}\("(\w+)"\)$', path.read_text(encoding="utf-8"), re.MULTILINE)


def main():
    arguments = sys.argv[1:]
    check = "--check" in arguments
    arguments = [a for a in arguments if a != "--check"]
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent.parent / "include")
    headers = sorted(p for ending in ("hpp", "ipp") for p in (root / "kdna").rglob(f"*.{ending}"))
    if not headers:
        sys.exit(f"no headers under {root}/kdna")

    failures = []
    for header in headers:
        name = header.relative_to(root).as_posix()
        if name in WITHOUT:
            continue
        text = header.read_text(encoding="utf-8")
        if is_guarded(text):
            continue
        if not check:
            header.write_text(guarded(text), encoding="utf-8")
            print(f"{name}: guarded")
            continue
        code = code_of(text)
        if not code or code[0] != PUSH:
            failures.append(f"{name}: its first line of code is not {PUSH}")
        if not code or code[-1] != POP:
            failures.append(f"{name}: its last line of code is not {POP}")
        if code.count(PUSH) > 1 or code.count(POP) > 1:
            failures.append(f"{name}: macros are put away or back more than once")

    core = root / "kdna/core"
    if (core / "macros_push.hpp").exists():
        if names(core / "macros_push.hpp", "push_macro") != names(core / "macros_pop.hpp", "pop_macro"):
            failures.append("kdna/core/macros_push.hpp and macros_pop.hpp differ in their macros")

    for failure in failures:
        print(failure)
    print(f"guards: {len(headers)} headers, {len(failures) or 'no'} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
