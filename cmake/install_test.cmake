# A test: installs the build into a fresh folder and looks whether what a user needs is there and
# runs.
set(prefix ${BUILD}/install_test)
file(REMOVE_RECURSE ${prefix})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix}
                RESULT_VARIABLE failed OUTPUT_QUIET)
if(failed)
  message(FATAL_ERROR "the installation failed")
endif()
execute_process(COMMAND ${prefix}/bin/lode --version OUTPUT_VARIABLE version RESULT_VARIABLE failed)
if(failed OR NOT version MATCHES "lode ${VERSION}")
  message(FATAL_ERROR "the installed program says '${version}', not version ${VERSION}")
endif()
foreach(file share/bash-completion/completions/lode share/zsh/vendor-completions/_lode
        share/fish/vendor_completions.d/lode.fish share/doc/lode/LICENSE share/doc/lode/NOTICE
        share/doc/lode/THIRD_PARTY.md share/doc/lode/README.md share/doc/lode/copyright)
  if(NOT EXISTS ${prefix}/${file})
    message(FATAL_ERROR "${file} is not installed")
  endif()
endforeach()
file(READ ${prefix}/share/bash-completion/completions/lode script)
foreach(verb chat generate inspect pull)
  if(NOT script MATCHES "${verb}")
    message(FATAL_ERROR "the completion script does not know '${verb}'")
  endif()
endforeach()
file(REMOVE_RECURSE ${prefix})
