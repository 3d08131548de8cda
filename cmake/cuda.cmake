# SPDX-License-Identifier: Apache-2.0
# CUDA, when it is there: nvcc for the kernels, and the header of the driver API. Nothing is linked:
# libcuda.so.1 is opened at run time. CMake's own CUDA language is not used, since everything must
# configure without a CUDA toolkit, too.
#
# Sets moxie_has_cuda, and if it is OFF moxie_cuda_missing: why, in the words of `moxie info`.

set(MOXIE_CUDA AUTO CACHE STRING "Kernels for NVIDIA GPUs: AUTO (when nvcc is there), ON or OFF")
set_property(CACHE MOXIE_CUDA PROPERTY STRINGS AUTO ON OFF)
set(cuda_folders $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
find_program(MOXIE_NVCC nvcc HINTS ${cuda_folders} PATH_SUFFIXES bin DOC "CUDA compiler")
find_path(MOXIE_CUDA_INCLUDE cuda.h HINTS ${cuda_folders}
    PATH_SUFFIXES include targets/${CMAKE_SYSTEM_PROCESSOR}-linux/include
    DOC "Folder of the header of the CUDA driver API")
mark_as_advanced(MOXIE_NVCC MOXIE_CUDA_INCLUDE)

# sm_100a came with 12.8.
set(nvcc_version_min 12.8)
set(nvcc_version 0)
if(MOXIE_NVCC)
    execute_process(COMMAND ${MOXIE_NVCC} --version OUTPUT_VARIABLE nvcc_says ERROR_QUIET)
    if(nvcc_says MATCHES "release ([0-9]+\\.[0-9]+)")
        set(nvcc_version ${CMAKE_MATCH_1})
    endif()
endif()

set(moxie_has_cuda OFF)
if(NOT MOXIE_CUDA AND NOT MOXIE_CUDA STREQUAL "AUTO")
    set(moxie_cuda_missing "it was built with MOXIE_CUDA=OFF")
elseif(NOT MOXIE_NVCC)
    set(moxie_cuda_missing "nvcc was not found when it was built")
elseif(nvcc_version VERSION_LESS nvcc_version_min)
    set(moxie_cuda_missing
        "nvcc was ${nvcc_version} when it was built, and ${nvcc_version_min} is needed")
elseif(NOT MOXIE_CUDA_INCLUDE)
    set(moxie_cuda_missing "cuda.h was not found when it was built")
else()
    set(moxie_has_cuda ON)
endif()
if(MOXIE_CUDA AND NOT MOXIE_CUDA STREQUAL "AUTO" AND NOT moxie_has_cuda)
    message(FATAL_ERROR "MOXIE_CUDA is ${MOXIE_CUDA}, but ${moxie_cuda_missing}")
endif()

# What the library's kernels cost, or why there are none.
set(moxie_kernels_report ${PROJECT_BINARY_DIR}/kernels.txt)

# Machine code for Hopper and Blackwell, and PTX that the driver compiles for any other GPU from
# Ampere on. Numbers are those of the CPU to the bit: no contraction, subnormals kept, division and
# square root rounded correctly. Compressed, the library is 3 MB and not 7.
set(moxie_nvcc_flags -std=c++17 -O3 -fmad=false -ftz=false -prec-div=true -prec-sqrt=true
    -Werror all-warnings --threads 0 -Xfatbin=-compress-all
    -gencode=arch=compute_90a,code=sm_90a
    -gencode=arch=compute_100a,code=sm_100a
    -gencode=arch=compute_80,code=compute_80)

# moxie_kernels(NAME REPORT FOLDER): compiles src/FOLDER/kernels.cu, and what it includes, into one fatbin,
# and has kernels.c beside it embed that (driver/image.h). Only that object waits for the fatbin: if a
# target depended on NAME, all of its sources would, and those of every target linked with it.
function(moxie_kernels name report folder)
    set(source ${PROJECT_SOURCE_DIR}/src/${folder}/kernels.cu)
    set(fatbin ${PROJECT_BINARY_DIR}/${name}.fatbin)
    add_custom_command(OUTPUT ${fatbin} BYPRODUCTS ${report}
        COMMAND ${PROJECT_SOURCE_DIR}/tools/kernels.sh ${fatbin} ${report}
            ${MOXIE_NVCC} ${moxie_nvcc_flags} -I${PROJECT_SOURCE_DIR}/src
            -I${PROJECT_SOURCE_DIR}/include -MD -MF ${fatbin}.d ${source}
        DEPENDS ${source} ${PROJECT_SOURCE_DIR}/tools/kernels.sh DEPFILE ${fatbin}.d
        COMMENT "CUDA kernels ${folder}/kernels.cu" VERBATIM)
    add_custom_target(${name} DEPENDS ${fatbin})
    set_source_files_properties(src/${folder}/kernels.c DIRECTORY src PROPERTIES
        OBJECT_DEPENDS ${fatbin} COMPILE_DEFINITIONS KERNELS_FILE="${fatbin}")
endfunction()
