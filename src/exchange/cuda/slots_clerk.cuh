/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clerk of a dispatch in low latency: while its last warp speaks with the peers' clerks, the
 * others count this rank's routing, tell the counts, and take those of all ranks.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_CLERK_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_CLERK_CUH

#include "exchange/cuda/slots.cuh"
#include "moxie/route.h"

namespace moxie
{

/* Slots of the routing that a thread of the clerk has on the way at a time. */
constexpr int staged_depth = 6;

struct slots_clerk_shared : slots_block {
    unsigned long long bad_slot;                             /* the first, ~0: none */
    uint32_t masks[CUDA_SLOTS_THREADS];                      /* the ranks that some tokens go to */
    int16_t staged[staged_depth * CUDA_SLOTS_THREADS];       /* the experts of their slots */
    uint32_t bad_words[CUDA_RANK_COUNT_MAX][CUDA_BAD_WORDS]; /* what each rank tells */
    int32_t has_bad;                                         /* some rank's routing is wrong */
};

__device__ __forceinline__ int64_t read_id(const cuda_slots_dispatch_args_t &args, int64_t slot)
{
    return args.is_int64 ? reinterpret_cast<const int64_t *>(args.topk_idx)[slot]
                         : reinterpret_cast<const int32_t *>(args.topk_idx)[slot];
}

/* A slot's expert; -1: unused, or it does not exist. */
__device__ __forceinline__ int32_t expert_of_slot(const cuda_slots_dispatch_args_t &args,
                                                  int64_t slot)
{
    const int64_t id = read_id(args, slot);
    return id >= 0 && id < args.call.route.expert_count ? (int32_t)id : -1;
}

/* Dynamic shared memory of a dispatch: the route's place_of_expert, as no load is to wait for
 * another one; behind it is what a block's part needs. */
__device__ __forceinline__ uint32_t *place_table()
{
    extern __shared__ __align__(16) uint32_t slots_memory[];
    return slots_memory;
}

__device__ __forceinline__ uint32_t *slots_scratch(const cuda_slots_dispatch_args_t &args)
{
    return place_table() + (args.call.route.expert_count + 3) / 4 * 4;
}

/* The clerk's warps but the speaker: how many threads they are, and a barrier among them. */
__device__ __forceinline__ int32_t counter_count()
{
    return (int32_t)blockDim.x - 32;
}

__device__ __forceinline__ void sync_counters()
{
    asm volatile("bar.sync 1, %0;" ::"r"(counter_count()) : "memory");
}

/* Some whole tokens' slots, `count` of them from `first` on: their experts come into shared.staged,
 * then each is counted, and marked at its token. Loads of a thread are on their way together. */
__device__ __forceinline__ void count_slots(const cuda_slots_dispatch_args_t &args,
                                            slots_clerk_shared &shared, int64_t first,
                                            int32_t count, uint32_t *counts)
{
    const cuda_route_view_t &route = args.call.route;
    const int32_t topk = route.topk;
    int32_t experts[staged_depth];
    uint32_t places[staged_depth];
#pragma unroll
    for (int j = 0; j < staged_depth; j++) {
        const int32_t i = (int32_t)threadIdx.x + j * counter_count();
        const int64_t id = i < count ? read_id(args, first + i) : -1;
        const bool is_good = id >= -1 && id < route.expert_count;
        experts[j] = is_good ? (int32_t)id : -2;
    }
#pragma unroll
    for (int j = 0; j < staged_depth; j++) {
        if (j * counter_count() >= count) {
            break;
        }
        places[j] = experts[j] >= 0 ? place_table()[experts[j]] : 0;
        shared.staged[threadIdx.x + j * counter_count()] = (int16_t)experts[j];
    }
    sync_counters();
#pragma unroll
    for (int j = 0; j < staged_depth; j++) {
        const int32_t i = (int32_t)threadIdx.x + j * counter_count();
        if (j * counter_count() >= count) {
            break; /* the same in all threads */
        }
        const int32_t token = i / topk;
        bool is_bad = i < count && experts[j] == -2;
#pragma unroll 1
        for (int32_t other = token * topk; other < i && experts[j] >= 0; other++) {
            is_bad |= shared.staged[other] == experts[j];
        }
        if (is_bad) {
            atomicMin(&shared.bad_slot, (unsigned long long)(first + i));
        } else if (experts[j] >= 0) {
            atomicAdd(&counts[args.call.channel.rank_count + experts[j]], 1u);
            atomicOr(&shared.masks[token], 1u << (places[j] >> 16));
        }
    }
}

/*
 * The clerk's warps but the speaker: count this rank's routing into `counts`: rows for each rank,
 * then for each expert, then the first slot that is wrong and its id in CUDA_BAD_WORDS. A barrier
 * has to follow.
 */
__device__ inline void count_routing(const cuda_slots_dispatch_args_t &args,
                                     slots_clerk_shared &shared, uint32_t *counts)
{
    const cuda_route_view_t &route = args.call.route;
    const int32_t rank_count = args.call.channel.rank_count;
    const int32_t topk = route.topk;
    const int32_t step = min(counter_count(), staged_depth * counter_count() / topk);
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < rank_count + route.expert_count;
         i += counter_count()) {
        counts[i] = 0;
    }
    for (int64_t first = 0; first < args.token_count; first += step) {
        const int32_t tokens = (int32_t)min((int64_t)step, args.token_count - first);
        count_slots(args, shared, first * topk, tokens * topk, counts);
        sync_counters();
        const uint32_t ranks = shared.masks[threadIdx.x];
        shared.masks[threadIdx.x] = 0; /* as they were before */
#pragma unroll 1
        for (int32_t rank = 0; rank < rank_count; rank++) {
            const uint32_t lanes = __ballot_sync(all_lanes, (ranks >> rank & 1) != 0);
            if (lane_index() == 0 && lanes != 0) {
                atomicAdd(&counts[rank], (uint32_t)__popc(lanes));
            }
        }
    }
    if (threadIdx.x == 0) {
        uint32_t *bad = counts + rank_count + route.expert_count;
        const int64_t id = shared.bad_slot != ~0ull ? read_id(args, (int64_t)shared.bad_slot) : 0;
        bad[0] = (uint32_t)shared.bad_slot;
        bad[1] = (uint32_t)(shared.bad_slot >> 32);
        bad[2] = (uint32_t)id;
        bad[3] = (uint32_t)((uint64_t)id >> 32);
        *route.token_count = args.token_count;
    }
}

