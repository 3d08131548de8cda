/* SPDX-License-Identifier: Apache-2.0 */
/* Windows over shared memory. */
#include "transport/shm/window.h"

#include "core/error.h"
#include "transport/shm/collective.h"
#include "transport/shm/red_zone.h"
#include "transport/shm/sharing.h"
#include "transport/shm/signal.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PHASE_AGREE "agree" /* on what each rank wants */
#define PHASE_SHARE "share" /* the descriptors */
#define PHASE_MAP   "map"   /* and whether all could be mapped */

/* What a rank tells the others of its part. */
typedef struct window_notice {
    uint64_t bytes;
    uint64_t fd_offset;
    uint64_t address; /* for ranks of the same process, see sharing.h */
} window_notice_t;

static uint64_t window_struct_bytes(int32_t rank_count)
{
    return sizeof(shm_window_t) + sizeof(shm_window_part_t) * (uint64_t)rank_count;
}

void shm_window_quote(int32_t rank_count, uint64_t bytes, memory_account_t *out)
{
    out->host_bytes += memory_charge(window_struct_bytes(rank_count));
    out->window_bytes += segment_round_up(bytes);
}

/* Begins a collective call on windows. */
static moxie_status_t begin(shm_transport_t *transport, const char *op_name)
{
    transport->window_serial++;
    return shm_rounds_begin(transport, op_name);
}

static moxie_status_t exchange_notices(shm_transport_t *transport, const char *phase,
                                       const window_notice_t *notice, int fd, moxie_status_t local)
{
    return shm_round(transport, phase, "window", notice, sizeof(*notice), fd, local);
}

static window_notice_t notice_of(const shm_transport_t *transport, int32_t rank)
{
    window_notice_t notice;
    memcpy(&notice, transport->parts[rank].data, sizeof(notice));
    return notice;
}

/* The parts of all ranks of this host together against the memory that is left. */
static moxie_status_t check_total(const shm_transport_t *transport)
{
    uint64_t total = 0;
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        const uint64_t bytes = notice_of(transport, rank).bytes;
        const uint64_t pages = bytes > INT64_MAX ? INT64_MAX : segment_round_up(bytes);
        total = total > UINT64_MAX - pages ? UINT64_MAX : total + pages;
    }
    return memory_check_available(total, "a window of all ranks");
}

static moxie_status_t map_part(shm_window_t *window, int32_t rank)
{
    const shm_transport_t *transport = window->transport;
    shm_window_part_t *part = &window->parts[rank];
    const window_notice_t notice = notice_of(transport, rank);
    part->bytes = notice.bytes;
    if (notice.bytes == 0) {
        return MOXIE_OK;
    }
    const uint64_t pages = segment_round_up(notice.bytes);
    const int fd = transport->parts[rank].fds[0];
    moxie_status_t status = segment_check(fd, notice.fd_offset, notice.bytes);
    if (status == MOXIE_OK) {
        status = sharing_map(transport->peers[rank].pid, notice.address, fd, notice.fd_offset,
                             pages, 1, &part->base);
    }
    part->mapped_bytes = status == MOXIE_OK ? pages : 0;
    red_zone_mark(part->base, notice.bytes, part->mapped_bytes);
    return status;
}

static void unmap_parts(shm_window_t *window)
{
    const shm_transport_t *transport = window->transport;
    for (int32_t rank = 0; rank < transport->rank_count; rank++) {
        shm_window_part_t *part = &window->parts[rank];
        if (rank != transport->rank && part->mapped_bytes > 0) {
            sharing_unmap(transport->peers[rank].pid, part->base, part->mapped_bytes);
        }
    }
    if (window->owns_memory) {
        const uint64_t bytes = segment_round_up(window->window.bytes);
        if (window->has_line) {
            sharing_unmap_own(window->window.base, bytes);
        } else {
            segment_unmap(window->window.base, bytes);
        }
        transport->account->window_bytes -= segment_round_up(window->window.bytes);
    }
}

