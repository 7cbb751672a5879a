// Puts away macros of the file that includes a header of kdna, so that they do not change it: those of widespread libraries whose
// names the headers use too. Every header begins with this one, before any other, and ends with macros_pop.hpp, which puts them
// back; tools/guard_headers.py writes and checks both lines. A header may include others, which do the same.
//
// There is no include guard: each header takes away what is defined when it is read.
#include <kdna/core/guard.hpp>

#if defined(min) || defined(max)
#error "kdna: min or max is a macro, most likely one of windows.h: define NOMINMAX before it is included"
#include <compilation_stopped_because_of_the_error_above>
#endif

// g++ takes an array bound that is an int template parameter for a change of sign. Real ones are clang's to find, which the tests
// ask.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
#endif

// Frameworks' assertions and logs: Apple's AssertMacros, Unreal, test frameworks.
#pragma push_macro("Assert")
#undef Assert
#pragma push_macro("assume")
#undef assume
#pragma push_macro("check")
#undef check
#pragma push_macro("ensure")
#undef ensure
#pragma push_macro("expect")
#undef expect
#pragma push_macro("fail")
#undef fail
#pragma push_macro("info")
#undef info
#pragma push_macro("log")
#undef log
#pragma push_macro("pass")
#undef pass
#pragma push_macro("require")
#undef require
#pragma push_macro("test")
#undef test
#pragma push_macro("trace")
#undef trace
#pragma push_macro("unlikely")
#undef unlikely
#pragma push_macro("likely")
#undef likely
#pragma push_macro("verify")
#undef verify
#pragma push_macro("warn")
#undef warn
#pragma push_macro("warning")
#undef warning

// C and its libraries: complex.h, math.h, stdnoreturn.h, old string and type headers.
#pragma push_macro("abs")
#undef abs
#pragma push_macro("complex")
#undef complex
#pragma push_macro("error")
#undef error
#pragma push_macro("imaginary")
#undef imaginary
#pragma push_macro("index")
#undef index
#pragma push_macro("isfinite")
#undef isfinite
#pragma push_macro("isinf")
#undef isinf
#pragma push_macro("isnan")
#undef isnan
#pragma push_macro("length")
#undef length
#pragma push_macro("noreturn")
#undef noreturn
#pragma push_macro("pixel")
#undef pixel
#pragma push_macro("round")
#undef round
#pragma push_macro("signbit")
#undef signbit
#pragma push_macro("swap")
#undef swap
#pragma push_macro("vector")
#undef vector

// curses, Arduino, X11, Qt.
#pragma push_macro("Always")
#undef Always
#pragma push_macro("Bool")
#undef Bool
#pragma push_macro("BOOL")
#undef BOOL
#pragma push_macro("border")
#undef border
#pragma push_macro("box")
#undef box
#pragma push_macro("clear")
#undef clear
#pragma push_macro("constrain")
#undef constrain
#pragma push_macro("degrees")
#undef degrees
#pragma push_macro("emit")
#undef emit
#pragma push_macro("erase")
#undef erase
#pragma push_macro("False")
#undef False
#pragma push_macro("forever")
#undef forever
#pragma push_macro("foreach")
#undef foreach
#pragma push_macro("move")
#undef move
#pragma push_macro("None")
#undef None
#pragma push_macro("radians")
#undef radians
#pragma push_macro("refresh")
#undef refresh
#pragma push_macro("scroll")
#undef scroll
#pragma push_macro("signals")
#undef signals
#pragma push_macro("slots")
#undef slots
#pragma push_macro("sq")
#undef sq
#pragma push_macro("Status")
#undef Status
#pragma push_macro("Success")
#undef Success
#pragma push_macro("timeout")
#undef timeout
#pragma push_macro("True")
#undef True
#pragma push_macro("word")
#undef word

// Windows.
#pragma push_macro("CONST")
#undef CONST
#pragma push_macro("DELETE")
#undef DELETE
#pragma push_macro("ERROR")
#undef ERROR
#pragma push_macro("far")
#undef far
#pragma push_macro("IN")
#undef IN
#pragma push_macro("interface")
#undef interface
#pragma push_macro("near")
#undef near
#pragma push_macro("OPTIONAL")
#undef OPTIONAL
#pragma push_macro("OUT")
#undef OUT
#pragma push_macro("pascal")
#undef pascal
#pragma push_macro("small")
#undef small

// One letter: I is complex.h's, F Arduino's, N anybody's.
#pragma push_macro("A")
#undef A
#pragma push_macro("B")
#undef B
#pragma push_macro("C")
#undef C
#pragma push_macro("D")
#undef D
#pragma push_macro("E")
#undef E
#pragma push_macro("F")
#undef F
#pragma push_macro("G")
#undef G
#pragma push_macro("H")
#undef H
#pragma push_macro("I")
#undef I
#pragma push_macro("J")
#undef J
#pragma push_macro("K")
#undef K
#pragma push_macro("L")
#undef L
#pragma push_macro("M")
#undef M
#pragma push_macro("N")
#undef N
#pragma push_macro("O")
#undef O
#pragma push_macro("P")
#undef P
#pragma push_macro("Q")
#undef Q
#pragma push_macro("R")
#undef R
#pragma push_macro("S")
#undef S
#pragma push_macro("T")
#undef T
#pragma push_macro("U")
#undef U
#pragma push_macro("V")
#undef V
#pragma push_macro("W")
#undef W
#pragma push_macro("X")
#undef X
#pragma push_macro("Y")
#undef Y
#pragma push_macro("Z")
#undef Z
