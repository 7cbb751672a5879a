# kdna_dev: the flags that the tests, examples and benchmarks of this repository are compiled with. Never exported.
include(CheckCXXCompilerFlag)
find_package(Threads REQUIRED)
set(CMAKE_CXX_EXTENSIONS OFF)

add_library(kdna_dev INTERFACE)
target_link_libraries(kdna_dev INTERFACE kdna::kdna Threads::Threads)

if(MSVC)
    set(kdna_warnings /W4 $<$<BOOL:${KDNA_WERROR}>:/WX>)
else()
    set(kdna_warnings -Wall -Wextra -Wpedantic -Wconversion -Wshadow $<$<BOOL:${KDNA_WERROR}>:-Werror>)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
        list(APPEND kdna_warnings -Wno-restrict)  # false alarms in std::string (GCC bug 105651)
    endif()
endif()

# -march, unless the instruction set is left to the compiler's default.
set(kdna_arch_flags "")
if(KDNA_ARCH)
    set(kdna_arch_flags -march=${KDNA_ARCH})
elseif(KDNA_NATIVE)
    check_cxx_compiler_flag(-march=native KDNA_HAS_MARCH_NATIVE)
    if(KDNA_HAS_MARCH_NATIVE)
        set(kdna_arch_flags -march=native)
    endif()
endif()
target_compile_options(kdna_dev INTERFACE ${kdna_warnings} ${kdna_arch_flags})

if(KDNA_SANITIZE)
    list(JOIN KDNA_SANITIZE "," sanitizers)
    target_compile_options(kdna_dev INTERFACE -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(kdna_dev INTERFACE -fsanitize=${sanitizers})
endif()

# What tests, examples and benchmarks link: kdna::compiled, unless they are to be compiled from the headers alone.
set(kdna_library "")
if(TARGET kdna_compiled)
    target_compile_options(kdna_compiled PRIVATE $<TARGET_PROPERTY:kdna_dev,INTERFACE_COMPILE_OPTIONS>)
    if(NOT KDNA_HEADER_ONLY)
        set(kdna_library kdna::compiled)
    endif()
endif()

# Known-answer cases that lie beside the source tree, if they do.
set(kdna_shared_default "")
if(EXISTS ${PROJECT_SOURCE_DIR}/../shared/golden)
    get_filename_component(kdna_shared_default ${PROJECT_SOURCE_DIR}/../shared ABSOLUTE)
endif()
set(KDNA_SHARED_DIR "${kdna_shared_default}" CACHE PATH "Folder with further known-answer cases in golden/ and keys/")