/* Words that a rank's clerk tells of its routing. */
__device__ __forceinline__ int32_t count_word_count(const cuda_slots_call_t &call)
{
    return call.channel.rank_count + call.route.expert_count + CUDA_BAD_WORDS;
}

/* The clerk's warps but the speaker: its counts to every rank. */
__device__ inline void send_counts(const cuda_slots_call_t &call, const operation &op,
                                   const uint32_t *counts)
{
    const int32_t count = count_word_count(call);
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < count; i += counter_count()) {
#pragma unroll 1
        for (int32_t rank = 0; rank < call.channel.rank_count; rank++) {
            store_word(count_words(call.channel, rank, call.channel.rank, op.epoch) + i,
                       tagged(op.epoch, counts[i]));
        }
    }
}

/* Where a word of the counts goes: to[from * stride], as far as it goes into the tables. */
struct count_target {
    int32_t *to;
    int32_t stride;
};

__device__ __forceinline__ count_target target_of_count(const cuda_slots_dispatch_args_t &args,
                                                        slots_clerk_shared &shared, int32_t index)
{
    const cuda_route_view_t &route = args.call.route;
    const int32_t rank_count = args.call.channel.rank_count;
    const int32_t expert = index - rank_count;
    if (expert < 0) {
        return {route.row_counts + index, rank_count};
    }
    if (expert < route.expert_count) {
        return {route.expert_counts + expert, route.expert_count};
    }
    return {reinterpret_cast<int32_t *>(&shared.bad_words[0][expert - route.expert_count]),
            CUDA_BAD_WORDS};
}

/* One thread: a word of the counts has come from all ranks, and is `sum` in all. A first bad slot
 * is ~0 where there is none. */
__device__ __forceinline__ void keep_sum(const cuda_slots_dispatch_args_t &args, int32_t index,
                                         uint32_t sum, uint32_t *totals)
{
    const cuda_route_view_t &route = args.call.route;
    const int32_t expert = index - args.call.channel.rank_count;
    if (expert >= 0 && expert < route.expert_count) {
        const uint32_t place = place_table()[expert];
        if ((int32_t)(place >> 16) == args.call.channel.rank) {
            totals[place & 0xFFFFu] = sum;
        }
    }
}

/* The clerk's warps but the speaker: all ranks' counts, unless the speaker finds out that some
 * never come. This rank's experts are summed up in `totals`. */
