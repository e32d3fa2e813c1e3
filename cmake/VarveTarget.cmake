# What every target of ours has in common.
function(varve_settings target)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wno-missing-field-initializers
    # GCC 12 sees ghosts in inlined standard library code and in coroutine frames.
    -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread)
  # A lease's arithmetic and a forecast are the same on every machine (DESIGN: reproducible).
  target_compile_options(${target} PRIVATE -ffp-contract=off)
  if(VARVE_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(VARVE_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=${VARVE_SANITIZE} -fno-omit-frame-pointer)
    if(VARVE_SANITIZE MATCHES undefined)
      # Null is a fault without a check, and vptr looks at each use of a CAF actor: together a quarter of the compile time.
      target_compile_options(${target} PUBLIC -fno-sanitize=null,vptr)
    endif()
    target_link_options(${target} PUBLIC -fsanitize=${VARVE_SANITIZE})
  endif()
endfunction()

# varve_library(NAME sources...): a static library varve_NAME.
function(varve_library name)
  add_library(varve_${name} STATIC ${ARGN})
  varve_settings(varve_${name})
endfunction()

# Builds every Boost.Test program and nothing else.
add_custom_target(unit_tests)

# Tests are compiled without optimization, which takes a third of the time; what they test is optimized as ever.
function(varve_test_settings target)
  varve_settings(${target})
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release,RelWithDebInfo>:-O0>)
  target_compile_definitions(${target} PRIVATE BOOST_TEST_DYN_LINK)
endfunction()

# varve_test(NAME [OPTIMIZED] LIBS libs... SOURCES sources...): a Boost.Test program test_NAME, one CTest test.
# OPTIMIZED: its own code does much of the work. VARVE_TEST_PREFIX tells the tests of several build folders apart in one
# CTest run; those that VARVE_TEST_ONLY (a regular expression) does not match are left out.
function(varve_test name)
  cmake_parse_arguments(arg "OPTIMIZED" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(test_${name} EXCLUDE_FROM_ALL ${arg_SOURCES})
  if(arg_OPTIMIZED)
    varve_settings(test_${name})
    target_compile_definitions(test_${name} PRIVATE BOOST_TEST_DYN_LINK)
  else()
    varve_test_settings(test_${name})
    target_precompile_headers(test_${name} REUSE_FROM varve_test_headers)
  endif()
  target_link_libraries(test_${name} PRIVATE varve_test_main ${arg_LIBS}
    # Unoptimized, a file that includes coroutines refers to their memory, used or not.
    $<TARGET_NAME_IF_EXISTS:varve_reactor>)
  if(NOT name MATCHES "${VARVE_TEST_ONLY}")
    return()
  endif()
  set_target_properties(test_${name} PROPERTIES EXCLUDE_FROM_ALL FALSE)
  add_dependencies(unit_tests test_${name})
  add_test(NAME ${VARVE_TEST_PREFIX}${name} COMMAND test_${name} --color_output=no)
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(VARVE_SANITIZE)
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 5")
  endif()
  set_tests_properties(${VARVE_TEST_PREFIX}${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "unit;${arg_LABELS}")
endfunction()
