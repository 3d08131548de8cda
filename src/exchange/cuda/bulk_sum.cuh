/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weighted sums of rows of bf16 through the bulk copy engine. A warp has pieces of rows in shared
 * memory on their way: the first piece of all rows of a sum, row by row, then the next piece of
 * them, then the next sum. A sum takes the place of the last piece that went into it and is stored
 * from there. So loads and stores wait for memory and the wire, and the warp for neither. For rows
 * and addresses that are multiples of 16 bytes; from Hopper on.
 */
#ifndef MOXIE_EXCHANGE_CUDA_BULK_SUM_CUH
#define MOXIE_EXCHANGE_CUDA_BULK_SUM_CUH

#include "exchange/cuda/bulk.cuh"

namespace moxie
{

/* Warps of a block that sum, pieces that each has in shared memory, and how far loads run ahead. */
constexpr int sum_warps = 15;
constexpr int sum_stages = 7;
constexpr int sum_ahead = 4;

/* Rounds whose stores may still be reading their stage when the next load needs one. */
constexpr int sum_behind = sum_stages - sum_ahead - 1;

/* Rounds after which a stored sum is looked at. A round stores less than half a piece on average,
 * so that many must be on their way to fill the wire. */
constexpr int sum_lag = 8;

/* A row is cut into equal pieces of at most this. */
constexpr int sum_piece_bytes = 2048;

/* Columns that a warp adds at a time, wide_count a lane, and how often in a piece. */
constexpr int sum_stride = 32 * wide_count;
constexpr int sum_depth = sum_piece_bytes / 2 / sum_stride;

/* What to do with a piece. */
struct alignas(16) sum_note {
    char *target; /* where the sum goes, which is complete with it; NULL: more rows follow */
    uint32_t bytes;
    float weight;
};

/* A warp's part of shared memory. */
struct alignas(128) sum_pipe {
    char pieces[sum_stages][sum_piece_bytes];
    sum_note notes[sum_stages];
    uint64_t barriers[sum_stages];
};

static_assert(sum_warps * sizeof(sum_pipe) <= CUDA_COMBINE_SHARED_BYTES,
              "the host knows how much it is");

/* Rows to be summed, 32 at most. */
struct row_sum {
    int32_t row_count;
    const char *row; /* this lane's, by ascending lane */
    float weight;    /* of it */
    char *target;
    uint64_t ticket; /* not 0 */
};

/* Cuts the rows of the sums that `work` gives out into pieces. */
template <typename work_t> struct sum_cutter {
    work_t &work;
    int32_t row_bytes;
    int32_t piece_bytes;
    row_sum sum;
    int32_t row;    /* of the next piece */
    int32_t offset; /* of it in that row */

    __device__ __forceinline__ sum_cutter(work_t &sums, int64_t bytes)
        : work(sums), row_bytes((int32_t)bytes),
          piece_bytes((int32_t)bulk_piece_size<16>(bytes, sum_piece_bytes)), sum{}, row(0),
          offset((int32_t)bytes)
    {
    }

    /* Loads the next piece; its lane notes what is to become of it. False: there is none. Gives the
     * ticket of the sum that ends with it, else 0. */
    __device__ __forceinline__ bool fetch(char *piece, sum_note *note, uint64_t *barrier,
                                          uint64_t *ticket)
    {
        if (row == sum.row_count) {
            row = 0;
            offset += piece_bytes;
        }
        if (offset >= row_bytes) {
            offset = 0;
            if (!work.next(&sum)) {
                sum.row_count = 0;
                offset = row_bytes;
                return false;
            }
        }
        const uint32_t bytes = (uint32_t)min(piece_bytes, row_bytes - offset);
        const bool is_last = row + 1 == sum.row_count;
        if (lane_index() == row) {
            *note = {is_last ? sum.target + offset : nullptr, bytes, sum.weight};
            bulk_load(piece, sum.row + offset, bytes, barrier);
        }
        *ticket = is_last && offset + piece_bytes >= row_bytes ? sum.ticket : 0;
        row++;
        return true;
    }
};

/* sums += weight · piece. What lies behind a piece's end is summed, too, and not stored. */
__device__ __forceinline__ void add_piece(const char *piece, float weight,
                                          float (&sums)[sum_depth][wide_count])
{
    packed_numbers<wide_count, true> packed[sum_depth];
#pragma unroll
    for (int i = 0; i < sum_depth; i++) {
        packed[i].load(piece, i * sum_stride + lane_index() * wide_count);
    }
#pragma unroll
    for (int i = 0; i < sum_depth; i++) {
        add_weighted<wide_count, true>(packed[i], weight, sums[i]);
    }
}

/* Rounds the sums into the place of a piece, for the bulk copy engine, and begins anew. */
__device__ __forceinline__ void put_sums(char *piece, float (&sums)[sum_depth][wide_count])
{
#pragma unroll
    for (int i = 0; i < sum_depth; i++) {
        store_numbers<wide_count>(piece, i * sum_stride + lane_index() * wide_count, 1, sums[i]);
#pragma unroll
        for (int j = 0; j < wide_count; j++) {
            sums[i][j] = 0.0f;
        }
    }
    bulk_publish_writes();
    __syncwarp();
}

/* The stage of a round, and how often it was used before. */
struct sum_stage {
    int32_t index;
    uint32_t parity;