/* Tells the peers of this rank's part, maps theirs, and makes sure that all could. */
static moxie_status_t share(shm_window_t *window, int fd, uint64_t fd_offset, moxie_status_t local)
{
    shm_transport_t *transport = window->transport;
    const window_notice_t notice = {.bytes = window->window.bytes,
                                    .fd_offset = fd_offset,
                                    .address = (uint64_t)(uintptr_t)window->window.base};
    moxie_status_t status = exchange_notices(transport, PHASE_SHARE, &notice, fd, local);
    if (status != MOXIE_OK) {
        return status;
    }
    for (int32_t rank = 0; rank < transport->rank_count && status == MOXIE_OK; rank++) {
        if (rank != transport->rank) {
            status = map_part(window, rank);
        }
    }
    window->parts[transport->rank] = (shm_window_part_t){
        .base = window->window.base, .bytes = window->window.bytes, .mapped_bytes = 0};
    bootstrap_close_fds(transport->parts, transport->rank_count);
    return exchange_notices(transport, PHASE_MAP, &notice, -1, status);
}

static moxie_status_t find_slot(shm_transport_t *transport, size_t *slot)
{
    for (*slot = 0; *slot < SHM_WINDOW_COUNT_MAX; (*slot)++) {
        if (transport->windows[*slot] == NULL) {
            return MOXIE_OK;
        }
    }
    return error_set(MOXIE_ERR_ARGUMENT, "a group has at most %d windows at a time",
                     SHM_WINDOW_COUNT_MAX);
}

/* The struct of a window, entered in the table. */
static moxie_status_t open_window(shm_transport_t *transport, shm_window_t **out)
{
    size_t slot;
    moxie_status_t status = find_slot(transport, &slot);
    if (status != MOXIE_OK) {
        return status;
    }
    void *memory;
    status = memory_allocate(transport->account, window_struct_bytes(transport->rank_count),
                             "a window", &memory);
    if (status != MOXIE_OK) {
        return status;
    }
    shm_window_t *window = memory;
    window->transport = transport;
    window->number = transport->window_serial;
    transport->windows[slot] = window;
    *out = window;
    return MOXIE_OK;
}

/* Creates and maps this rank's own part. */
static moxie_status_t create_own(shm_window_t *window, uint64_t bytes, int *fd)
{
    const uint64_t pages = segment_round_up(bytes);
    if (bytes == 0) {
        return MOXIE_OK;
    }
    moxie_status_t status = segment_create(pages, fd);
    if (status == MOXIE_OK) {
        status = segment_map(*fd, 0, pages, 1, &window->window.base);
    }
    if (status == MOXIE_OK) {
        window->window.bytes = bytes;
        window->owns_memory = 1;
        window->transport->account->window_bytes += pages;
        red_zone_mark(window->window.base, bytes, pages);
    }
    return status;
}

moxie_status_t shm_window_allocate(shm_transport_t *transport, uint64_t bytes, moxie_window_t **out)
{
    const window_notice_t wish = {.bytes = bytes};
    moxie_status_t status = begin(transport, "window_allocate");
    if (status == MOXIE_OK) {
        status = exchange_notices(transport, PHASE_AGREE, &wish, -1, MOXIE_OK);
    }
    if (status != MOXIE_OK) {
        return status;
    }
    status = check_total(transport);
    shm_window_t *window = NULL;
    if (status == MOXIE_OK) {
        status = open_window(transport, &window);
    }
    /* Nobody allocates before everybody has agreed that it fits. */
    status = exchange_notices(transport, PHASE_AGREE, &wish, -1, status);
    if (status == MOXIE_OK) {
        int fd = -1;
        status = create_own(window, bytes, &fd);
        status = share(window, fd, 0, status);
        if (fd >= 0) {
            close(fd);
        }
    }
    if (status != MOXIE_OK) {
        shm_window_free(window != NULL ? &window->window : NULL);
        return status;
    }
    *out = &window->window;
    return MOXIE_OK;
}

