# What `cmake --install` puts where, and the Debian package (`cpack -G DEB`). Included last, when
# the program is known; without it (a build of fuzzers only) there is nothing to install.
if(NOT TARGET lode)
  return()
endif()
include(GNUInstallDirs)

# Completion scripts come from the program itself, so they cannot be older than its flags.
set(LODE_COMPLETIONS "")
foreach(shell bash zsh fish)
  set(script ${PROJECT_BINARY_DIR}/completion/lode.${shell})
  add_custom_command(OUTPUT ${script}
                     COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/completion
                     COMMAND lode completion ${shell} > ${script}
                     DEPENDS lode VERBATIM)
  list(APPEND LODE_COMPLETIONS ${script})
endforeach()
add_custom_target(completion ALL DEPENDS ${LODE_COMPLETIONS})

install(TARGETS lode RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${PROJECT_BINARY_DIR}/completion/lode.bash
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME lode)
install(FILES ${PROJECT_BINARY_DIR}/completion/lode.zsh
        DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions RENAME _lode)
install(FILES ${PROJECT_BINARY_DIR}/completion/lode.fish
        DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
install(FILES README.md THIRD_PARTY.md LICENSE NOTICE docs/CLI.md
        DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/lode)
install(FILES NOTICE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/lode RENAME copyright)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME lode)
set(CPACK_PACKAGE_VENDOR "The Lode authors")
set(CPACK_PACKAGE_CONTACT "The Lode authors")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_DESCRIPTION
    "One native program for open-weight models whose layers are Mamba-2, attention and mixtures of
 experts. It reads GGUF files and Hugging Face folders and carries a small model inside.")
set(CPACK_PACKAGE_FILE_NAME lode_${PROJECT_VERSION}_${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS ca-certificates)  # for `lode pull`
find_program(LODE_SHLIBDEPS dpkg-shlibdeps)
if(LODE_SHLIBDEPS)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
else()
  set(CPACK_DEBIAN_PACKAGE_DEPENDS  # Debian 12's names
      "libc6, libgcc-s1, libstdc++6, libhwy1, libcurl4, libssl3, libpcre2-8-0, libutf8proc2, "
      "libzstd1")
endif()
include(CPack)

if(LODE_TESTS)
  # A sanitized program would start with its runtime's demands; what is packaged is the plain one.
  add_test(NAME install_is_complete
           COMMAND ${CMAKE_COMMAND} -DBUILD=${PROJECT_BINARY_DIR} -DVERSION=${PROJECT_VERSION}
                   -P ${PROJECT_SOURCE_DIR}/cmake/install_test.cmake)
  set_tests_properties(install_is_complete PROPERTIES TIMEOUT 120)
  find_program(LODE_DPKG_DEB dpkg-deb)
  if(LODE_DPKG_DEB AND NOT LODE_SANITIZE)
    add_test(NAME package_is_complete
             COMMAND ${CMAKE_COMMAND} -DBUILD=${PROJECT_BINARY_DIR} -DVERSION=${PROJECT_VERSION}
                     -DDPKG_DEB=${LODE_DPKG_DEB}
                     -P ${PROJECT_SOURCE_DIR}/cmake/package_test.cmake)
    set_tests_properties(package_is_complete PROPERTIES TIMEOUT 300 LABELS long)
  endif()
endif()