    __device__ __forceinline__ void advance()
    {
        index++;
        if (index == sum_stages) {
            index = 0;
            parity ^= 1;
        }
    }
};

/*
 * One warp makes the sums that `work` gives out:
 *
 *     bool work.next(row_sum *sum)
 *
 * says what is summed next, rows of `row_bytes` bytes; false: nothing, now and later.
 * work.done(ticket) is told when a sum is where it belongs. Once a kernel. Round n sums piece n and
 * loads piece n + sum_ahead into the stage that the store of an earlier one has read.
 */
template <typename work_t>
__device__ __forceinline__ void bulk_sum(char *shared, int32_t warp, int64_t row_bytes,
                                         work_t &work)
{
    sum_pipe &pipe = reinterpret_cast<sum_pipe *>(shared)[warp];
    sum_cutter<work_t> cutter(work, row_bytes);
    sum_stage now = {0, 0};
    sum_stage later = {0, 0};
    float sums[sum_depth][wide_count] = {};
    uint64_t tickets = 0; /* of round n in lane n % 32 */
    int32_t piece_count = 0;
    const auto finish = [&](int32_t round) {
        const uint64_t ticket = __shfl_sync(all_lanes, tickets, (uint32_t)round % 32);
        if (round >= 0 && ticket != 0) {
            work.done(ticket);
        }
    };

    if (lane_index() < sum_stages) {
        bulk_barrier_init(&pipe.barriers[lane_index()]);
    }
    int32_t round = -sum_ahead;
#pragma unroll 1
    for (;; round++) {
        bulk_await_stores<sum_lag>();
        bulk_await_reads<sum_behind>();
        __syncwarp();
        finish(round - sum_lag - 1);
        uint64_t ticket = 0;
        piece_count += cutter.fetch(pipe.pieces[later.index], &pipe.notes[later.index],
                                    &pipe.barriers[later.index], &ticket);
        if (lane_index() == (uint32_t)(round + sum_ahead) % 32) {
            tickets = ticket;
        }
        later.advance();
        if (round < 0) {
            continue;
        }
        if (round == piece_count) {
            break;
        }
        char *piece = pipe.pieces[now.index];
        const sum_note note = pipe.notes[now.index];
        bulk_await(&pipe.barriers[now.index], now.parity);
        add_piece(piece, note.weight, sums);
        if (note.target != nullptr) {
            put_sums(piece, sums);
            if (lane_index() == 0) {
                bulk_store(note.target, piece, note.bytes);
            }
        }
        bulk_commit();
        now.advance();
    }
    bulk_await_stores<0>();
    __syncwarp();
    for (int32_t left = sum_lag; left > 0; left--) {
        finish(round - left);
    }
}

} // namespace moxie

#endif
