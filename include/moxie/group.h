/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Groups: the ranks that exchange with each other.
 *
 * All calls on a group and on its windows and routes are made by one thread at a time, and the
 * collective ones in the same order on every rank; a rank that calls something else than its peers
 * gets MOXIE_ERR_MISMATCH, and so do they. A process may be in any number of groups, and several
 * ranks of a group may be threads of one process.
 */
#ifndef MOXIE_GROUP_H
#define MOXIE_GROUP_H

#include "moxie/status.h"

MOXIE_BEGIN_DECLS

/** One rank's membership of a group. */
typedef struct moxie_group moxie_group_t;

/** A stream of the backend's device (a CUstream or cudaStream_t on cuda); NULL on the CPU, and the
 *  device's default stream on cuda. */
typedef void *moxie_stream_t;

/** Ranks a group may have at most. */
#define MOXIE_RANK_COUNT_MAX 512

/**
 * A collective that the caller brings: gathers `bytes` bytes of every rank into `out`
 * ([rank_count][bytes], by rank). Returns 0, anything else is a failure.
 */
typedef int (*moxie_allgather_fn)(void *ctx, const void *in, void *out, size_t bytes);

/** A backend's tuning parameter, by name. */
typedef struct moxie_knob_setting {
    const char *name; /**< as moxie_group_knob() lists it */
    int64_t value;    /**< within the knob's range */
} moxie_knob_setting_t;

/** How a group is made. */
typedef struct moxie_group_options {
    size_t size;        /**< sizeof(moxie_group_options_t); MOXIE_GROUP_OPTIONS_INIT sets it */
    int32_t rank;       /**< this rank, in [0, rank_count) */
    int32_t rank_count; /**< ranks of the group, 1 … MOXIE_RANK_COUNT_MAX */
    /** "shm", "cuda"; NULL or "auto": the best for memory of the CPU. One for memory of a device is
     *  taken only by its name, as its calls take pointers to that. */
    const char *backend;
    /** Path of the Unix socket where the ranks meet, the same on every rank, in a folder that only
     *  this user can enter. Rank 0 makes it, and removes it as soon as all have joined. May be NULL
     *  when `allgather` is given, or when there is one rank. */
    const char *rendezvous;
    moxie_allgather_fn allgather; /**< the caller's own way to meet, or NULL */
    void *allgather_ctx;          /**< passed to `allgather` */
    const int32_t *node_of_rank;  /**< [rank_count] node of each rank; NULL: one node */
    int64_t timeout_us;           /**< deadline of a call, > 0 */
    int64_t first_timeout_us;     /**< deadline of creation and of the first collective call, > 0 */
    const moxie_knob_setting_t *knobs; /**< [knob_count] settings that win over the environment */
    size_t knob_count;                 /**< 0: none */
    /** cuda: ordinal of this rank's GPU. -1: that of the calling thread's current context, or
     *  without one rank % GPUs. Ignored on the CPU. */
    int32_t device;
    int32_t reserved; /**< 0 */
    /** The shape of the group's routes, as "tokens=4096 hidden=2048 experts=128 topk=8" (tokens of
     * a rank), for which settings are taken that `moxie tune` stored; "off": none are taken; NULL:
     *  the shape that the environment variable MOXIE_TUNING_SHAPE tells. */
    const char *tuning;
} moxie_group_options_t;

/** Initialiser of ::moxie_group_options_t: 30 s deadlines, 300 s for the first call. */
#define MOXIE_GROUP_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(moxie_group_options_t), .timeout_us = 30000000,                             \
        .first_timeout_us = 300000000, .device = -1                                                \
    }

/**
 * Joins a group. Collective: returns when every rank has joined, or at the deadline.
 *
 * @param options  copied; nothing of it need outlive the call
 * @param[out] out the group, for moxie_group_destroy()
 * @return MOXIE_OK; MOXIE_ERR_ARGUMENT; MOXIE_ERR_UNAVAILABLE (the backend does not work here);
 *         MOXIE_ERR_UNSUPPORTED (more than one node); MOXIE_ERR_MISMATCH (versions or sizes
 *         differ, a rank is there twice); MOXIE_ERR_MEMORY; MOXIE_ERR_TIMEOUT (the error names a
 *         missing rank); MOXIE_ERR_PEER_LOST (a rank that had come went away); MOXIE_ERR_PROTOCOL
 *         (another user listens at the path); MOXIE_ERR_SYSTEM
 */
MOXIE_API moxie_status_t moxie_group_create(const moxie_group_options_t *options,
                                            moxie_group_t **out);

