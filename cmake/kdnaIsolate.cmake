# kdna_isolate(): several instruction sets in one program. Installed with the package.
#
#   kdna_isolate(<target> OBJECTS <object library>... EXPORT <function>... [ARCHIVES <static library>...])
#
# makes the static library <target> of the object libraries, which were compiled with -march flags of their own. Of all their
# symbols only the exported functions stay global. The linker merges inline functions and templates of one name, those of the
# standard library among them, and keeps one copy for the whole program; a copy compiled for AVX-512 crashes older
# processors. Local symbols cannot be merged, so each isolated library keeps and calls its own copies.
#
#   add_library(layer_v3 OBJECT layer.cpp)
#   target_link_libraries(layer_v3 PRIVATE kdna::kdna)
#   target_compile_options(layer_v3 PRIVATE -march=x86-64-v3)
#   target_compile_definitions(layer_v3 PRIVATE RUN=run_v3)
#   kdna_isolate(layer_v3_isolated OBJECTS layer_v3 EXPORT mine::run_v3)
#   target_link_libraries(app PRIVATE layer_v3_isolated layer_baseline_isolated)
#
# OBJECTS   object libraries, all compiled for one instruction set and without -flto.
# EXPORT    functions or variables, without parameters: `run_v3`, `mine::run_v3`; all overloads are exported. Symbols as nm
#           prints them are taken as well.
# ARCHIVES  static libraries that the objects use and that are compiled for the same instruction set: the members that the
#           objects need become part of <target>. Other libraries are linked to <target> or to the program, as always.
#
# It needs GNU ld 2.29 or later (lld: 19) and objcopy, whichever compiler is used. Exceptions pass through exported functions.

