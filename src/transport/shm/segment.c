/* SPDX-License-Identifier: Apache-2.0 */
/* memfd segments: create, seal, map. */
#include "transport/shm/segment.h"

#include "core/error.h"
#include "core/memory.h"
#include "transport/shm/red_zone.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t segment_round_up(uint64_t bytes)
{
    return memory_round_up(bytes, (uint64_t)sysconf(_SC_PAGESIZE));
}

moxie_status_t segment_create(uint64_t bytes, int *fd)
{
    const int memfd = memfd_create("moxie", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memfd < 0) {
        return error_set_errno("cannot create shared memory");
    }
    int failed = ftruncate(memfd, (off_t)bytes);
    if (failed == 0 && bytes > 0) {
        /* All pages now: a peer's first touch must not be what finds memory gone. */
        do {
            failed = fallocate(memfd, 0, 0, (off_t)bytes);
        } while (failed != 0 && errno == EINTR);
    }
    if (failed == 0) {
        failed = fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    }
    if (failed != 0) {
        const moxie_status_t status =
            error_set_errno("cannot allocate %" PRIu64 " bytes of shared memory", bytes);
        close(memfd);
        return status;
    }
    *fd = memfd;
    return MOXIE_OK;
}

moxie_status_t segment_seal_writing(int fd)
{
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
        return error_set_errno("cannot seal shared memory");
    }
    return MOXIE_OK;
}

moxie_status_t segment_check(int fd, uint64_t offset, uint64_t bytes)
{
    const int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return error_set(MOXIE_ERR_WINDOW,
                         "the memory is no memfd sealed with F_SEAL_SHRINK: allocate it with "
                         "moxie_window_allocate(), or with memfd_create() and "
                         "fcntl(F_ADD_SEALS, F_SEAL_SHRINK)");
    }
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return error_set_errno("cannot look at shared memory");
    }
    if (offset > (uint64_t)info.st_size || bytes > (uint64_t)info.st_size - offset) {
        error_set(MOXIE_ERR_WINDOW,
                  "the memory is said to end at byte %" PRIu64 " of a memfd of %" PRIu64 " bytes",
                  offset + bytes, (uint64_t)info.st_size);
        error_detail()->expected = info.st_size;
        error_detail()->observed = (int64_t)(offset + bytes);
        return MOXIE_ERR_WINDOW;
    }
    return MOXIE_OK;
}

moxie_status_t segment_map(int fd, uint64_t offset, uint64_t bytes, int writable, void **base)
{
    *base = NULL;
    if (bytes == 0) {
        return MOXIE_OK;
    }
    void *room = NULL;
    int flags = MAP_SHARED | MAP_POPULATE;
    if (RED_ZONE_BYTES > 0) { /* with room behind it */
        room = mmap(NULL, (size_t)bytes + RED_ZONE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
                    -1, 0);
        flags |= MAP_FIXED;
    }
    void *mapped = room == MAP_FAILED
                       ? MAP_FAILED
                       : mmap(room, (size_t)bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                              flags, fd, (off_t)offset);
    if (mapped == MAP_FAILED) {
        return error_set_errno("cannot map %" PRIu64 " bytes of shared memory", bytes);
    }
    red_zone_mark(mapped, bytes, bytes + RED_ZONE_BYTES);
    *base = mapped;
    return MOXIE_OK;
}

void segment_unmap(void *base, uint64_t bytes)
{
    if (base != NULL) {
        red_zone_clear(base, bytes + RED_ZONE_BYTES);
        munmap(base, (size_t)bytes + RED_ZONE_BYTES);
    }
}