/**
 * Leaves a group: local and bounded, waits for nobody. Its routes and windows must have been
 * destroyed or freed before; on a device nothing of it may be in flight, and ranks that are threads
 * on one GPU must have come so far, too. NULL is allowed.
 */
MOXIE_API void moxie_group_destroy(moxie_group_t *group);

/** This rank. */
MOXIE_API int32_t moxie_group_rank(const moxie_group_t *group);

/** Ranks of the group. */
MOXIE_API int32_t moxie_group_rank_count(const moxie_group_t *group);

/** Name of the backend in use, "shm" or "cuda". Lives as long as the library. */
MOXIE_API const char *moxie_group_backend(const moxie_group_t *group);

/** Ordinal of the GPU that the group uses on this rank; -1 on the CPU. */
MOXIE_API int32_t moxie_group_device(const moxie_group_t *group);

/** Collective: returns when every rank has called it. */
MOXIE_API moxie_status_t moxie_group_barrier(moxie_group_t *group);

/**
 * Collective, in stream order: what follows on the stream starts when the streams of all ranks have
 * come to it. On a device it returns at once and can be captured; on the CPU it is
 * moxie_group_barrier(). The stream barriers of a group are on one stream, or on streams that wait
 * for each other.
 */
MOXIE_API moxie_status_t moxie_stream_barrier(moxie_group_t *group, moxie_stream_t stream);

/**
 * The state of a group: MOXIE_OK, or the failure because of which it can only be destroyed. On a
 * device this is where a deadline that passed in stream order is told. Local, does not wait.
 */
MOXIE_API moxie_status_t moxie_group_status(const moxie_group_t *group);

/**
 * Collective: gathers `bytes` bytes of host memory of every rank, for set-up and statistics.
 *
 * @param in       [bytes] this rank's part
 * @param bytes    the same on every rank
 * @param[out] out [rank_count][bytes] the parts by rank
 */
MOXIE_API moxie_status_t moxie_group_allgather(moxie_group_t *group, const void *in, size_t bytes,
                                               void *out);

/** What a group has done so far; differences of two readings describe what lay between. */
typedef struct {
    size_t size;             /**< sizeof(moxie_group_counters_t), set by the caller */
    uint64_t op_count;       /**< collective operations finished */
    uint64_t wait_ns;        /**< time this rank waited for peers in them; on a device: for them to
                                  call */
    uint64_t streamed_bytes; /**< bytes written with non-temporal stores */
    uint64_t copied_bytes;   /**< bytes written with ordinary stores */
    uint64_t sleep_count;    /**< waits that went to sleep in the kernel */
    /** @name Phases of kernels
     *  On a device, beside `wait_ns`; 0 on the CPU. As the first block of a kernel saw them, and
     *  known when it has ended.
     *  @{ */
    uint64_t prepare_ns; /**< before this rank told its peers that it was there */
    uint64_t move_ns;    /**< from when all were there: this rank's own part */
    uint64_t finish_ns;  /**< after that: what the peers' payload took, and what follows from it */
    /** @} */
} moxie_group_counters_t;

/** Initialiser of a ::moxie_group_counters_t. */
#define MOXIE_GROUP_COUNTERS_INIT                                                                  \
    {                                                                                              \
        .size = sizeof(moxie_group_counters_t)                                                     \
    }

/** Reads the counters. Local. */
MOXIE_API moxie_status_t moxie_group_counters(const moxie_group_t *group,
                                              moxie_group_counters_t *out);

/** What one rank has cost the group so far. Computed from what every rank told, so the same on all.
 */
typedef struct moxie_peer_counters {
    size_t size;         /**< sizeof(moxie_peer_counters_t), set by the caller */
    uint64_t late_count; /**< operations that it was the last to call */
    uint64_t late_ns;    /**< by how much later than the last but one, in all */
    uint64_t slow_count; /**< operations whose payload it took longest over */
    uint64_t slow_ns;    /**< by how much longer than the next slowest, in all */
    uint64_t work_ns;    /**< time it took over payload, in all: copying and summing, no waiting */
} moxie_peer_counters_t;

/** Initialiser of a ::moxie_peer_counters_t. */
#define MOXIE_PEER_COUNTERS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(moxie_peer_counters_t)                                                      \
    }

/**
 * Reads what a rank, this one included, has cost the group: large `late_ns` is a rank that comes
 * late, large `slow_ns` one whose copies are slow. Local.
 *
 * @return MOXIE_OK; MOXIE_ERR_ARGUMENT when `rank` is none of the group
 */
MOXIE_API moxie_status_t moxie_group_peer_counters(const moxie_group_t *group, int32_t rank,
                                                   moxie_peer_counters_t *out);

/**
 * One operation as the group's flight recorder remembers it. Times are of CLOCK_MONOTONIC in
 * nanoseconds, so those of ranks on one host can be compared; 0: it did not get that far.
 */
