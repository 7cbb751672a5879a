# Install rules, the CMake package and the pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/kdna)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/kdna DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp"
        PATTERN "*.ipp")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# One export per component, so that a user without a component's dependency can load the others.
foreach(component IN LISTS components)
    string(REPLACE "_" "-" export ${component})
    install(TARGETS ${component} EXPORT ${export})
    install(EXPORT ${export} NAMESPACE kdna:: FILE ${export}-targets.cmake DESTINATION ${package_dir})
endforeach()

# The variants of libkdna for newer processors, where the loader looks for them; the export has the first.
foreach(arch IN LISTS kdna_library_variants)
    string(REPLACE "-" "_" name ${arch})
    install(TARGETS kdna_library_${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/glibc-hwcaps/${arch} NAMELINK_SKIP)
endforeach()

# Headers that were downloaded, not found, go along in a folder of their own.
get_property(fetched GLOBAL PROPERTY KDNA_FETCHED_HEADERS)
if(fetched)
    install(DIRECTORY ${fetched} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kdna_deps)
endif()

configure_package_config_file(cmake/kdnaConfig.cmake.in ${PROJECT_BINARY_DIR}/kdnaConfig.cmake
                              INSTALL_DESTINATION ${package_dir} PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/kdnaConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/kdnaConfig.cmake ${PROJECT_BINARY_DIR}/kdnaConfigVersion.cmake cmake/kdnaFindHeaders.cmake
              cmake/kdnaIsolate.cmake
        DESTINATION ${package_dir})

set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
file(RELATIVE_PATH pkgconfig_prefix /prefix/${pkgconfig_dir} /prefix)
string(REGEX REPLACE "/$" "" pkgconfig_prefix ${pkgconfig_prefix})
set(pkgconfig_requires "Requires: xsimd >= 8.0")
set(pkgconfig_cflags "")
if(fetched MATCHES "/xsimd(;|$)")
    set(pkgconfig_requires "")
    set(pkgconfig_cflags " -I\${includedir}/kdna_deps")
endif()
configure_file(cmake/kdna.pc.in ${PROJECT_BINARY_DIR}/kdna.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/kdna.pc DESTINATION ${pkgconfig_dir})
