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

/* Slots that a warp stages at a time: whole tokens, at least MOXIE_TOPK_MAX slots. */
constexpr int staged_slots = 256;

/* Loads of a lane that are on their way together. */
constexpr int stage_depth = 4;

/* The slots of some tokens. */
struct slot_stage {
    int32_t ids[staged_slots];      /* experts, -1: unused */
    int32_t rows[staged_slots];     /* second walk */
    int32_t arrivals[staged_slots]; /* second walk: of each token's first slot on a rank */
    float weights[staged_slots];
    uint32_t places[staged_slots]; /* slot_place, packed */
    int16_t ranks[staged_slots];   /* -1: unused */
    int16_t locals[staged_slots];  /* index of the expert on its rank */
    int16_t firsts[staged_slots];  /* rank_major: the slots that have an arrival */
};

static_assert(sizeof(slot_stage) == CUDA_UPDATE_STAGE_BYTES, "the host knows how much it is");

struct update_shared {
    operation op;
    unsigned long long bad_slot; /* the smallest of the block */
    uint32_t bad_fields[4];      /* the rank's bad slot and its id, as fields of the offer */
    uint32_t own_row_count;      /* from this rank to itself */
    int64_t needs[CUDA_RANK_COUNT_MAX];
};

__device__ __forceinline__ int32_t warp_count()
{
    return (int32_t)blockDim.x / 32;
}

/* Where a slot stands among those of its token on the same rank. */
struct slot_place {
    int32_t first; /* index in the stage of the first of them */
    int32_t index;
    int32_t count;
    bool is_twice; /* an earlier slot has the same expert */
};

/* Tokens of a warp: [begin, end). */
struct token_chunk {
    int64_t begin;
    int64_t end;
};

__device__ __forceinline__ token_chunk chunk_of_warp(int64_t token_count)
{
    const int64_t chunk_count = (int64_t)gridDim.x * warp_count();
    const int64_t size = (token_count + chunk_count - 1) / chunk_count;
    const int64_t begin =
        min(token_count, (int64_t)(blockIdx.x * warp_count() + threadIdx.x / 32) * size);
    return {begin, min(token_count, begin + size)};
}

__device__ __forceinline__ int64_t read_id(const cuda_update_args_t &args, int64_t index)
{
    return args.is_int64 ? reinterpret_cast<const int64_t *>(args.topk_idx)[index]
                         : reinterpret_cast<const int32_t *>(args.topk_idx)[index];
}

__device__ __forceinline__ void stage_slot(const cuda_route_view_t &route, slot_stage &stage,
                                           int32_t i, int32_t expert, float weight)
{
    const uint32_t place = expert < 0 ? ~0u : __ldg(route.place_of_expert + expert);
    stage.ids[i] = expert;
    stage.weights[i] = weight;
    stage.ranks[i] = (int16_t)(place >> 16);
    stage.locals[i] = (int16_t)(place & 0xFFFFu);
}

__device__ __forceinline__ slot_place place_of(const slot_stage &stage, int32_t i)
{
    const uint32_t packed = stage.places[i];
    return {(int32_t)(packed & 0xFF), (int32_t)(packed >> 8 & 0xFF), (int32_t)(packed >> 16 & 0xFF),
            packed >> 24 != 0};
}

/* All lanes: finds the places of the staged slots. */
__device__ inline void find_places(slot_stage &stage, int32_t slot_count, int32_t topk)
{
    for (int32_t i = lane_index(); i < slot_count; i += 32) {
        const int32_t begin = i / topk * topk;
        const int16_t rank = stage.ranks[i];
        const int32_t id = stage.ids[i];
        int32_t first = i;
        int32_t index = 0;
        int32_t count = 0;
        bool is_twice = false;
#pragma unroll 4
        for (int32_t other = begin; other < begin + topk; other++) {
            const bool is_same = stage.ranks[other] == rank;
            first = is_same && other < first ? other : first;
            index += is_same && other < i;
            count += is_same;
            is_twice |= other < i && stage.ids[other] == id;
        }
        stage.places[i] = (uint32_t)(first | index << 8 | count << 16) | (is_twice ? 1u << 24 : 0u);
    }
    __syncwarp();
}

/* Copies ids and weights of some slots into the route; ids and ranks into the stage, where an id
 * that does not exist becomes unused. Returns the smallest bad slot that this lane saw. */