__device__ inline void receive_counts(const cuda_slots_dispatch_args_t &args,
                                      slots_clerk_shared &shared, uint32_t *totals)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank_count = call.channel.rank_count;
    const int32_t count = count_word_count(call);
    const int32_t first_bad = count - CUDA_BAD_WORDS;
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < count; i += counter_count()) {
        const count_target target = target_of_count(args, shared, i);
        uint32_t sum = 0;
#pragma unroll 1
        for (int32_t from = 0; from < rank_count; from += piece_depth) {
            uint32_t values[piece_depth];
            if (!take_words(
                    call, shared.op, from, rank_count,
                    [&](int32_t rank) {
                        return count_words(call.channel, call.channel.rank, rank, shared.op.epoch) +
                               i;
                    },
                    values)) {
                return;
            }
#pragma unroll
            for (int j = 0; j < piece_depth; j++) {
                const int32_t rank = from + j;
                if (rank >= rank_count) {
                    break;
                }
                sum += values[j];
                target.to[rank * target.stride] = (int32_t)values[j];
                if (i == call.channel.rank && args.source_count != nullptr) {
                    args.source_count[rank] = values[j];
                }
                if ((i == first_bad || i == first_bad + 1) && values[j] != ~0u) {
                    shared.has_bad = 1;
                }
            }
        }
        keep_sum(args, i, sum, totals);
    }
}

/* All threads of the clerk: the counts that the caller asked for. */
__device__ inline void write_slot_counts(const cuda_slots_dispatch_args_t &args,
                                         const uint32_t *totals)
{
    const cuda_route_view_t &route = args.call.route;
    const int64_t slot_count = args.call.channel.rank_count * route.token_count_max;
#pragma unroll 1
    for (int32_t local = (int32_t)threadIdx.x; local <= route.local_expert_count;
         local += (int32_t)blockDim.x) {
        if (args.expert_start != nullptr) {
            args.expert_start[local] = local * slot_count;
        }
        if (args.expert_count != nullptr && local < route.local_expert_count) {
            args.expert_count[local] = totals[local];
        }
    }
}

/* One thread: the verdict on routings, when all counts are there. */
__device__ inline void judge_routings(const cuda_slots_call_t &call, slots_clerk_shared &shared)
{
    operation &op = shared.op;
    for (int32_t rank = 0; rank < call.channel.rank_count; rank++) {
        for (int32_t word = 0; word < CUDA_BAD_WORDS; word++) {
            op.fields[rank][CUDA_OFFER_BAD_SLOT_LOW + word] = shared.bad_words[rank][word];
        }
    }
    judge_calls(call.channel, op, kind_of(call.offer), call.route.topk);
}

/* The clerk's speaker. */
__device__ inline void speak_dispatch(const cuda_slots_call_t &call, operation &op)
{
    if ((call.halves & CUDA_HALF_SEND) != 0 && !op.is_lost) {
        speaker_offer(call, op);
    }
    __syncthreads();
    if (receives(call) && !op.is_lost) {
        speaker_judge(call, op);
    }
}

/* Its other warps meanwhile. `scratch` has room for this rank's counts, and behind them for those
 * of its experts. */
__device__ inline void count_dispatch(const cuda_slots_dispatch_args_t &args,
                                      slots_clerk_shared &shared, uint32_t *scratch,
                                      uint32_t *totals)
{
    const cuda_slots_call_t &call = args.call;
    if (threadIdx.x == 0) {
        shared.bad_slot = ~0ull;
        shared.has_bad = 0;
    }
    if (sends(call)) {
        count_routing(args, shared, scratch);
    }
    __syncthreads(); /* now the epoch is known */
    slots_mark(shared.op, CUDA_PHASE_PREPARE);
    if (sends(call) && !shared.op.is_lost) {
        send_counts(call, shared.op, scratch);
    }
    if (receives(call) && !shared.op.is_lost) {
        receive_counts(args, shared, totals);
    }
}

__device__ inline void clerk_dispatch(const cuda_slots_dispatch_args_t &args,
                                      slots_clerk_shared &shared, uint32_t *scratch)
{
    const cuda_slots_call_t &call = args.call;
    operation &op = shared.op;
    uint32_t *totals = scratch + count_word_count(call);
    if (is_speaker()) {
        __syncwarp();
        speak_dispatch(call, op);
    } else {
        count_dispatch(args, shared, scratch, totals);
    }
    __syncthreads();
    slots_mark(op, CUDA_PHASE_MEET);
    if (threadIdx.x == 0 && (call.halves & CUDA_HALF_SEND) != 0) {
        clerk_forget(call);
        call.slots.report->has_dispatched = 0;
    }
    if (!receives(call) || op.is_lost) {
        return;
    }
    if (threadIdx.x == 0 && shared.has_bad && !op.is_refused) {
        judge_routings(call, shared);
    }
    __syncthreads();
    if (!op.is_refused) {
        write_slot_counts(args, totals);
        if (threadIdx.x == 0) {
            call.slots.report->has_dispatched = 1;
        }
    }
    clerk_report(call, op);
}

} // namespace moxie

#endif
