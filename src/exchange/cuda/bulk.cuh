/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows through the bulk copy engine: a warp keeps a few pieces of rows in shared memory on their
 * way, each loaded once and stored to as many places as lanes say. For rows and addresses that are
 * multiples of 16 bytes; from Hopper on.
 */
#ifndef MOXIE_EXCHANGE_CUDA_BULK_CUH
#define MOXIE_EXCHANGE_CUDA_BULK_CUH

#include "exchange/cuda/rows.cuh"
#include "transport/cuda/protocol.h"

namespace moxie
{

/* Warps of a block that send, pieces that each has on the way, and how far loads run ahead of
 * stores. */
constexpr int bulk_warps = 8;
constexpr int bulk_stages = 4;
constexpr int bulk_ahead = 2;

/* A row is cut into equal pieces of at most this. */
constexpr int bulk_piece_bytes = 4096;

/* In a block's shared memory lie the pieces, then a barrier for each. */
static_assert(bulk_warps * bulk_stages * (bulk_piece_bytes + 8) == CUDA_BULK_SHARED_BYTES,
              "the host knows how much it is");

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr bool has_bulk = true;
#else
constexpr bool has_bulk = false;
#endif

__device__ __forceinline__ uint32_t shared_address(const void *pointer)
{
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

__device__ __forceinline__ void bulk_barrier_init(uint64_t *barrier)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier))
                 : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void bulk_load(void *shared, const char *source, uint32_t bytes,
                                          uint64_t *barrier)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(bytes)
        : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
        "[%3];" ::"r"(shared_address(shared)),
        "l"(source), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
}

__device__ __forceinline__ void bulk_await(uint64_t *barrier, uint32_t parity)
{
    uint32_t is_done = 0;
    while (!is_done) {
        asm volatile("{\n"
                     ".reg .pred done;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, done;\n"
                     "}"
                     : "=r"(is_done)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
    }
}

__device__ __forceinline__ void bulk_store(char *destination, const void *shared, uint32_t bytes)
{
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(destination),
                 "r"(shared_address(shared)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void bulk_commit()
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Until all but the newest `pending` groups of stores have read shared memory. */
template <int pending> __device__ __forceinline__ void bulk_await_reads()
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
}

/* Until they are where they belong. */
template <int pending> __device__ __forceinline__ void bulk_await_stores()
{
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(pending) : "memory");
}

#else /* never called: has_bulk is false */

__device__ __forceinline__ void bulk_barrier_init(uint64_t *)
{
}
__device__ __forceinline__ void bulk_load(void *, const char *, uint32_t, uint64_t *)
{
}
__device__ __forceinline__ void bulk_await(uint64_t *, uint32_t)
{
}
__device__ __forceinline__ void bulk_store(char *, const void *, uint32_t)
{
}
__device__ __forceinline__ void bulk_commit()
{
}
template <int pending> __device__ __forceinline__ void bulk_await_reads()
{
}
template <int pending> __device__ __forceinline__ void bulk_await_stores()
{
}

#endif

__device__ __forceinline__ uint64_t *bulk_barriers(char *shared)
{
    return reinterpret_cast<uint64_t *>(shared + bulk_warps * bulk_stages * bulk_piece_bytes);
}

/* All threads, before the block's first barrier. */
__device__ __forceinline__ void bulk_begin(char *shared)
{
    if (has_bulk && threadIdx.x < bulk_warps * bulk_stages) {
        bulk_barrier_init(bulk_barriers(shared) + threadIdx.x);
    }
}

/* Rows are cut into pieces of equal size, in units of 16 bytes. */
__device__ __forceinline__ int64_t bulk_piece_size(int64_t row_bytes)
{
    const int64_t count = (row_bytes + bulk_piece_bytes - 1) / bulk_piece_bytes;
    return (row_bytes + 16 * count - 1) / (16 * count) * 16;
}

/*
 * One warp sends the rows that `work` gives out:
 *
 *     bool work.next(const char **source, char **destination, uint64_t *ticket)
 *
 * says where the next row is, the same in all lanes, and where this lane is to store it (NULL:
 * nowhere); false: there is none. `ticket` is handed to work.done(ticket) when all stores of the
 * row have arrived; 0: never. Once a kernel: the barriers' phases begin at 0. A round of the loop
 * handles one piece: stage `now`, while the piece two rounds ahead is loaded into the stage whose
 * stores are over.
 */
template <typename work_t>
__device__ __forceinline__ void bulk_send(char *shared, int32_t warp, int64_t row_bytes,
                                          bool has_tickets, work_t &work)
{
    uint64_t *barriers = bulk_barriers(shared) + warp * bulk_stages;
    char *pieces = shared + warp * bulk_stages * bulk_piece_bytes;
    const int64_t piece_bytes = bulk_piece_size(row_bytes);
    const char *source = nullptr;
    char *destination = nullptr;
    uint64_t ticket = 0;
    int64_t offset = row_bytes; /* of the next piece in its row */
    char *targets[bulk_stages] = {};
    uint32_t sizes[bulk_stages] = {}; /* 0: the stage has no piece */
    uint64_t tickets[bulk_stages] = {};
    uint32_t parities = 0;

    const auto fetch = [&](int stage) {
        if (offset >= row_bytes) {
            offset = 0;
            if (!work.next(&source, &destination, &ticket)) {
                offset = row_bytes;
                sizes[stage] = 0;
                return;
            }
        }
        sizes[stage] = (uint32_t)min(piece_bytes, row_bytes - offset);
        targets[stage] = destination == nullptr ? nullptr : destination + offset;
        if (lane_index() == 0) {
            bulk_load(pieces + stage * bulk_piece_bytes, source + offset, sizes[stage],
                      barriers + stage);
        }
        offset += sizes[stage];
        tickets[stage] = offset >= row_bytes ? ticket : 0;
    };
    const auto finish = [&](int stage) {
        if (has_tickets && tickets[stage] != 0) {
            work.done(tickets[stage]);
            tickets[stage] = 0;
        }
    };

    fetch(0);
    fetch(1);
    for (bool is_over = false; !is_over;) {
#pragma unroll
        for (int now = 0; now < bulk_stages; now++) {
            const int later = (now + bulk_ahead) % bulk_stages;
            if (is_over || sizes[now] == 0) {
                is_over = true;
                continue;
            }
            if (has_tickets) {
                bulk_await_stores<1>();
            } else {
                bulk_await_reads<1>();
            }
            __syncwarp();
            finish(later);
            fetch(later);
            bulk_await(barriers + now, parities >> now & 1);
            parities ^= 1u << now;
            if (targets[now] != nullptr) {
                bulk_store(targets[now], pieces + now * bulk_piece_bytes, sizes[now]);
            }
            bulk_commit();
        }
    }
    bulk_await_stores<0>();
    __syncwarp();
#pragma unroll
    for (int stage = 0; stage < bulk_stages; stage++) {
        finish(stage);
    }
}

} // namespace moxie

#endif
