# kdna::compiled: everything in the headers that depends on no type of a user's, compiled once. The headers are the same; files
# that link it see declarations instead of definitions (include/kdna/core/config.hpp, KDNA_FUNC).
#
# It is compiled with the flags of the build it is part of. The instruction set is a part of every symbol's name, so a file
# that is compiled for another one does not link with it: the linker then misses kdna's functions.

# kdna_compiled_sources(<target>): what the library is made of.
function(kdna_compiled_sources target)
    set(sources core conv dna nn ops)
    if(TARGET kdna::io)
        list(APPEND sources io models graph train)
    endif()
    list(TRANSFORM sources REPLACE "(.+)" "${PROJECT_SOURCE_DIR}/src/\\1.cpp")
    target_sources(${target} PRIVATE ${sources})
    target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:$<TARGET_NAME_IF_EXISTS:kdna::nlohmann_json>>)
endfunction()

if(KDNA_COMPILED)
    add_library(kdna_compiled STATIC)
    add_library(kdna::compiled ALIAS kdna_compiled)
    set_target_properties(kdna_compiled PROPERTIES EXPORT_NAME compiled POSITION_INDEPENDENT_CODE ON)
    kdna_compiled_sources(kdna_compiled)
    # Part of another project, it is built for those who link it, and not for users of the headers alone.
    if(NOT PROJECT_IS_TOP_LEVEL AND NOT KDNA_INSTALL)
        set_target_properties(kdna_compiled PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
    target_link_libraries(kdna_compiled PUBLIC kdna)
    target_compile_definitions(kdna_compiled PUBLIC KDNA_COMPILED)
    list(APPEND components kdna_compiled)
endif()
