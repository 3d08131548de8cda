# SPDX-License-Identifier: Apache-2.0
# What `make install` puts below the prefix. moxie.pc finds its prefix from its own place, so the
# installed tree can be moved.

set(pc_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH moxie_prefix_from_pc /${pc_folder} /)
string(REGEX REPLACE "/$" "" moxie_prefix_from_pc ${moxie_prefix_from_pc})
configure_file(cmake/moxie.pc.in moxie.pc @ONLY)

install(TARGETS libmoxie moxie
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET moxie_mpi)
    install(TARGETS moxie_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/moxie)
endif()
install(DIRECTORY include/moxie DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_BINARY_DIR}/moxie.pc DESTINATION ${pc_folder})
# What CloudAI's scripts start in place of its own benchmark.
install(DIRECTORY share/cloudai DESTINATION ${CMAKE_INSTALL_DATADIR}/moxie
    FILES_MATCHING PATTERN "*.py")
# The pages that were built: those of the commands always, those of the API after `make docs`.
install(DIRECTORY ${PROJECT_BINARY_DIR}/docs/man/ DESTINATION ${CMAKE_INSTALL_MANDIR} OPTIONAL
    FILES_MATCHING PATTERN "moxie*.1" PATTERN "moxie*.3" PATTERN "MOXIE*.3")
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
