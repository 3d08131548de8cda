/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Route update: each warp counts a chunk of this rank's tokens, the blocks add up, every rank tells
 * every rank its totals, and each warp walks its chunk again and gives every slot its row. Rows are
 * a pure function of the routing: chunks follow each other in token order.
 */
#ifndef MOXIE_EXCHANGE_CUDA_UPDATE_CUH
#define MOXIE_EXCHANGE_CUDA_UPDATE_CUH

#include "exchange/cuda/meeting.cuh"
#include "exchange/cuda/rows.cuh"

namespace moxie
{

constexpr int update_warps = CUDA_UPDATE_THREADS / 32;

/* Ids that a warp stages at a time. */
constexpr int staged_ids = 512;

/* Slots of a token at most, MOXIE_TOPK_MAX. */
constexpr int topk_max = 64;

struct update_shared {
    operation op;
    unsigned long long bad_slot; /* the smallest of the block */
    uint32_t bad_fields[4];      /* the rank's bad slot and its id, as fields of the offer */
    int32_t ids[update_warps][staged_ids];
    int32_t ranks[update_warps][topk_max];
    int32_t rows[update_warps][topk_max];
};

/* Tokens of a warp: [begin, end). */
struct token_chunk {
    int64_t begin;
    int64_t end;
};

__device__ __forceinline__ token_chunk chunk_of_warp(int64_t token_count)
{
    const int64_t chunk_count = (int64_t)gridDim.x * update_warps;
    const int64_t size = (token_count + chunk_count - 1) / chunk_count;
    const int64_t begin = min(token_count, (blockIdx.x * update_warps + threadIdx.x / 32) * size);
    return {begin, min(token_count, begin + size)};
}

__device__ __forceinline__ int64_t read_id(const cuda_update_args_t &args, int64_t index)
{
    return args.is_int64 ? reinterpret_cast<const int64_t *>(args.topk_idx)[index]
                         : reinterpret_cast<const int32_t *>(args.topk_idx)[index];
}

/* Whether the id in a slot is in the token before. */
__device__ __forceinline__ bool is_twice(const int32_t *ids, int32_t slot)
{
    for (int32_t earlier = 0; earlier < slot; earlier++) {
        if (ids[earlier] == ids[slot]) {
            return true;
        }
    }
    return false;
}

/* Whether no slot before goes to the same rank. */
__device__ __forceinline__ bool is_first(const int32_t *ranks, int32_t slot)
{
    for (int32_t earlier = 0; earlier < slot; earlier++) {
        if (ranks[earlier] == ranks[slot]) {
            return false;
        }
    }
    return true;
}

/* Copies ids and weights of some tokens into the route, and the ids into shared memory; an id that
 * does not exist becomes unused. Returns the smallest bad slot that this lane saw. */
__device__ inline unsigned long long stage_ids(const cuda_update_args_t &args, int64_t first_token,
                                               int64_t token_count, int32_t *ids)
{
    const cuda_route_view_t &route = args.route;
    const int64_t begin = first_token * route.topk;
    unsigned long long bad = ~0ull;
    for (int64_t i = lane_index(); i < token_count * route.topk; i += 32) {
        const int64_t id = read_id(args, begin + i);
        const bool exists = id >= -1 && id < route.expert_count;
        if (!exists) {
            bad = min(bad, (unsigned long long)(begin + i));
        }
        ids[i] = exists ? (int32_t)id : -1;
        route.experts[begin + i] = ids[i];
        route.weights[begin + i] =
            args.topk_weights != nullptr ? args.topk_weights[begin + i] : 1.0f;
    }
    __syncwarp();
    return bad;
}

/* The ranks of a token's slots into shared memory, -1: unused. */
__device__ __forceinline__ void find_ranks(const cuda_route_view_t &route, const int32_t *ids,
                                           int32_t *ranks)
{
    __syncwarp();
    for (int32_t slot = lane_index(); slot < route.topk; slot += 32) {
        ranks[slot] = ids[slot] < 0 ? -1 : __ldg(route.rank_of_expert + ids[slot]);
    }
    __syncwarp();
}

/* First walk: counts of this warp's chunk, rows to each rank and then to each expert. */
__device__ inline void count_chunk(const cuda_update_args_t &args, update_shared &shared,
                                   uint32_t *counts)
{
    const cuda_route_view_t &route = args.route;
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const token_chunk chunk = chunk_of_warp(args.token_count);
    const int64_t batch = staged_ids / route.topk;
    unsigned long long bad = ~0ull;
    for (int64_t first = chunk.begin; first < chunk.end; first += batch) {
        const int64_t count = min(batch, chunk.end - first);
        bad = min(bad, stage_ids(args, first, count, shared.ids[warp]));
        for (int64_t token = first; token < first + count; token++) {
            const int32_t *ids = shared.ids[warp] + (token - first) * route.topk;
            find_ranks(route, ids, shared.ranks[warp]);
            for (int32_t slot = lane_index(); slot < route.topk; slot += 32) {
                const int32_t rank = shared.ranks[warp][slot];
                if (rank < 0) {
                    continue;
                }
                if (is_twice(ids, slot)) {
                    bad = min(bad, (unsigned long long)(token * route.topk + slot));
                }
                counts[args.channel.rank_count + ids[slot]]++;
                if (is_first(shared.ranks[warp], slot)) {
                    counts[rank]++;
                }
            }
        }
        __syncwarp();
    }
    if (bad != ~0ull) {
        atomicMin(&shared.bad_slot, bad);
    }
}

/* Counts of the warps become what lies before each of them in the block; the sums go to the table
 * of all blocks. */
__device__ inline void publish_block(const cuda_update_args_t &args, const update_shared &shared,
                                     uint32_t *counts, int32_t column_count)
{
    __syncthreads();
    for (int32_t column = threadIdx.x; column < column_count; column += blockDim.x) {
        uint32_t sum = 0;
        for (int32_t warp = 0; warp < update_warps; warp++) {
            const uint32_t count = counts[warp * column_count + column];
            counts[warp * column_count + column] = sum;
            sum += count;
        }
        args.route.block_counts[(int64_t)blockIdx.x * column_count + column] = sum;
    }
    if (threadIdx.x == 0 && shared.bad_slot != ~0ull) {
        atomicMin(reinterpret_cast<unsigned long long *>(&args.channel.counters->bad_slot),
                  shared.bad_slot);
    }
}

/* This rank's totals, a share of the columns by each block, to every rank. */
__device__ inline void tell_totals(const cuda_update_args_t &args, update_shared &shared,
                                   int32_t column_count)
{
    const cuda_channel_t &channel = args.channel;
    const uint32_t epoch = shared.op.epoch;
    for (int32_t column = blockIdx.x + gridDim.x * threadIdx.x; column < column_count;
         column += gridDim.x * blockDim.x) {
        uint32_t total = 0;
        for (uint32_t block = 0; block < gridDim.x; block++) {
            total += __ldcg(args.route.block_counts + (int64_t)block * column_count + column);
        }
        for (int32_t rank = 0; rank < channel.rank_count; rank++) {
            store_word(count_words(channel, rank, channel.rank, epoch) + column,
                       tagged(epoch, total));
        }
    }
    if (blockIdx.x != 0) {
        return;
    }
    if (threadIdx.x == 0) {
        const uint64_t bad = *const_cast<volatile uint64_t *>(&channel.counters->bad_slot);
        const int64_t id = bad == ~0ull ? 0 : read_id(args, (int64_t)bad);
        shared.bad_fields[0] = (uint32_t)bad;
        shared.bad_fields[1] = (uint32_t)(bad >> 32);
        shared.bad_fields[2] = (uint32_t)id;
        shared.bad_fields[3] = (uint32_t)((uint64_t)id >> 32);
    }
    __syncthreads();
    operation_offer(channel, shared.op, args.offer, shared.bad_fields);
}

/* Waits for the totals of all ranks: over all of them, and over those before this one. */
__device__ inline void gather_totals(const cuda_update_args_t &args, operation &op,
                                     int32_t column_count, uint32_t *total, uint32_t *before)
{
    const cuda_channel_t &channel = args.channel;
    for (int32_t column = threadIdx.x; column < column_count; column += blockDim.x) {
        total[column] = before[column] = 0;
        for (int32_t rank = 0; rank < channel.rank_count && !op.is_lost; rank++) {
            uint32_t count = 0;
            await_word(channel, op, rank, CUDA_OP_UPDATE,
                       count_words(channel, channel.rank, rank, op.epoch) + column, &count);
            total[column] += count;
            before[column] += rank < channel.rank ? count : 0;
            if (blockIdx.x == 0 && column < channel.rank_count) {
                args.route.row_counts[rank * channel.rank_count + column] = (int32_t)count;
            } else if (blockIdx.x == 0) {
                args.route
                    .expert_counts[rank * args.route.expert_count + column - channel.rank_count] =
                    (int32_t)count;
            }
        }
    }
    __syncthreads();
}

/* expert_major, one warp a rank: where each expert's block begins on its rank, added to `before`;
 * returns the rows that the rank needs. */
__device__ inline int64_t place_blocks(const cuda_update_args_t &args, int32_t rank,
                                       const uint32_t *total, uint32_t *before)
{
    const cuda_route_view_t &route = args.route;
    const bool is_own = rank == args.channel.rank && blockIdx.x == 0;
    const int32_t first = route.expert_start[rank];
    const int32_t count = route.expert_start[rank + 1] - first;
    int64_t next = 0;
    for (int32_t base = 0; base < count; base += 32) {
        const int32_t local = base + lane_index();
        const int32_t column =
            local < count ? args.channel.rank_count + route.expert_of_local[first + local] : -1;
        const int64_t rows = column < 0 ? 0 : total[column];
        const int64_t padded = (rows + route.alignment - 1) / route.alignment * route.alignment;
        int64_t sum = padded;
        for (int step = 1; step < 32; step *= 2) {
            const int64_t other = __shfl_up_sync(all_lanes, sum, step);
            sum += lane_index() >= step ? other : 0;
        }
        if (column >= 0) {
            before[column] += (uint32_t)(next + sum - padded);
        }
        if (column >= 0 && is_own) {
            route.block_starts[local] = next + sum - padded;
            route.local_counts[local] = rows;
        }
        next += __shfl_sync(all_lanes, sum, 31);
    }
    if (is_own && lane_index() == 0) {
        route.block_starts[count] = next;
    }
    return next;
}

/* rank_major: only the counts of the own experts are wanted. */
__device__ inline void count_own_experts(const cuda_update_args_t &args, const uint32_t *total)
{
    const cuda_route_view_t &route = args.route;
    const int32_t first = route.expert_start[args.channel.rank];
    for (int32_t local = threadIdx.x; local < route.local_expert_count; local += blockDim.x) {
        route.local_counts[local] =
            total[args.channel.rank_count + route.expert_of_local[first + local]];
    }
}

/* Every rank's need, into route.needs and compared with its capacity. */
__device__ inline void settle_needs(const cuda_update_args_t &args, operation &op,
                                    const uint32_t *total, uint32_t *before, int64_t *needs)
{
    const cuda_route_view_t &route = args.route;
    const int32_t rank_count = args.channel.rank_count;
    const bool is_rank_major = route.layout == 1;
    if (is_rank_major && blockIdx.x == 0) {
        count_own_experts(args, total);
    }
    for (int32_t rank = (int32_t)threadIdx.x / 32; rank < rank_count; rank += update_warps) {
        const int64_t need =
            is_rank_major ? (int64_t)total[rank] : place_blocks(args, rank, total, before);
        if (lane_index() == 0) {
            needs[rank] = need;
        }
    }
    __syncthreads();
    if (threadIdx.x != 0) {
        return;
    }
    for (int32_t rank = 0; rank < rank_count; rank++) {
        const int64_t capacity = (int64_t)wide_field(op, rank, CUDA_OFFER_CAPACITY_LOW);
        if (needs[rank] > capacity) {
            refuse(op, CUDA_REFUSED_CAPACITY, rank, needs[rank], capacity);
            return;
        }
    }
}

/* One thread: what the host and later kernels are told. */
__device__ inline void report_update(const cuda_update_args_t &args, const operation &op,
                                     const uint32_t *total, const int64_t *needs)
{
    const cuda_route_view_t &route = args.route;
    const int32_t rank = args.channel.rank;
    const int32_t rank_count = args.channel.rank_count;
    *route.has_routing = !op.is_refused;
    route.report->call.refusal = CUDA_REFUSED_NOT;
    if (op.is_refused) {
        report_verdict(op.verdict, &route.report->update);
        return;
    }
    for (int32_t i = 0; i < rank_count; i++) {
        route.needs[i] = needs[i];
    }
    *route.token_count = args.token_count;
    route.report->recv_row_count = needs[rank];
    route.report->logical_row_count = total[rank];
    route.report->own_row_count = route.row_counts[rank * rank_count + rank];
    route.report->update.refusal = CUDA_REFUSED_NOT;
}

/* What a row's receiver is told about it. */
__device__ __forceinline__ void tell_row(const cuda_update_args_t &args, int32_t rank, int32_t row,
                                         const cuda_row_t &entry)
{
    cuda_row_t *rows =
        reinterpret_cast<cuda_row_t *>(args.channel.parts[rank] + args.route.row_offset);
    *reinterpret_cast<uint4 *>(rows + row) =
        make_uint4((uint32_t)entry.token, (uint32_t)entry.next, __float_as_uint(entry.weight),
                   entry.rank | (uint32_t)entry.slot << 16 | (uint32_t)entry.first << 24);
}

/* rank_major: every slot of a token to one of its ranks. */
__device__ inline void tell_slots(const cuda_update_args_t &args, int64_t token, int32_t rank,
                                  int32_t row, const int32_t *ids, const int32_t *ranks)
{
    const cuda_route_view_t &route = args.route;
    cuda_slot_t *slots =
        reinterpret_cast<cuda_slot_t *>(args.channel.parts[rank] + route.slot_offsets[rank]) +
        (int64_t)row * route.topk;
    for (int32_t slot = lane_index(); slot < route.topk; slot += 32) {
        const bool is_here = ranks[slot] == rank;
        uint2 bits = make_uint2(0xFFFFFFFFu, 0);
        if (is_here) {
            bits.x = (uint32_t)__ldg(route.local_of_expert + ids[slot]);
            bits.y = __float_as_uint(route.weights[token * route.topk + slot]);
        }
        reinterpret_cast<uint2 *>(slots)[slot] = bits;
    }
}

/* Gives the slots of one token their rows. `next` counts the next row of each rank and expert. */
__device__ inline void place_token(const cuda_update_args_t &args, int64_t token,
                                   const int32_t *ids, const int32_t *ranks, int32_t *rows,
                                   uint32_t *next)
{
    const cuda_route_view_t &route = args.route;
    const bool is_rank_major = route.layout == 1;
    for (int32_t slot = lane_index(); slot < route.topk; slot += 32) {
        const int32_t column = is_rank_major ? ranks[slot] : args.channel.rank_count + ids[slot];
        rows[slot] = ranks[slot] < 0 ? -1 : (int32_t)next[column];
        route.rows[token * route.topk + slot] = rows[slot];
    }
    __syncwarp();
    for (int32_t slot = lane_index(); slot < route.topk; slot += 32) {
        const int32_t rank = ranks[slot];
        const bool first = rank >= 0 && is_first(ranks, slot);
        if (rank < 0 || (is_rank_major && !first)) {
            continue;
        }
        next[is_rank_major ? rank : args.channel.rank_count + ids[slot]]++;
        cuda_row_t entry = {(int32_t)token,
                            -1,
                            route.weights[token * route.topk + slot],
                            (uint16_t)args.channel.rank,
                            (uint8_t)slot,
                            (uint8_t)first};
        for (int32_t later = route.topk - 1; later > slot && !is_rank_major; later--) {
            if (ranks[later] == rank) {
                entry.next = rows[later];
            }
        }
        tell_row(args, rank, rows[slot], entry);
    }
    int32_t first_row = -1;
    for (int32_t slot = route.topk - 1; slot >= 0; slot--) {
        if (ranks[slot] == lane_index()) {
            first_row = rows[slot];
        }
    }
    if (lane_index() < args.channel.rank_count) {
        route.first_rows[token * args.channel.rank_count + lane_index()] = first_row;
    }
    if (!is_rank_major) {
        return;
    }
    for (int32_t rank = 0; rank < args.channel.rank_count; rank++) {
        const int32_t row = __shfl_sync(all_lanes, first_row, rank);
        if (row >= 0) {
            tell_slots(args, token, rank, row, ids, ranks);
        }
    }
}

/* Second walk. `next` becomes the next row of each rank and expert for this warp's tokens. */
__device__ inline void place_chunk(const cuda_update_args_t &args, update_shared &shared,
                                   uint32_t *next)
{
    const cuda_route_view_t &route = args.route;
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const token_chunk chunk = chunk_of_warp(args.token_count);
    const int64_t batch = staged_ids / route.topk;
    int32_t *ids = shared.ids[warp];
    for (int64_t first = chunk.begin; first < chunk.end; first += batch) {
        const int64_t count = min(batch, chunk.end - first);
        __syncwarp();
        for (int64_t i = lane_index(); i < count * route.topk; i += 32) {
            ids[i] = route.experts[first * route.topk + i];
        }
        for (int64_t token = first; token < first + count; token++) {
            const int32_t *token_ids = ids + (token - first) * route.topk;
            find_ranks(route, token_ids, shared.ranks[warp]);
            place_token(args, token, token_ids, shared.ranks[warp], shared.rows[warp], next);
        }
    }
}

/* What lies before a warp: other ranks' rows and blocks, this rank's earlier blocks and warps. */
__device__ inline void start_rows(const cuda_update_args_t &args, const uint32_t *before,
                                  int32_t column_count, uint32_t *counts)
{
    for (int32_t column = threadIdx.x; column < column_count; column += blockDim.x) {
        uint32_t start = before[column];
        for (uint32_t block = 0; block < blockIdx.x; block++) {
            start += __ldcg(args.route.block_counts + (int64_t)block * column_count + column);
        }
        for (int32_t warp = 0; warp < update_warps; warp++) {
            counts[warp * column_count + column] += start;
        }
    }
    __syncthreads();
}

/* Shared memory: update_shared, then uint32_t counts [update_warps][columns], total [columns],
 * before [columns], then int64_t needs [rank_count] in front of them. */
extern "C" __global__ void __launch_bounds__(CUDA_UPDATE_THREADS, 1)
    moxie_update(const __grid_constant__ cuda_update_args_t args)
{
    extern __shared__ uint64_t dynamic_shared[];
    __shared__ update_shared shared;
    operation &op = shared.op;
    const int32_t column_count = args.channel.rank_count + args.route.expert_count;
    int64_t *needs = reinterpret_cast<int64_t *>(dynamic_shared);
    uint32_t *counts = reinterpret_cast<uint32_t *>(dynamic_shared + CUDA_RANK_COUNT_MAX);
    uint32_t *total = counts + update_warps * column_count;
    uint32_t *before = total + column_count;

    operation_begin(args.channel, op);
    for (int32_t i = threadIdx.x; i < update_warps * column_count; i += blockDim.x) {
        counts[i] = 0;
    }
    if (threadIdx.x == 0) {
        shared.bad_slot = ~0ull;
    }
    __syncthreads();
    count_chunk(args, shared, counts + threadIdx.x / 32 * column_count);
    publish_block(args, shared, counts, column_count);
    if (grid_barrier(args.channel, op, CUDA_OP_UPDATE)) {
        tell_totals(args, shared, column_count);
    }
    operation_meet(args.channel, op, CUDA_OP_UPDATE);
    if (threadIdx.x == 0 && !op.is_lost) {
        judge_calls(args.channel, op, CUDA_OP_UPDATE, args.route.topk);
    }
    __syncthreads();
    if (!op.is_lost && !op.is_refused) {
        gather_totals(args, op, column_count, total, before);
        settle_needs(args, op, total, before, needs);
        __syncthreads();
    }
    if (threadIdx.x == 0 && blockIdx.x == 0 && !op.is_lost) {
        report_update(args, op, total, needs);
    }
    if (!op.is_lost && !op.is_refused) {
        start_rows(args, before, column_count, counts);
        place_chunk(args, shared, counts + threadIdx.x / 32 * column_count);
    }
    operation_leave(args.channel, op);
}

} // namespace moxie

#endif
