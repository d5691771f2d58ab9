# Helpers of the build: lode_library, lode_test, lode_fuzz.
if(LODE_TESTS)
  find_package(GTest REQUIRED)
endif()
define_property(GLOBAL PROPERTY LODE_TEST_TARGETS)

# lode_library(NAME SOURCES ... DEPS ...): the static library lode_NAME of folder src/NAME.
function(lode_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(lode_${name} STATIC ${ARG_SOURCES})
  target_include_directories(lode_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  foreach(dep ${ARG_DEPS})
    target_link_libraries(lode_${name} PUBLIC lode_${dep})
  endforeach()
  target_link_libraries(lode_${name} PUBLIC ${ARG_LIBS})
endfunction()

# lode_test(NAME SOURCES ... DEPS ... [LABELS long]): a GoogleTest program, run by ctest as one test.
# Test data is found through compile definitions; ../shared is optional (tests/support/shared.h).
function(lode_test name)
  if(NOT LODE_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  foreach(dep ${ARG_DEPS})
    target_link_libraries(${name} PRIVATE lode_${dep})
  endforeach()
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${name} PRIVATE
    LODE_SOURCE_DIR="${PROJECT_SOURCE_DIR}" LODE_BINARY_DIR="${PROJECT_BINARY_DIR}")
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} GTest::gtest GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(CMAKE_CROSSCOMPILING)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 6")  # an emulator runs it
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()

# lode_fuzz(NAME SOURCE DEPS ...): with LODE_FUZZ (clang) a libFuzzer program; always a test that
# replays tests/corpus/NAME through the same entry point, so a found crash stays found.
function(lode_fuzz name source)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  if(LODE_FUZZ)
    add_executable(${name} ${source})
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  elseif(LODE_TESTS)
    add_executable(${name} ${source} ${PROJECT_SOURCE_DIR}/tests/support/replay_main.cc)
    add_test(NAME ${name}_replays_its_corpus
             COMMAND ${name} ${PROJECT_SOURCE_DIR}/tests/corpus/${name})
    set_tests_properties(${name}_replays_its_corpus PROPERTIES TIMEOUT 120)
  else()
    return()
  endif()
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  foreach(dep ${ARG_DEPS})
    target_link_libraries(${name} PRIVATE lode_${dep})
  endforeach()
  target_link_libraries(${name} PRIVATE ${ARG_LIBS})
endfunction()