# --- at build time: cmake -D NM= -D OBJCOPY= -D LD= -D OBJECTS= -D ARCHIVES= -D EXPORTS= -D OUTPUT= -P kdnaIsolate.cmake
if(CMAKE_SCRIPT_MODE_FILE AND CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
    cmake_minimum_required(VERSION 3.21)
    function(kdna_isolate_run)
        execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err)
        if(status)
            list(JOIN ARGN " " command)
            message(FATAL_ERROR "kdna_isolate: ${command}\n${out}${err}")
        endif()
        set(out "${out}" PARENT_SCOPE)
    endfunction()
    # The defined global symbols of an object, and which of them are GNU's unique ones.
    function(kdna_isolate_symbols object)
        kdna_isolate_run(${NM} --defined-only --extern-only ${object})
        string(REGEX MATCHALL "[A-Za-z] [^ \n]+\n" lines "${out}")
        set(symbols "${lines}")
        list(TRANSFORM symbols REPLACE "^. ([^\n]+)\n" "\\1")
        set(symbols "${symbols}" PARENT_SCOPE)
        list(FILTER lines INCLUDE REGEX "^u ")
        list(TRANSFORM lines REPLACE "^. ([^\n]+)\n" "\\1")
        set(unique "${lines}" PARENT_SCOPE)
    endfunction()

    get_filename_component(name ${OUTPUT} NAME_WE)
    get_filename_component(folder ${OUTPUT} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    set(whole ${OUTPUT}.whole)
    file(REMOVE ${OUTPUT})

    # One object. Groups that a linker would merge with those of other objects become ordinary sections.
    kdna_isolate_run(${LD} -r --force-group-allocation -o ${whole} ${OBJECTS} ${ARCHIVES})
    kdna_isolate_symbols(${whole})

    # What an export is called in the object: itself, or _Z1f... for f and _ZN1a1fE... for a::f.
    set(kept "")
    foreach(export IN LISTS EXPORTS)
        string(REPLACE "::" ";" parts "${export}")
        set(mangled "")
        foreach(part IN LISTS parts)
            string(LENGTH "${part}" length)
            string(APPEND mangled "${length}${part}")
        endforeach()
        list(LENGTH parts depth)
        if(depth GREATER 1)
            set(mangled "N${mangled}E")
        endif()
        set(found "${symbols}")
        if(export MATCHES "^[A-Za-z0-9_:]+$")
            list(FILTER found INCLUDE REGEX "^(${export}|_Z${mangled}.*)$")
        else()
            set(found "")
        endif()
        if(NOT found)
            message(FATAL_ERROR "kdna_isolate: ${name}: no object defines ${export} (or the objects were compiled with -flto)")
        endif()
        list(APPEND kept ${found})
    endforeach()

    # objcopy leaves unique symbols alone; weak ones can be made local.
    list(JOIN kept "\n" lines)
    file(WRITE ${OUTPUT}.kept "${lines}\n")
    list(JOIN unique "\n" lines)
    file(WRITE ${OUTPUT}.unique "${lines}\n")
    kdna_isolate_run(${OBJCOPY} --weaken-symbols=${OUTPUT}.unique ${whole})
    kdna_isolate_run(${OBJCOPY} --keep-global-symbols=${OUTPUT}.kept ${whole} ${OUTPUT})
    file(REMOVE ${whole})

    kdna_isolate_symbols(${OUTPUT})
    list(REMOVE_ITEM symbols ${kept})
    if(symbols)
        file(REMOVE ${OUTPUT})
        list(JOIN symbols "\n  " lines)
        message(FATAL_ERROR "kdna_isolate: ${name}: ${OBJCOPY} left these symbols global:\n  ${lines}")
    endif()
    return()
endif()

# --- in a project
set(KDNA_ISOLATE_FILE ${CMAKE_CURRENT_LIST_FILE} CACHE INTERNAL "kdnaIsolate.cmake")

# The first linker that can make a relocatable object without groups: CMake's own, or GNU ld.
function(kdna_isolate_find_linker)
    if(KDNA_ISOLATE_LD)
        return()
    endif()
    get_filename_component(folder "${CMAKE_OBJCOPY}" DIRECTORY)
    string(REGEX REPLACE "(ld\\.lld|ld\\.gold|ld)$" "ld.bfd" bfd "${CMAKE_LINKER}")
    foreach(linker IN ITEMS ${CMAKE_LINKER} ${bfd} ${CMAKE_CXX_COMPILER_TARGET}-ld ld.bfd ld)
        execute_process(COMMAND ${linker} --help RESULT_VARIABLE status OUTPUT_VARIABLE help ERROR_QUIET)
        if(status EQUAL 0 AND help MATCHES "force-group-allocation")
            set(KDNA_ISOLATE_LD ${linker} CACHE INTERNAL "The linker of kdna_isolate")
            return()
        endif()
    endforeach()
endfunction()

function(kdna_isolate target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "OBJECTS;EXPORT;ARCHIVES")
    if(NOT arg_OBJECTS OR NOT arg_EXPORT OR arg_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "kdna_isolate(<target> OBJECTS <object library>... EXPORT <function>... [ARCHIVES <library>...])")
    endif()
    kdna_isolate_find_linker()
    if(NOT KDNA_ISOLATE_LD OR NOT CMAKE_OBJCOPY OR NOT CMAKE_NM)
        message(FATAL_ERROR "kdna_isolate: needs objcopy, nm and a linker with --force-group-allocation (GNU ld 2.29, lld 19)")
    endif()

    set(objects "")
    foreach(library IN LISTS arg_OBJECTS)
        list(APPEND objects $<TARGET_OBJECTS:${library}>)
    endforeach()
    set(archives "")
    foreach(library IN LISTS arg_ARCHIVES)
        list(APPEND archives $<TARGET_FILE:${library}>)
    endforeach()
    set(output ${CMAKE_CURRENT_BINARY_DIR}/kdna_isolate/${target}.o)
    get_property(multi GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
    if(multi)
        set(output ${CMAKE_CURRENT_BINARY_DIR}/kdna_isolate/$<CONFIG>/${target}.o)
    endif()
    add_custom_command(
        OUTPUT ${output}
        COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D OBJCOPY=${CMAKE_OBJCOPY} -D LD=${KDNA_ISOLATE_LD} -D "OBJECTS=${objects}"
                -D "ARCHIVES=${archives}" -D "EXPORTS=${arg_EXPORT}" -D OUTPUT=${output} -P ${KDNA_ISOLATE_FILE}
        DEPENDS ${objects} ${archives} ${arg_ARCHIVES} ${KDNA_ISOLATE_FILE}
        COMMENT "Isolating ${target}"
        VERBATIM)
    add_library(${target} STATIC ${output})
    set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
endfunction()
