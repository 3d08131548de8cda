# SPDX-License-Identifier: Apache-2.0
# Compiler flags of everything in this repository, given to a target by moxie_flags().

set(moxie_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wformat=2 -Wundef
    -Wvla -Wwrite-strings -Werror)
set(moxie_c_warnings -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition)

# -ffp-contract=off: results are fixed to the bit, so the compiler must not fuse what the source
# does not fuse. Never fast-math; errno after a math call is of no use to anyone here.
set(moxie_numerics -ffp-contract=off -fno-math-errno)

set(CMAKE_C_FLAGS_RELEASE "-O3 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g3")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g3")
set(CMAKE_C_FLAGS_SANITIZE "-O1 -g")
set(CMAKE_CXX_FLAGS_SANITIZE "-O1 -g")

# Flags, language standards and include folders of one target.
function(moxie_flags target)
    set_target_properties(${target} PROPERTIES
        C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS ON C_VISIBILITY_PRESET hidden
        CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden)
    target_compile_options(${target} PRIVATE ${moxie_warnings} ${moxie_numerics}
        $<$<COMPILE_LANGUAGE:C>:${moxie_c_warnings}>)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include)
    if(moxie_has_cuda)
        target_compile_definitions(${target} PRIVATE MOXIE_CUDA=1)
        target_include_directories(${target} SYSTEM PRIVATE ${MOXIE_CUDA_INCLUDE})
    endif()
    if(MOXIE_SANITIZE)
        target_compile_options(${target} PRIVATE
            -fsanitize=${MOXIE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
        target_link_options(${target} PRIVATE -fsanitize=${MOXIE_SANITIZE})
    endif()
    if(MOXIE_FUZZ)
        target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
    if(MOXIE_COVERAGE)
        # Atomic: ranks may be threads, and a child counts into the same files as its parent.
        target_compile_options(${target} PRIVATE --coverage -fprofile-update=atomic
            -fprofile-abs-path)
        target_link_options(${target} PRIVATE --coverage)
    endif()
endfunction()