__device__ inline unsigned long long stage_routing(const cuda_update_args_t &args, int64_t begin,
                                                   int32_t slot_count, slot_stage &stage)
{
    const cuda_route_view_t &route = args.route;
    unsigned long long bad = ~0ull;
    __syncwarp();
    for (int32_t base = lane_index(); base - lane_index() < slot_count; base += 32 * stage_depth) {
        int64_t ids[stage_depth];
        float weights[stage_depth];
#pragma unroll
        for (int j = 0; j < stage_depth; j++) {
            const int32_t i = base + 32 * j;
            ids[j] = i < slot_count ? read_id(args, begin + i) : -1;
            weights[j] = i < slot_count && args.topk_weights != nullptr
                             ? args.topk_weights[begin + i]
                             : 1.0f;
        }
#pragma unroll
        for (int j = 0; j < stage_depth; j++) {
            const int32_t i = base + 32 * j;
            const bool exists = ids[j] >= -1 && ids[j] < route.expert_count;
            const int32_t expert = exists ? (int32_t)ids[j] : -1;
            if (i < slot_count) {
                bad = exists ? bad : min(bad, (unsigned long long)(begin + i));
                stage_slot(route, stage, i, expert, weights[j]);
                route.experts[begin + i] = expert;
                route.weights[begin + i] = weights[j];
            }
        }
    }
    __syncwarp();
    find_places(stage, slot_count, route.topk);
    return bad;
}

/* The same from the route, where the first walk left it. */
__device__ inline void stage_route(const cuda_update_args_t &args, int64_t begin,
                                   int32_t slot_count, slot_stage &stage)
{
    __syncwarp();
    for (int32_t i = lane_index(); i < slot_count; i += 32) {
        stage_slot(args.route, stage, i, args.route.experts[begin + i],
                   args.route.weights[begin + i]);
    }
    __syncwarp();
    find_places(stage, slot_count, args.route.topk);
}

