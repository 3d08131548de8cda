/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Memory quotes: the exact bytes a configuration will take, before anything is allocated and on a
 * machine that need not have the device.
 *
 * moxie_group_memory_used() reports what is really allocated; the two are equal.
 */
#ifndef MOXIE_QUOTE_H
#define MOXIE_QUOTE_H

#include "moxie/route.h"

MOXIE_BEGIN_DECLS

/** Bytes of one rank, by kind. */
typedef struct moxie_memory_bytes {
    size_t size;           /**< sizeof(moxie_memory_bytes_t), set by the caller */
    uint64_t host_bytes;   /**< private memory of the process */
    uint64_t window_bytes; /**< shared with the peers, whole pages, this rank's part only */
    uint64_t device_bytes; /**< memory of the device, windows included; 0 on the CPU */
} moxie_memory_bytes_t;

/** Initialiser of a ::moxie_memory_bytes_t. */
#define MOXIE_MEMORY_BYTES_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(moxie_memory_bytes_t)                                                       \
    }

/** What a group itself takes on one rank, without windows and routes. */
MOXIE_API moxie_status_t moxie_group_memory_quote(const moxie_group_options_t *options,
                                                  moxie_memory_bytes_t *out);

/** What moxie_window_allocate() of `bytes` takes on one rank. */
MOXIE_API moxie_status_t moxie_window_memory_quote(const moxie_group_options_t *options,
                                                   size_t bytes, moxie_memory_bytes_t *out);

/** What a route takes on one rank, and how large the caller's buffers must be. */
typedef struct moxie_route_quote {
    size_t size;                 /**< sizeof(moxie_route_quote_t), set by the caller */
    moxie_memory_bytes_t memory; /**< allocated by moxie_route_create(); its `size` is set too */
    uint64_t state_bytes;        /**< the part of it that moxie_route_options_t::state can hold */
    int64_t row_capacity; /**< rows that this rank's receive buffers need at most, or as given */
} moxie_route_quote_t;

/** Initialiser of a ::moxie_route_quote_t. */
#define MOXIE_ROUTE_QUOTE_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(moxie_route_quote_t)                                                        \
    }

/** Quotes a route of a group made with `group`. Looks at `rank` and `rank_count` of it. */
MOXIE_API moxie_status_t moxie_route_memory_quote(const moxie_group_options_t *group,
                                                  const moxie_route_options_t *route,
                                                  moxie_route_quote_t *out);

/** What the group, its windows and its routes have allocated now on this rank. Local. */
MOXIE_API moxie_status_t moxie_group_memory_used(const moxie_group_t *group,
                                                 moxie_memory_bytes_t *out);

/**
 * Memory that this process could take now: what the machine has free, or what is left of a memory
 * limit where that is less. Limits are those of its control group and of the groups around it, of
 * version 1 or 2: a Slurm job's, a container's. Page cache counts as free, swap does not.
 *
 * @return bytes; 0 when not known
 */
MOXIE_API uint64_t moxie_memory_available(void);

/**
 * The limit that moxie_memory_available() is bound by.
 *
 * @param[out] path   the file that sets it, "/sys/fs/cgroup/job_7/memory.max"; "" when there is no
 *                    limit, or when the machine has less memory free than all limits leave
 * @param path_bytes  of `path`, the terminating NUL included; a longer path is cut
 * @return the limit in bytes, what is taken of it included; 0 when `path` is ""
 */
MOXIE_API uint64_t moxie_memory_limit(char *path, size_t path_bytes);

MOXIE_END_DECLS

#endif
