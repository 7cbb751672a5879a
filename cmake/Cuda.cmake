# kdna::cuda: the CUDA runtime, and the definition without which the headers that need it refuse to be compiled.
find_package(CUDAToolkit 12.0 QUIET)
if(NOT TARGET CUDA::cudart)
    message(FATAL_ERROR "KDNA_ENABLE_CUDA=ON needs the CUDA toolkit, 12.0 or later, which was not found. Point CUDAToolkit_ROOT at it, "
                        "or leave the option off: nothing else of kdna needs it.")
endif()

add_library(kdna_cuda INTERFACE)
add_library(kdna::cuda ALIAS kdna_cuda)
set_target_properties(kdna_cuda PROPERTIES EXPORT_NAME cuda)
target_link_libraries(kdna_cuda INTERFACE kdna CUDA::cudart)
target_compile_definitions(kdna_cuda INTERFACE KDNA_CUDA=1)
# C++20 by its flag: CMake before 3.26 does not know that nvcc has it. The suppressed diagnostics say that nvcc does not know g++'s
# pragma for unrolling, which the CPU's loops use, and that a view of const has a conversion to itself.
target_compile_options(kdna_cuda INTERFACE $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-std=c++20$<SEMICOLON>--diag-suppress=1675,554>)
set(components ${components} kdna_cuda)

# kdna::cudnn, in this build only: an installed package does not know where cuDNN is.
if(KDNA_CUDNN)
    find_path(KDNA_CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
    find_library(KDNA_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT} ${CUDAToolkit_BIN_DIR}/..
                 PATH_SUFFIXES lib64 lib)
    if(NOT KDNA_CUDNN_INCLUDE_DIR OR NOT KDNA_CUDNN_LIBRARY)
        message(FATAL_ERROR "KDNA_CUDNN=ON needs cuDNN 9, which was not found. Set KDNA_CUDNN_INCLUDE_DIR and KDNA_CUDNN_LIBRARY, or "
                            "leave the option off: plain layers then run on kdna's own device functions.")
    endif()
    add_library(kdna_cudnn INTERFACE)
    add_library(kdna::cudnn ALIAS kdna_cudnn)
    target_link_libraries(kdna_cudnn INTERFACE kdna_cuda ${KDNA_CUDNN_LIBRARY})
    target_include_directories(kdna_cudnn SYSTEM INTERFACE ${KDNA_CUDNN_INCLUDE_DIR})
    target_compile_definitions(kdna_cudnn INTERFACE KDNA_CUDNN=1)
endif()

# Tests, examples and benchmarks have device functions in them; users of kdna::cuda enable the language themselves.
if(KDNA_BUILD_TESTS OR KDNA_BUILD_EXAMPLES OR KDNA_BUILD_BENCH)
    if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
        set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_ARCHITECTURES 80-real 90)  # A100; H100, and as PTX everything newer
    endif()
    enable_language(CUDA)
    add_custom_target(kdna_cuda_programs)  # what needs nvcc, and nothing else
endif()

# kdna::cuda_compiled, where the project has enabled CUDA: the device functions compiled once, for CMAKE_CUDA_ARCHITECTURES. A file
# that links it compiles in six tenths of the time (docs/cuda.md).
if(CMAKE_CUDA_COMPILER)
    add_library(kdna_cuda_compiled STATIC EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/src/cuda.cu)
    add_library(kdna::cuda_compiled ALIAS kdna_cuda_compiled)
    set_target_properties(kdna_cuda_compiled PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_link_libraries(kdna_cuda_compiled PUBLIC kdna_cuda $<TARGET_NAME_IF_EXISTS:kdna::io>)
    target_compile_definitions(kdna_cuda_compiled INTERFACE KDNA_CUDA_COMPILED)
endif()