/* First walk: counts of this warp's chunk, rows to each rank and then to each expert. */
__device__ inline void count_chunk(const cuda_update_args_t &args, update_shared &shared,
                                   slot_stage &stage, uint32_t *counts)
{
    const int32_t topk = args.route.topk;
    const token_chunk chunk = chunk_of_warp(args.token_count);
    const int64_t batch = staged_slots / topk;
    unsigned long long bad = ~0ull;
    for (int64_t token = chunk.begin; token < chunk.end; token += batch) {
        const int32_t slot_count = (int32_t)min(batch, chunk.end - token) * topk;
        bad = min(bad, stage_routing(args, token * topk, slot_count, stage));
        for (int32_t i = lane_index(); i < slot_count; i += 32) {
            if (stage.ids[i] < 0) {
                continue;
            }
            const slot_place place = place_of(stage, i);
            if (place.is_twice) {
                bad = min(bad, (unsigned long long)(token * topk + i));
            }
            atomicAdd(&counts[args.channel.rank_count + stage.ids[i]], 1u);
            if (place.index == 0) {
                atomicAdd(&counts[stage.ranks[i]], 1u);
            }
        }
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
        for (int32_t warp = 0; warp < warp_count(); warp++) {
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

/* This rank's totals, a share of the columns by each block, to every rank. What earlier blocks of
 * this rank counted is left in `before`. */
__device__ inline void tell_totals(const cuda_update_args_t &args, update_shared &shared,
                                   int32_t column_count, uint32_t *before)
{
    const cuda_channel_t &channel = args.channel;
    const uint32_t epoch = shared.op.epoch;
    for (int32_t column = threadIdx.x; column < column_count; column += blockDim.x) {
        uint32_t counts[CUDA_UPDATE_BLOCKS_MAX]; /* asked for together */
#pragma unroll
        for (uint32_t block = 0; block < CUDA_UPDATE_BLOCKS_MAX; block++) {
            counts[block] =
                block < gridDim.x
                    ? __ldcg(args.route.block_counts + (int64_t)block * column_count + column)
                    : 0;
        }
        uint32_t total = 0;
        uint32_t earlier = 0;
#pragma unroll
        for (uint32_t block = 0; block < CUDA_UPDATE_BLOCKS_MAX; block++) {
            earlier += block < blockIdx.x ? counts[block] : 0;
            total += counts[block];
        }
        before[column] = earlier;
        for (int32_t rank = 0; rank < channel.rank_count && column % gridDim.x == blockIdx.x;
             rank++) {
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

/* All threads: whether all ranks update with arguments and a routing that can be used. */
__device__ inline void judge_update(const cuda_update_args_t &args, operation &op)
{
    if (threadIdx.x < 32 && !op.is_lost) {
        bool is_plain = true;
        if (lane_index() < args.channel.rank_count) {
            is_plain = op.fields[lane_index()][CUDA_OFFER_KIND] == CUDA_OP_UPDATE &&
                       op.fields[lane_index()][CUDA_OFFER_STATUS] == 0 &&
                       wide_field(op, lane_index(), CUDA_OFFER_BAD_SLOT_LOW) == ~0ull;
        }
        if (!__all_sync(all_lanes, is_plain) && lane_index() == 0) {
            judge_calls(args.channel, op, CUDA_OP_UPDATE, args.route.topk);
        }
    }
    __syncthreads();
}

/* Ranks whose counts are asked for together. */
constexpr int32_t gather_depth = 4;

/* A count that has not come yet. */
__device__ __noinline__ uint32_t await_count(const cuda_channel_t &channel, operation &op,
                                             int32_t rank, int32_t column)
{
    uint32_t count = 0;
    await_word(channel, op, rank, CUDA_OP_UPDATE,
               count_words(channel, channel.rank, rank, op.epoch) + column, &count);
    return count;
}

/* One rank's count in a column, `sum` being those of the ranks before it; leaves it in the route.
 */
__device__ __forceinline__ uint32_t take_count(const cuda_update_args_t &args,
                                               update_shared &shared, uint64_t word, int32_t rank,
                                               int32_t column, uint32_t sum, uint32_t *before)
{
    const cuda_channel_t &channel = args.channel;
    const cuda_route_view_t &route = args.route;
    const uint32_t count = (uint32_t)(word >> 32) == shared.op.epoch
                               ? (uint32_t)word
                               : await_count(channel, shared.op, rank, column);
    if (rank == channel.rank) {
        before[column] += sum;
    }
    if (rank == channel.rank && column == channel.rank) {
        shared.own_row_count = count;
    }
    if (blockIdx.x == 0 && column < channel.rank_count) {
        route.row_counts[rank * channel.rank_count + column] = (int32_t)count;
    } else if (blockIdx.x == 0) {
        route.expert_counts[rank * route.expert_count + column - channel.rank_count] =
            (int32_t)count;
    }
    return count;
}

/* Waits for the totals of all ranks: over all of them, and over those before this one, which are
 * added to `before`. */
__device__ inline void gather_totals(const cuda_update_args_t &args, update_shared &shared,
                                     int32_t column_count, uint32_t *total, uint32_t *before)
{
    const cuda_channel_t &channel = args.channel;
    operation &op = shared.op;
    const int32_t rank_count = channel.rank_count;
    for (int32_t column = threadIdx.x; column < column_count && !op.is_lost; column += blockDim.x) {
        uint32_t sum = 0;
#pragma unroll 1
        for (int32_t first = 0; first < rank_count; first += gather_depth) {
            uint64_t words[gather_depth]; /* asked for together */
#pragma unroll
            for (int32_t i = 0; i < gather_depth; i++) {
                words[i] = first + i < rank_count
                               ? peek_word(count_words(channel, channel.rank, first + i, op.epoch) +
                                           column)
                               : 0;
            }
#pragma unroll
            for (int32_t i = 0; i < gather_depth; i++) {
                if (first + i < rank_count) {
                    sum += take_count(args, shared, words[i], first + i, column, sum, before);
                }
            }
        }
        total[column] = sum;
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
    for (int32_t rank = (int32_t)threadIdx.x / 32; rank < rank_count; rank += warp_count()) {
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
        const int64_t capacity = (int64_t)wide_field(op, rank, CUDA_OFFER_ROUTE_CAPACITY_LOW);
        if (needs[rank] > capacity) {
            refuse(op, CUDA_REFUSED_CAPACITY, rank, needs[rank], capacity);
            return;
        }
    }
}

/* One thread: what the host and later kernels are told. */
__device__ inline void report_update(const cuda_update_args_t &args, const update_shared &shared,
                                     const uint32_t *total)
{
    const operation &op = shared.op;
    const int64_t *needs = shared.needs;
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
    route.report->own_row_count = shared.own_row_count;
    route.report->update.refusal = CUDA_REFUSED_NOT;
}

/* All lanes with a column, in slot order: each takes the next number of its column. */
__device__ __forceinline__ uint32_t take_numbers(uint32_t *next, int32_t column, bool takes)
{
    const uint32_t takers = __ballot_sync(all_lanes, takes);
    uint32_t number = 0;
    if (takes) {
        const uint32_t same = __match_any_sync(takers, column);
        const uint32_t lower = (1u << lane_index()) - 1;
        number = next[column] + (uint32_t)__popc((int)(same & lower));
        __syncwarp(same);
        if ((same & ~lower) == 1u << lane_index()) { /* the last of them */
            next[column] = number + 1;
        }
    }
    __syncwarp();
    return number;
}

/* Gives every staged slot its row, and every first slot of a token on a rank its arrival number.
 * `next` counts both: of each rank, and in expert_major of each expert. */
__device__ inline void number_slots(const cuda_update_args_t &args, slot_stage &stage,
                                    int32_t slot_count, uint32_t *next)
{
    const bool is_rank_major = args.route.layout == 1;
    const int32_t rank_count = args.channel.rank_count;
    for (int32_t base = 0; base < slot_count; base += 32) {
        const int32_t i = base + lane_index();
        const bool is_used = i < slot_count && stage.ids[i] >= 0;
        const bool is_first = is_used && place_of(stage, i).index == 0;
        const int32_t arrival = (int32_t)take_numbers(next, is_used ? stage.ranks[i] : 0, is_first);
        if (is_first) {
            stage.arrivals[i] = arrival;
        }
        if (!is_rank_major) {
            const int32_t row =
                (int32_t)take_numbers(next, is_used ? rank_count + stage.ids[i] : 0, is_used);
            if (is_used) {
                stage.rows[i] = row;
            }
        }
    }
    __syncwarp();
}

/* rank_major: every arrival's rank is told all slots of its token, as it sees them. Some lanes an
 * arrival, so that they write whole lines. */
__device__ inline void tell_slots(const cuda_update_args_t &args, const slot_stage &stage,
                                  int32_t first_count)
{
    const cuda_route_view_t &route = args.route;
    const int32_t width = min(route.topk, 32);
    const int32_t at_once = 32 / width;
    const int32_t turn = lane_index() / width;
    for (int32_t number = turn; number < first_count && turn < at_once; number += at_once) {
        const int32_t i = stage.firsts[number];
        const int32_t rank = stage.ranks[i];
        const int32_t begin = i / route.topk * route.topk;
        uint2 *slots = reinterpret_cast<uint2 *>(args.channel.parts[rank] + route.detail_offset) +
                       (int64_t)stage.arrivals[i] * route.topk;
        for (int32_t slot = lane_index() % width; slot < route.topk; slot += width) {
            uint2 bits = make_uint2(0xFFFFFFFFu, 0);
            if (stage.ranks[begin + slot] == rank) {
                bits.x = (uint32_t)stage.locals[begin + slot];
                bits.y = __float_as_uint(stage.weights[begin + slot]);
            }
            slots[slot] = bits;
        }
    }
}

/* Tells each slot's rank of it, and this rank's tables where the token's rows are. */
__device__ inline void tell_places(const cuda_update_args_t &args, slot_stage &stage, int64_t begin,
                                   int32_t slot_count)
{
    const cuda_route_view_t &route = args.route;
    const bool is_rank_major = route.layout == 1;
    int32_t first_count = 0;
    for (int32_t base = 0; base < slot_count; base += 32) {
        const int32_t i = base + lane_index();
        const bool is_used = i < slot_count && stage.ids[i] >= 0;
        const bool is_first = is_used && place_of(stage, i).index == 0;
        const uint32_t firsts = __ballot_sync(all_lanes, is_first);
        if (is_first) {
            stage.firsts[first_count + __popc((int)(firsts & ((1u << lane_index()) - 1)))] =
                (int16_t)i;
        }
        first_count += __popc((int)firsts);
        if (i < slot_count && !is_used) {
            route.rows[begin + i] = -1;
        }
        if (!is_used) {
            continue;
        }
        const slot_place place = place_of(stage, i);
        const int32_t rank = stage.ranks[i];
        const int32_t arrival = stage.arrivals[place.first];
        const int32_t row = is_rank_major ? arrival : stage.rows[i];
        const int64_t token = (begin + i) / route.topk;
        route.rows[begin + i] = row;
        if (place.index == 0) {
            route.first_rows[token * args.channel.rank_count + rank] = row;
            reinterpret_cast<uint2 *>(args.channel.parts[rank] + route.arrival_offset)[arrival] =
                make_uint2((uint32_t)token, (uint32_t)place.count);
        }
        if (!is_rank_major) {
            uint4 *links =
                reinterpret_cast<uint4 *>(args.channel.parts[rank] + route.detail_offset);
            links[(int64_t)arrival * route.topk + place.index] =
                make_uint4((uint32_t)row, __float_as_uint(stage.weights[i]),
                           (uint32_t)((begin + i) % route.topk), 0);
        }
    }
    __syncwarp();
    if (is_rank_major) {
        tell_slots(args, stage, first_count);
    }
}

/* Second walk. `next` becomes the next number of each rank and expert for this warp's tokens. */
__device__ inline void place_chunk(const cuda_update_args_t &args, slot_stage &stage,
                                   uint32_t *next)
{
    const cuda_route_view_t &route = args.route;
    const token_chunk chunk = chunk_of_warp(args.token_count);
    const int64_t batch = staged_slots / route.topk;
    const int64_t rank_count = args.channel.rank_count;
    for (int64_t i = chunk.begin * rank_count + lane_index(); i < chunk.end * rank_count; i += 32) {
        route.first_rows[i] = -1;
    }
    for (int64_t token = chunk.begin; token < chunk.end; token += batch) {
        const int32_t slot_count = (int32_t)min(batch, chunk.end - token) * route.topk;
        if (chunk.end - chunk.begin > batch) { /* else they are still there */
            stage_route(args, token * route.topk, slot_count, stage);
        }
        number_slots(args, stage, slot_count, next);
        tell_places(args, stage, token * route.topk, slot_count);
    }
}

/* What lies before a warp: earlier warps of this block, and what lies before the block. */
__device__ inline void start_rows(const uint32_t *before, int32_t column_count, uint32_t *counts)
{
    for (int32_t column = threadIdx.x; column < column_count; column += blockDim.x) {
        const uint32_t start = before[column];
        for (int32_t warp = 0; warp < warp_count(); warp++) {
            counts[warp * column_count + column] += start;
        }
    }
    __syncthreads();
}

/* Shared memory: slot_stage [warps], then uint32_t counts [warps][columns], total [columns], before
 * [columns]. */
extern "C" __global__ void __launch_bounds__(CUDA_UPDATE_THREADS, 1)
    moxie_update(const __grid_constant__ cuda_update_args_t args)
{
    extern __shared__ __align__(16) char dynamic_shared[];
    __shared__ update_shared shared;
    operation &op = shared.op;
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const int32_t column_count = args.channel.rank_count + args.route.expert_count;
    slot_stage *stages = reinterpret_cast<slot_stage *>(dynamic_shared);
    uint32_t *counts = reinterpret_cast<uint32_t *>(stages + warp_count());
    uint32_t *own_counts = counts + warp * column_count;
    uint32_t *total = counts + warp_count() * column_count;
    uint32_t *before = total + column_count;

    operation_begin(args.channel, op);
    for (int32_t i = threadIdx.x; i < warp_count() * column_count; i += blockDim.x) {
        counts[i] = 0;
    }
    if (threadIdx.x == 0) {
        shared.bad_slot = ~0ull;
    }
    __syncthreads();
    count_chunk(args, shared, stages[warp], own_counts);
    publish_block(args, shared, counts, column_count);
    if (grid_barrier(args.channel, op, CUDA_OP_UPDATE)) {
        tell_totals(args, shared, column_count, before);
    }
    operation_meet(args.channel, op, CUDA_OP_UPDATE);
    let_next_kernel_launch(); /* all ranks are here: it takes nothing from a peer */
    judge_update(args, op);
    if (!op.is_lost && !op.is_refused) {
        gather_totals(args, shared, column_count, total, before);
        settle_needs(args, op, total, before, shared.needs);
        __syncthreads();
    }
    if (threadIdx.x == 0 && blockIdx.x == 0 && !op.is_lost) {
        report_update(args, shared, total);
    }
    if (!op.is_lost && !op.is_refused) {
        start_rows(before, column_count, counts);
        place_chunk(args, stages[warp], own_counts);
    }
    operation_mark(op, CUDA_PHASE_MOVE);
    operation_leave(args.channel, op);
}

} // namespace moxie

#endif
