# SPDX-License-Identifier: Apache-2.0
# The page of `moxie report`: modules in src/report/page and ECharts, bundled into one file that the
# program carries. ECharts and the bundler come by npm, at the versions of package-lock.json.
#
# Sets moxie_has_report, and if it is OFF moxie_report_missing: why, and how to get it.

set(MOXIE_REPORT AUTO CACHE STRING "The page of moxie report: AUTO (when npm is there), ON or OFF")
set_property(CACHE MOXIE_REPORT PROPERTY STRINGS AUTO ON OFF)
find_program(MOXIE_NODE node DOC "Node.js, for the page of moxie report")
find_program(MOXIE_NPM npm DOC "npm, for the page of moxie report")
mark_as_advanced(MOXIE_NODE MOXIE_NPM)

set(moxie_page_folder ${PROJECT_SOURCE_DIR}/src/report/page)
set(moxie_npm_folder ${PROJECT_BINARY_DIR}/npm)

# Fetches what package-lock.json names into the build folder, once. What only checks and tests need
# stays out of builds that run neither.
function(moxie_fetch_packages out_problem)
    set(${out_problem} "" PARENT_SCOPE)
    configure_file(${moxie_page_folder}/package.json ${moxie_npm_folder}/package.json COPYONLY)
    configure_file(${moxie_page_folder}/package-lock.json ${moxie_npm_folder}/package-lock.json COPYONLY)
    set(fetched ${moxie_npm_folder}/fetched)
    if(NOT ${moxie_npm_folder}/package-lock.json IS_NEWER_THAN ${fetched})
        return()
    endif()
    set(without)
    if(MOXIE_SANITIZE OR MOXIE_FUZZ OR MOXIE_COVERAGE)
        set(without --omit=dev)
    endif()
    execute_process(
        COMMAND ${MOXIE_NPM} ci ${without} --ignore-scripts --no-audit --no-fund --no-update-notifier
            --prefer-offline --fetch-retries=1 --fetch-retry-mintimeout=1000
        WORKING_DIRECTORY ${moxie_npm_folder} TIMEOUT 240 RESULT_VARIABLE result
        OUTPUT_FILE ${moxie_npm_folder}/fetch.log ERROR_FILE ${moxie_npm_folder}/fetch.log)
    if(result EQUAL 0)
        file(TOUCH ${fetched})
    else()
        set(${out_problem} "npm could not fetch ECharts (npm/fetch.log in the build folder says why)"
            PARENT_SCOPE)
    endif()
endfunction()

set(moxie_has_report OFF)
set(report_remedy
    "install nodejs and npm, and configure and build again (make clean, make), with access to an npm registry")
if(NOT MOXIE_REPORT AND NOT MOXIE_REPORT STREQUAL "AUTO")
    set(moxie_report_missing "it was built with MOXIE_REPORT=OFF")
elseif(NOT MOXIE_NODE OR NOT MOXIE_NPM)
    set(moxie_report_missing "npm was not found when it was built: ${report_remedy}")
else()
    moxie_fetch_packages(problem)
    if(problem)
        set(moxie_report_missing "${problem}: ${report_remedy}")
    else()
        set(moxie_has_report ON)
    endif()
endif()
if(MOXIE_REPORT AND NOT MOXIE_REPORT STREQUAL "AUTO" AND NOT moxie_has_report)
    message(FATAL_ERROR "MOXIE_REPORT is ${MOXIE_REPORT}, but ${moxie_report_missing}")
endif()

# moxie_report_page(NAME): bundles the page as NAME.html and has report/page.c embed it. Targets that
# compile page.c depend on NAME.
function(moxie_report_page name)
    set(html ${CMAKE_CURRENT_BINARY_DIR}/${name}.html)
    file(GLOB sources CONFIGURE_DEPENDS ${moxie_page_folder}/*)
    add_custom_command(OUTPUT ${html}
        COMMAND ${MOXIE_NODE} ${moxie_page_folder}/bundle.mjs ${moxie_npm_folder} ${html}
        DEPENDS ${sources} ${moxie_npm_folder}/fetched
        COMMENT "The page of moxie report" VERBATIM)
    add_custom_target(${name} DEPENDS ${html})
    set_source_files_properties(report/page.c PROPERTIES
        OBJECT_DEPENDS ${html} COMPILE_DEFINITIONS PAGE_FILE="${html}")
endfunction()
