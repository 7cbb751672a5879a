# Dependencies: what is installed, else (KDNA_FETCH_DEPS) a pinned download. A source tree given as
# FETCHCONTENT_SOURCE_DIR_<NAME> is used before anything that is installed.
if(POLICY CMP0135)  # downloaded files get the time of their extraction
    cmake_policy(SET CMP0135 NEW)
endif()
include(FetchContent)
include(${CMAKE_CURRENT_LIST_DIR}/kdnaFindHeaders.cmake)

# Archives of one commit each, which need no git; the comment is the release.
set(kdna_url_xsimd https://github.com/xtensor-stack/xsimd/archive/e88a72831858123924f7118f345dfe5d70d95991.tar.gz)  # 14.3.0
set(kdna_url_nlohmann_json https://github.com/nlohmann/json/archive/9cca280a4d0ccf0c08f47a99aa71d1b0e52f8d03.tar.gz)  # 3.11.3
set(kdna_url_Eigen3 https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz)
set(kdna_url_CLI11 https://github.com/CLIUtils/CLI11/archive/cbd58a3696887b34c70949aef21a71735a0c2ad5.tar.gz)  # 2.7.2
set(kdna_url_stb https://github.com/nothings/stb/archive/31c1ad37456438565541f4919958214b6e762fb4.tar.gz)  # 2026-04-15
set(kdna_url_Catch2 https://github.com/catchorg/Catch2/archive/fa43b77429ba76c462b1898d6cd2f2d7a9416b14.tar.gz)  # 3.7.1
set(kdna_url_benchmark https://github.com/google/benchmark/archive/192ef10025eb2c4cdd392bc502f0c852196baa48.tar.gz)  # 1.9.5
set(kdna_url_ZLIB https://github.com/madler/zlib/archive/51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf.tar.gz)  # 1.3.1

# Where the headers of a header-only package are in its sources, and which of them kdna's install takes along.
set(kdna_root_xsimd include)
set(kdna_parts_xsimd xsimd)
set(kdna_root_nlohmann_json include)
set(kdna_parts_nlohmann_json nlohmann)
set(kdna_root_Eigen3 .)
set(kdna_parts_Eigen3 Eigen unsupported)
set(kdna_root_CLI11 include)
set(kdna_root_stb .)

function(kdna_find_CLI11)
    kdna_find_headers(kdna::CLI11 PACKAGE CLI11 HEADER CLI/CLI.hpp TARGETS CLI11::CLI11 ${ARGN})
endfunction()
function(kdna_find_stb)
    kdna_find_headers(kdna::stb PACKAGE stb HEADER stb_image_write.h SUFFIXES stb ${ARGN})
endfunction()

# Whether to look for an installed package at all.
function(kdna_has_source_override result name)
    string(TOUPPER "FETCHCONTENT_SOURCE_DIR_${name}" override)
    set(${result} FALSE PARENT_SCOPE)
    if(${override})
        set(${result} TRUE PARENT_SCOPE)
    endif()
endfunction()

# Downloads a package; <name>_SOURCE_DIR in lower case is set for the caller. Its own CMakeLists.txt is not used.
macro(kdna_download name)
    message(STATUS "kdna: ${name} is taken from ${kdna_url_${name}}")
    FetchContent_Declare(${name} URL ${kdna_url_${name}} SOURCE_SUBDIR not-used)
    FetchContent_MakeAvailable(${name})
endmacro()

# kdna_dependency(<name> [REQUIRED]): makes kdna::<name> of a header-only package.
function(kdna_dependency name)
    kdna_has_source_override(override ${name})
    if(NOT override)
        cmake_language(CALL kdna_find_${name} GLOBAL)
    endif()
    if(NOT TARGET kdna::${name} AND (override OR KDNA_FETCH_DEPS))
        kdna_download(${name})
        string(TOLOWER ${name} lower)
        add_library(kdna::${name} INTERFACE IMPORTED GLOBAL)
        target_include_directories(kdna::${name} INTERFACE ${${lower}_SOURCE_DIR}/${kdna_root_${name}})
        foreach(part IN LISTS kdna_parts_${name})
            set_property(GLOBAL APPEND PROPERTY KDNA_FETCHED_HEADERS ${${lower}_SOURCE_DIR}/${kdna_root_${name}}/${part})
        endforeach()
    endif()
    if(NOT TARGET kdna::${name} AND "REQUIRED" IN_LIST ARGN)
        message(FATAL_ERROR "kdna needs ${name}, which is not installed. Install it (Debian, Ubuntu: tools/setup.sh), "
                            "point CMAKE_PREFIX_PATH at it, or set KDNA_FETCH_DEPS=ON to download it.")
    endif()
endfunction()

# kdna::Catch2, version 2 or 3; tests/support/main.cpp has the main function for version 2.
function(kdna_dependency_Catch2)
    kdna_has_source_override(override Catch2)
    if(NOT override)
        find_package(Catch2 3 QUIET)
        if(NOT Catch2_FOUND)
            find_package(Catch2 2 QUIET)
        endif()
    endif()
    if(NOT TARGET Catch2::Catch2 AND (override OR KDNA_FETCH_DEPS))
        message(STATUS "kdna: Catch2 is taken from ${kdna_url_Catch2}")
        FetchContent_Declare(Catch2 URL ${kdna_url_Catch2})
        FetchContent_MakeAvailable(Catch2)
    endif()
    if(NOT TARGET Catch2::Catch2)
        message(FATAL_ERROR "kdna's tests need Catch2 (2.13 or later), which is not installed. KDNA_FETCH_DEPS=ON downloads it.")
    endif()
    add_library(kdna_catch2 INTERFACE)
    add_library(kdna::Catch2 ALIAS kdna_catch2)
    if(TARGET Catch2::Catch2WithMain)
        target_link_libraries(kdna_catch2 INTERFACE Catch2::Catch2WithMain)
    else()
        target_link_libraries(kdna_catch2 INTERFACE Catch2::Catch2)
    endif()
endfunction()

# kdna::benchmark; none if it cannot be had.
function(kdna_dependency_benchmark)
    kdna_has_source_override(override benchmark)
    if(NOT override)
        find_package(benchmark QUIET)
    endif()
    if(NOT TARGET benchmark::benchmark AND (override OR KDNA_FETCH_DEPS))
        message(STATUS "kdna: benchmark is taken from ${kdna_url_benchmark}")
        set(BENCHMARK_ENABLE_TESTING OFF)
        set(BENCHMARK_ENABLE_INSTALL OFF)
        set(BENCHMARK_ENABLE_WERROR OFF)
        set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
        FetchContent_Declare(benchmark URL ${kdna_url_benchmark})
        FetchContent_MakeAvailable(benchmark)
    endif()
    if(TARGET benchmark::benchmark)
        add_library(kdna_benchmark INTERFACE)
        add_library(kdna::benchmark ALIAS kdna_benchmark)
        target_link_libraries(kdna_benchmark INTERFACE benchmark::benchmark)
    endif()
endfunction()

# kdna::ZLIB; none if it cannot be had. A macro, called at the top: a language is enabled for the whole project or not at all.
macro(kdna_dependency_ZLIB)
    kdna_has_source_override(zlib_override ZLIB)
    if(NOT zlib_override)
        find_package(ZLIB QUIET)
    endif()
    if(NOT zlib_override AND ZLIB_FOUND)
        add_library(kdna_zlib INTERFACE)
        target_link_libraries(kdna_zlib INTERFACE ZLIB::ZLIB)
    elseif(zlib_override OR KDNA_FETCH_DEPS)
        kdna_download(ZLIB)
        enable_language(C)
        file(GLOB zlib_sources ${zlib_SOURCE_DIR}/*.c)
        add_library(kdna_zlib STATIC ${zlib_sources})
        target_include_directories(kdna_zlib SYSTEM PUBLIC ${zlib_SOURCE_DIR})
        if(UNIX)
            target_compile_definitions(kdna_zlib PRIVATE HAVE_UNISTD_H)
        endif()
    endif()
    if(TARGET kdna_zlib)
        add_library(kdna::ZLIB ALIAS kdna_zlib)
    endif()
endmacro()
