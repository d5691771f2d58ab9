# A test: makes the Debian package and looks whether it names the libraries that the program loads.
set(folder ${BUILD}/package_test)
file(REMOVE_RECURSE ${folder})
get_filename_component(bin ${CMAKE_COMMAND} DIRECTORY)
execute_process(COMMAND ${bin}/cpack -G DEB -B ${folder} WORKING_DIRECTORY ${BUILD}
                RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
file(GLOB package ${folder}/lode_${VERSION}_*.deb)
if(failed OR NOT package)
  message(FATAL_ERROR "cpack made no package:\n${output}")
endif()
execute_process(COMMAND ${DPKG_DEB} --field ${package} Package Version Depends
                OUTPUT_VARIABLE fields)
foreach(want "Package: lode\n" "Version: ${VERSION}\n" libc6 libstdc\\+\\+6 libhwy1 libcurl4 libssl3
        libpcre2-8-0 libutf8proc2 libzstd1)
  if(NOT fields MATCHES "${want}")
    message(FATAL_ERROR "the package does not name ${want}:\n${fields}")
  endif()
endforeach()
execute_process(COMMAND ${DPKG_DEB} --contents ${package} OUTPUT_VARIABLE contents)
foreach(want /usr/bin/lode /usr/share/doc/lode/copyright
        /usr/share/bash-completion/completions/lode)
  if(NOT contents MATCHES "${want}")
    message(FATAL_ERROR "the package does not hold ${want}:\n${contents}")
  endif()
endforeach()
file(REMOVE_RECURSE ${folder})
