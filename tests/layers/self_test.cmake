# The include-layer check must name each fault of the headers in bad/.
cmake_minimum_required(VERSION 3.21)

execute_process(COMMAND ${CMAKE_COMMAND} -D ROOT=${CMAKE_CURRENT_LIST_DIR}/bad -P ${CMAKE_CURRENT_LIST_DIR}/check.cmake
                RESULT_VARIABLE status ERROR_VARIABLE output OUTPUT_VARIABLE output)
if(status EQUAL 0)
    message(FATAL_ERROR "the check accepts bad/")
endif()
set(expected
    "kdna/core/upward.hpp: includes <kdna/nn/layer.hpp>: core/ is layer 0, nn/ is layer 5"
    "kdna/core/missing.hpp: includes <kdna/core/nowhere.hpp>, which does not exist"
    "kdna/dna/third_party.hpp: includes <xsimd/xsimd.hpp>: only simd/simd.hpp may include xsimd"
    "kdna/dna/third_party.hpp: includes <nlohmann/json.hpp>: only io/ may include nlohmann"
    "kdna/dna/third_party.hpp: includes <unsupported/Eigen/CXX11/Tensor>: only interop/ may include Eigen"
    "kdna/extras/folder.hpp: the folder extras/ has no layer"
    "kdna/nn/leaf.hpp: includes <kdna/interop/leaf.hpp>: nobody includes interop/"
    "kdna/interop/device.hpp: includes <kdna/cuda/leaf.hpp>: nobody includes cuda/"
    "kdna/interop/device.hpp: mentions cuda: #include <kdna/cuda/leaf.hpp>"
    "kdna/nn/quoted.hpp: includes \"layer.hpp\": headers of kdna are included as <kdna/...>"
    "kdna/nn/umbrella.hpp: includes the umbrella <kdna/kdna.hpp>"
    "kdna/other.hpp: only the umbrellas kdna.hpp, models.hpp and load.hpp, and the facade library.hpp, lie outside a layer's folder"
    "kdna/kdna.hpp: reaches <kdna/io/file.hpp> through kdna/nn/layer.hpp"
    "include layers: 13 failures in ")
foreach(text IN LISTS expected)
    string(FIND "${output}" "${text}" at)
    if(at EQUAL -1)
        message(FATAL_ERROR "the check does not say \"${text}\":\n${output}")
    endif()
endforeach()
