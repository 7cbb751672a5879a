# Cross compilation for 64-bit ARM with Debian's g++-aarch64-linux-gnu; programs run under qemu-user.
#
#   cmake -S . -B build/aarch64 --toolchain cmake/toolchains/aarch64-linux-gnu.cmake -DKDNA_NATIVE=OFF
#
# Header-only dependencies are taken from this machine's /usr/include, one symbolic link each: the folder as a whole has the
# headers of another processor.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(kdna_triple aarch64-linux-gnu)
set(CMAKE_C_COMPILER ${kdna_triple}-gcc)
set(CMAKE_CXX_COMPILER ${kdna_triple}-g++)

find_program(KDNA_QEMU_AARCH64 NAMES qemu-aarch64 qemu-aarch64-static)
mark_as_advanced(KDNA_QEMU_AARCH64)
if(KDNA_QEMU_AARCH64)
    set(CMAKE_CROSSCOMPILING_EMULATOR ${KDNA_QEMU_AARCH64} -L /usr/${kdna_triple})
endif()

get_property(kdna_in_try_compile GLOBAL PROPERTY IN_TRY_COMPILE)
set(kdna_headers_root ${CMAKE_BINARY_DIR}/headers_of_any_processor)
if(NOT kdna_in_try_compile)
    file(MAKE_DIRECTORY ${kdna_headers_root}/include)
    foreach(folder xsimd nlohmann catch2 eigen3 CLI)
        if(EXISTS /usr/include/${folder} AND NOT EXISTS ${kdna_headers_root}/include/${folder})
            file(CREATE_LINK /usr/include/${folder} ${kdna_headers_root}/include/${folder} SYMBOLIC)
        endif()
    endforeach()
endif()

set(CMAKE_FIND_ROOT_PATH /usr/${kdna_triple} ${kdna_headers_root})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