typedef struct moxie_operation {
    size_t size;           /**< sizeof(moxie_operation_t), set by the caller */
    uint64_t op;           /**< its number in the group, from 1 on */
    uint64_t route_id;     /**< 0: it is on no route */
    const char *name;      /**< "dispatch". Static. */
    uint64_t begin_ns;     /**< called */
    uint64_t post_ns;      /**< this rank had said what it wants */
    uint64_t met_ns;       /**< and heard it of all peers */
    uint64_t finish_ns;    /**< its part of the payload was done */
    uint64_t leave_ns;     /**< and that of all peers */
    uint64_t late_ns;      /**< by how much `late_rank` came later than the last but one */
    uint64_t slow_ns;      /**< by how much longer than the next slowest `slow_rank` took */
    int32_t late_rank;     /**< the last one to call; -1: unknown */
    int32_t slow_rank;     /**< which took longest over its payload; -1: unknown */
    moxie_status_t status; /**< how it ended */
    int32_t reserved;      /**< 0 */
} moxie_operation_t;

/** Initialiser of a ::moxie_operation_t. */
#define MOXIE_OPERATION_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(moxie_operation_t)                                                          \
    }

/**
 * Reads one of the last operations from the flight recorder, which remembers some dozens. Local;
 * works on a failed group too.
 *
 * @param op  its number; 0: the last one
 * @return MOXIE_OK; MOXIE_ERR_ARGUMENT when it is not remembered; MOXIE_ERR_UNSUPPORTED on a
 *         device, whose calls no recorder sees
 */
MOXIE_API moxie_status_t moxie_group_operation(const moxie_group_t *group, uint64_t op,
                                               moxie_operation_t *out);

/**
 * Writes the group's flight recorder as text: its last operations with phases and times, who was
 * late or slow in each, and what every rank has cost. Works on a failed group too. Local. With the
 * environment variable MOXIE_LOG set, a failing call does it by itself, to standard error.
 *
 * @param fd  open for writing; stays open
 */
MOXIE_API moxie_status_t moxie_group_dump(const moxie_group_t *group, int fd);

/** Which calls read a knob and how to read its values: bits of moxie_knob_info_t::use. */
enum {
    MOXIE_KNOB_DISPATCH = 1,      /**< calls that take rows to the experts */
    MOXIE_KNOB_COMBINE = 2,       /**< calls that bring rows home */
    MOXIE_KNOB_UPDATE = 4,        /**< moxie_route_update() */
    MOXIE_KNOB_EXPERT_MAJOR = 8,  /**< these in expert_major alone */
    MOXIE_KNOB_SMS = 16,          /**< multiprocessors: `value_max` is at most those of the GPU */
    MOXIE_KNOB_ZERO_CHOOSES = 32, /**< 0 is no amount: the library chooses one */
    MOXIE_KNOB_LOW_LATENCY = 64,  /**< these on routes of low latency alone */
    MOXIE_KNOB_RANK_MAJOR = 128,  /**< these in rank_major alone */
    MOXIE_KNOB_STANDARD = 256,    /**< these on routes in standard mode alone */
    /** moxie_dispatch_routing() in expert_major, for the update that it begins with */
    MOXIE_KNOB_ROUTING_EXPERT_MAJOR = 512
};

/** A tuning parameter of the group's backend, with the value in use and where it came from. */
typedef struct moxie_knob_info {
    size_t size;      /**< sizeof(moxie_knob_info_t), set by the caller */
    const char *name; /**< "spin_count"; the environment variable is MOXIE_SPIN_COUNT. Static. */
    const char *help; /**< one line. Static. */
    /** "default", "model" (what `moxie tune` learnt at other sizes), "stored" (by `moxie tune`),
     * "environment" or "option". Static. */
    const char *from;
    int64_t value;         /**< in use */
    int64_t value_default; /**< without any setting */
    int64_t value_min;     /**< smallest allowed */
    int64_t value_max;     /**< largest allowed */
    uint64_t use;          /**< MOXIE_KNOB_…; where these name no call, every call reads it */
} moxie_knob_info_t;

/** Initialiser of a ::moxie_knob_info_t. */
#define MOXIE_KNOB_INFO_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(moxie_knob_info_t)                                                          \
    }

/**
 * Describes the knob with an index from 0 on.
 *
 * @return MOXIE_OK; MOXIE_ERR_ARGUMENT when there is no knob with that index
 */
MOXIE_API moxie_status_t moxie_group_knob(const moxie_group_t *group, size_t index,
                                          moxie_knob_info_t *out);

MOXIE_END_DECLS

#endif
