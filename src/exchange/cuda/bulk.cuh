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

/* Warps of a block that send rows to several places, pieces that each has on the way, and how far
 * loads run ahead of stores. */
constexpr int bulk_warps = 8;
constexpr int bulk_stages = 4;
constexpr int bulk_ahead = 2;

/* Rounds whose stores may still be reading their stage when the next load needs one. */
constexpr int bulk_behind = bulk_stages - bulk_ahead - 1;

/* A row is cut into equal pieces of at most this. */
constexpr int bulk_piece_bytes = 4096;

/* A warp's part of shared memory. */
struct alignas(128) bulk_pipe {
    char pieces[bulk_stages][bulk_piece_bytes];
    uint64_t barriers[bulk_stages];
};

static_assert(bulk_warps * sizeof(bulk_pipe) == CUDA_BULK_SHARED_BYTES,
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

/* What this thread wrote to shared memory is what bulk stores read from there. */
__device__ __forceinline__ void bulk_publish_writes()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
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
__device__ __forceinline__ void bulk_publish_writes()
{
}

#endif

__device__ __forceinline__ bulk_pipe &bulk_pipe_of(char *shared, int32_t warp)
{
    return reinterpret_cast<bulk_pipe *>(shared)[warp];
}

/* All threads, before the block's first barrier: so many warps will send. */
__device__ __forceinline__ void bulk_begin(char *shared, uint32_t warp_count)
{
    if (has_bulk && threadIdx.x < warp_count * bulk_stages) {
        bulk_pipe &pipe = bulk_pipe_of(shared, (int32_t)threadIdx.x / bulk_stages);
        bulk_barrier_init(&pipe.barriers[threadIdx.x % bulk_stages]);
    }
}

/* Rows are cut into pieces of equal size, in units of so many bytes. */
template <int64_t unit>
__device__ __forceinline__ int64_t bulk_piece_size(int64_t row_bytes, int64_t piece_bytes_max)
{
    const int64_t count = (row_bytes + piece_bytes_max - 1) / piece_bytes_max;
    return (row_bytes + unit * count - 1) / (unit * count) * unit;
}

/* A piece of a row: where this lane is to store it, NULL: nowhere. */
struct bulk_piece {
    char *target;
    uint32_t bytes;  /* 0: there is none */
    uint64_t ticket; /* of the row that it is the last of, else 0 */
};

/* Base of a `work` whose pieces are stored as they were loaded. */
struct bulk_copies {
    using piece = bulk_piece;
    static constexpr int64_t cut = 16; /* rows are cut into multiples of so many bytes */
    static constexpr int shrink = 1;   /* bytes loaded for one that is stored */

    /* A piece of the row that was given out last, `offset` bytes from its start. */
    __device__ __forceinline__ bulk_piece place(const bulk_piece &piece, int64_t) const
    {
        return piece;
    }

    /* All lanes: a piece has been loaded and is to be stored. */
    __device__ __forceinline__ void change(char *, const bulk_piece &) const
    {
    }
};

/* Cuts what `work` gives out into pieces. */
template <typename work_t> struct bulk_cutter {
    work_t &work;
    int64_t row_bytes;
    int64_t piece_bytes;
    const char *source;
    char *destination;
    uint64_t ticket;
    int64_t offset; /* of the next piece in its row */

    __device__ __forceinline__ bulk_cutter(work_t &rows, int64_t bytes)
        : work(rows), row_bytes(bytes),
          piece_bytes(bulk_piece_size<work_t::cut>(bytes, bulk_piece_bytes)), source(nullptr),
          destination(nullptr), ticket(0), offset(bytes)
    {
    }

    /* Loads the next piece into a stage, where it does not lie already. */
    __device__ __forceinline__ typename work_t::piece fetch(char *stage, uint64_t *barrier,
                                                            bool is_there)
    {
        if (offset >= row_bytes) {
            if (!work.next(&source, &destination, &ticket)) {
                return {};
            }
            offset = 0;
        }
        const uint32_t bytes = (uint32_t)min(piece_bytes, row_bytes - offset);
        char *target = destination == nullptr ? nullptr : destination + offset / work_t::shrink;
        if (!is_there && lane_index() == 0) {
            bulk_load(stage, source + offset, bytes, barrier);
        }
        const int64_t begin = offset;
        offset += bytes;
        return work.place({target, bytes, offset >= row_bytes ? ticket : 0}, begin);
    }
};

/*
 * One warp sends the rows that `work` gives out:
 *
 *     bool work.next(const char **source, char **destination, uint64_t *ticket)
 *
 * says where the next row is, the same in all lanes, and where this lane is to store it (NULL:
 * nowhere); false: there is none, now and later. With a lag, `ticket` is handed to
 * work.done(ticket) when all stores of the row have arrived, which is looked at that many rounds
 * later: the more rounds, the more is on its way and the later its receiver hears of it. Without,
 * or when 0: never. Once a kernel: the barriers' phases begin at 0. Round n stores piece n and
 * loads piece n + 2 into the stage that the stores of piece n - 2 have read. In between the work
 * may change the piece: see bulk_copies. The first pieces may be on their way to their stages
 * already, bulk_ahead at most: `begun`.
 */
template <int lag, typename work_t>
__device__ __forceinline__ void bulk_send(char *shared, int32_t warp, int64_t row_bytes,
                                          work_t &work, int32_t begun = 0)
{
    bulk_pipe &pipe = bulk_pipe_of(shared, warp);
    bulk_cutter<work_t> cutter(work, row_bytes);
    typename work_t::piece loaded[bulk_ahead] = {}; /* the older first */
    uint64_t tickets = 0;                           /* of round n in lane n % 32 */
    const auto finish = [&](int32_t round) {
        const uint64_t ticket = __shfl_sync(all_lanes, tickets, round % 32);
        if (round >= 0 && ticket != 0) {
            work.done(ticket);
        }
    };

    int32_t round = -bulk_ahead;
#pragma unroll 1
    for (;; round++) {
        if (lag > 0) {
            bulk_await_stores<lag>();
        }
        if (lag == 0 || lag > bulk_behind) {
            bulk_await_reads<bulk_behind>();
        }
        __syncwarp();
        if (lag > 0) {
            finish(round - lag - 1);
        }
        const int32_t later = (round + bulk_ahead) % bulk_stages;
        const typename work_t::piece newest = cutter.fetch(
            pipe.pieces[later], &pipe.barriers[later], begun > 0 && round + bulk_ahead < begun);
        if (round >= 0) {
            const int32_t now = round % bulk_stages;
            if (loaded[0].bytes == 0) {
                break;
            }
            bulk_await(&pipe.barriers[now], (uint32_t)(round / bulk_stages) & 1);
            work.change(pipe.pieces[now], loaded[0]);
            if (loaded[0].target != nullptr) {
                bulk_store(loaded[0].target, pipe.pieces[now], loaded[0].bytes / work_t::shrink);
            }
            bulk_commit();
            if (lag > 0 && lane_index() == round % 32) {
                tickets = loaded[0].ticket;
            }
        }
#pragma unroll
        for (int i = 0; i + 1 < bulk_ahead; i++) {
            loaded[i] = loaded[i + 1];
        }
        loaded[bulk_ahead - 1] = newest;
    }
    bulk_await_stores<0>();
    __syncwarp();
    for (int32_t left = lag; lag > 0 && left > 0; left--) {
        finish(round - left);
    }
}

} // namespace moxie

#endif
