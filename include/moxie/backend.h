/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Which backends this library has, which of them work on this machine, and why the others don't.
 */
#ifndef MOXIE_BACKEND_H
#define MOXIE_BACKEND_H

#include "moxie/status.h"

MOXIE_BEGIN_DECLS

/** Capability bits of a backend. */
enum {
    MOXIE_CAP_STANDARD = 1 << 0,        /**< standard dispatch and combine */
    MOXIE_CAP_BACKWARD = 1 << 1,        /**< backward of both */
    MOXIE_CAP_RANK_MAJOR = 1 << 2,      /**< rank_major layout */
    MOXIE_CAP_EXPERT_MAJOR = 1 << 3,    /**< expert_major layout */
    MOXIE_CAP_LOW_LATENCY = 1 << 4,     /**< low-latency dispatch and combine */
    MOXIE_CAP_FP8 = 1 << 5,             /**< FP8 dispatch */
    MOXIE_CAP_STREAM = 1 << 6,          /**< takes device streams and can be captured in a graph */
    MOXIE_CAP_REGISTER_MEMORY = 1 << 7, /**< windows from memory the caller allocated */
};

/** What is known of a backend on this machine. */
typedef struct moxie_backend_info {
    size_t size;           /**< sizeof(moxie_backend_info_t), set by the caller */
    uint32_t capabilities; /**< MOXIE_CAP_* bits */
    int32_t available;     /**< 1 when groups can be made with it here, else 0 */
    char name[16];         /**< "shm" */
    char reason[160];      /**< why it is not available; "" when it is */
    char detail[160];      /**< what it runs on and which of its paths it takes, and why */
} moxie_backend_info_t;

/** Initialiser of a ::moxie_backend_info_t. */
#define MOXIE_BACKEND_INFO_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(moxie_backend_info_t)                                                       \
    }

/** Backends that this library knows, working or not. */
MOXIE_API int32_t moxie_backend_count(void);

/**
 * Looks at one backend. Cheap; touches no device memory.
 *
 * @param index    in [0, moxie_backend_count())
 * @param[out] out caller's memory with `size` set
 * @return MOXIE_OK or MOXIE_ERR_ARGUMENT
 */
MOXIE_API moxie_status_t moxie_backend_probe(int32_t index, moxie_backend_info_t *out);

MOXIE_END_DECLS

#endif
