/* SPDX-License-Identifier: Apache-2.0 */
/* libnccl.so.2 as it is opened at run time: its headers need not be there. */
#ifndef MOXIE_BASELINE_NCCL_LIBRARY_H
#define MOXIE_BASELINE_NCCL_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

typedef struct nccl_id {
    char bytes[128];
} nccl_id_t;

typedef struct nccl_comm nccl_comm_t;

/* Of ncclDataType_t. */
enum { NCCL_INT32 = 2, NCCL_BFLOAT16 = 9 };

/* Functions return 0 or an error that error_string() names; streams are the driver's. */
typedef struct nccl_library {
    int (*version)(int *version);
    int (*unique_id)(nccl_id_t *id);
    int (*comm_init)(nccl_comm_t **comm, int rank_count, nccl_id_t id, int rank);
    int (*comm_abort)(nccl_comm_t *comm);
    int (*group_start)(void);
    int (*group_end)(void);
    int (*send)(const void *from, size_t count, int type, int peer, nccl_comm_t *comm,
                void *stream);
    int (*recv)(void *to, size_t count, int type, int peer, nccl_comm_t *comm, void *stream);
    const char *(*error_string)(int result);
} nccl_library_t;

/* Opens it into this process; NULL, and why in `error`, when it is not there. */
const nccl_library_t *nccl_library(char *error, size_t error_bytes);

#endif