moxie_status_t shm_window_register(shm_transport_t *transport, const moxie_memory_t *memory,
                                   moxie_window_t **out)
{
    const uint64_t page = segment_round_up(1);
    moxie_status_t status = begin(transport, "window_register");
    if (status != MOXIE_OK) {
        return status;
    }
    status = segment_check(memory->fd, memory->fd_offset, memory->bytes);
    if (status == MOXIE_OK &&
        ((uintptr_t)memory->base % page != 0 || memory->fd_offset % page != 0)) {
        status = error_set(MOXIE_ERR_WINDOW,
                           "the memory does not begin at a page of %" PRIu64 " bytes", page);
    }
    shm_window_t *window = NULL;
    if (status == MOXIE_OK) {
        status = open_window(transport, &window);
    }
    const window_notice_t wish = {.bytes = memory->bytes};
    status = exchange_notices(transport, PHASE_AGREE, &wish, -1, status);
    if (status == MOXIE_OK) {
        window->window.base = memory->base;
        window->window.bytes = memory->bytes;
        status = share(window, memory->fd, memory->fd_offset, MOXIE_OK);
    }
    if (status != MOXIE_OK) {
        shm_window_free(window != NULL ? &window->window : NULL);
        return status;
    }
    *out = &window->window;
    return MOXIE_OK;
}

void shm_window_free(moxie_window_t *public_window)
{
    if (public_window == NULL) {
        return;
    }
    shm_window_t *window = (shm_window_t *)public_window;
    shm_transport_t *transport = window->transport;
    unmap_parts(window);
    for (size_t slot = 0; slot < SHM_WINDOW_COUNT_MAX; slot++) {
        if (transport->windows[slot] == window) {
            transport->windows[slot] = NULL;
        }
    }
    memory_release(transport->account, window, window_struct_bytes(transport->rank_count));
}

moxie_status_t shm_buffer_name(const shm_transport_t *transport, const void *pointer,
                               uint64_t bytes, const char *name, shm_buffer_t *out)
{
    memset(out, 0, sizeof(*out));
    if (pointer == NULL || bytes == 0) {
        return MOXIE_OK;
    }
    for (size_t slot = 0; slot < SHM_WINDOW_COUNT_MAX; slot++) {
        const shm_window_t *window = transport->windows[slot];
        const uintptr_t address = (uintptr_t)pointer;
        if (window == NULL || address < (uintptr_t)window->window.base ||
            address - (uintptr_t)window->window.base >= window->window.bytes) {
            continue;
        }
        out->window = window->number;
        out->offset = address - (uintptr_t)window->window.base;
        out->present = 1;
        if (bytes <= window->window.bytes - out->offset) {
            return MOXIE_OK;
        }
        error_set(MOXIE_ERR_WINDOW,
                  "rank %d: %s takes %" PRIu64 " bytes and its window ends after %" PRIu64,
                  transport->rank, name, bytes, (uint64_t)window->window.bytes - out->offset);
        error_detail()->peer = transport->rank;
        error_detail()->expected = (int64_t)bytes;
        error_detail()->observed = (int64_t)(window->window.bytes - out->offset);
        return MOXIE_ERR_WINDOW;
    }
    error_set(MOXIE_ERR_WINDOW,
              "rank %d: %s does not lie in a window of the group: allocate it with "
              "moxie_window_allocate()",
              transport->rank, name);
    error_detail()->peer = transport->rank;
    return MOXIE_ERR_WINDOW;
}

moxie_status_t shm_buffer_map(const shm_transport_t *transport, int32_t rank,
                              const shm_buffer_t *buffer, uint64_t bytes, void **out)
{
    const uint64_t offset = buffer->offset; /* read once: it is the peer's memory */
    *out = NULL;
    if (!buffer->present) {
        return MOXIE_OK;
    }
    for (size_t slot = 0; slot < SHM_WINDOW_COUNT_MAX; slot++) {
        const shm_window_t *window = transport->windows[slot];
        if (window == NULL || window->number != buffer->window) {
            continue;
        }
        const shm_window_part_t *part = &window->parts[rank];
        if (offset > part->bytes || bytes > part->bytes - offset) {
            break;
        }
        *out = (char *)part->base + offset;
        return MOXIE_OK;
    }
    error_set(MOXIE_ERR_WINDOW,
              "rank %d named a buffer of %" PRIu64 " bytes in a window that rank %d has freed or "
              "that is too small",
              rank, bytes, transport->rank);
    error_detail()->rank = transport->rank;
    error_detail()->peer = rank;
    return MOXIE_ERR_WINDOW;
}
