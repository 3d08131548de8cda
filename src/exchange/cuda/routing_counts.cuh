/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A routing's rows counted beside its dispatch, in rank_major: which tokens go to which rank, how
 * many of each block to each, and what all ranks make of the counts of all. Chunks of tokens follow
 * each other in token order, one of each sending warp of each block, so that rows are a pure
 * function of the routing.
 */
#ifndef MOXIE_EXCHANGE_CUDA_ROUTING_COUNTS_CUH
#define MOXIE_EXCHANGE_CUDA_ROUTING_COUNTS_CUH

#include "exchange/cuda/dispatch_send.cuh"
#include "exchange/cuda/update.cuh"

namespace moxie
{

/* Ids of a token that a lane asks for together. */
constexpr int32_t ids_at_once = 8;

/* In place of a block's counts: there is a bad slot in its chunks. */
constexpr uint32_t bad_chunks = ~0u;

constexpr unsigned long long no_slot = ~0ull;
constexpr uint32_t no_line = ~0u;

/* Fields of an offer that tell of a bad slot. */
constexpr int32_t bad_field_count = CUDA_OFFER_FIELD_COUNT - CUDA_OFFER_BAD_SLOT_LOW;

struct routing_shared : dispatch_shared {
    uint32_t counts[bulk_warps][CUDA_RANK_COUNT_MAX]; /* rows of each chunk to each rank */
    unsigned long long bad_slots[bulk_warps];         /* the first of each chunk, or no_slot */
    uint32_t before[CUDA_RANK_COUNT_MAX];             /* rows on each rank before this block's */
    uint32_t row_counts[CUDA_RANK_COUNT_MAX * CUDA_RANK_COUNT_MAX]; /* [source][rank] */
    uint32_t bad_line; /* the first block of all, rank · blocks + block, with a bad slot */
    int64_t needs[CUDA_RANK_COUNT_MAX]; /* rows that each rank receives */
    int32_t has_routing;                /* no rank's is bad, and all fit their routes */
    uint32_t told;                      /* the other blocks that had told all before this one */
    uint8_t order[CUDA_DISPATCH_THREADS / 32][32]; /* a warp's: routing_tables.cuh */
};

/* Up to 32 tokens that follow each other. */
struct token_group {
    int64_t begin;
    int32_t count;
    uint32_t tokens; /* those with a row on this lane's rank, a bit each */
    uint32_t next;   /* the first one's there */
};

__device__ __forceinline__ uint32_t lower_lanes()
{
    return (1u << lane_index()) - 1;
}

__device__ __forceinline__ int64_t chunk_size_of(const cuda_dispatch_routing_args_t &args)
{
    const int64_t chunk_count = (int64_t)gridDim.x * bulk_warps;
    return (args.token_count + chunk_count - 1) / chunk_count;
}

__device__ __forceinline__ token_chunk chunk_of_sender(const cuda_dispatch_routing_args_t &args,
                                                       int32_t warp)
{
    const int64_t size = chunk_size_of(args);
    const int64_t begin = min(args.token_count, (blockIdx.x * bulk_warps + warp) * size);
    return {begin, min(args.token_count, begin + size)};
}

/* The first ids of `count`, -1 where there are none, and -2 for what an int32_t cannot hold. */
template <typename id_t>
__device__ __forceinline__ void read_ids_of(const id_t *from, int32_t count,
                                            int32_t (&ids)[ids_at_once])
{
    constexpr int wide_loads = sizeof(id_t) * ids_at_once / sizeof(uint4);
    union {
        uint4 wide[wide_loads];
        id_t ids[ids_at_once];
    } found;
    if (count >= ids_at_once && reinterpret_cast<uint64_t>(from) % sizeof(uint4) == 0) {
#pragma unroll
        for (int i = 0; i < wide_loads; i++) {
            found.wide[i] = reinterpret_cast<const uint4 *>(from)[i];
        }
    } else {
#pragma unroll
        for (int i = 0; i < ids_at_once; i++) {
            found.ids[i] = i < count ? from[i] : -1;
        }
    }
#pragma unroll
    for (int i = 0; i < ids_at_once; i++) {
        ids[i] = found.ids[i] == (int32_t)found.ids[i] ? (int32_t)found.ids[i] : -2;
    }
}

__device__ __forceinline__ void read_ids(const cuda_dispatch_routing_args_t &args, int64_t slot,
                                         int32_t count, int32_t (&ids)[ids_at_once])
{
    if (args.is_int64) {
        read_ids_of(reinterpret_cast<const int64_t *>(args.topk_idx) + slot, count, ids);
    } else {
        read_ids_of(reinterpret_cast<const int32_t *>(args.topk_idx) + slot, count, ids);
    }
}

__device__ __forceinline__ int64_t read_id(const cuda_dispatch_routing_args_t &args, int64_t slot)
{
    return args.is_int64 ? reinterpret_cast<const int64_t *>(args.topk_idx)[slot]
                         : reinterpret_cast<const int32_t *>(args.topk_idx)[slot];
}

/* The ranks that hold experts of a token, a bit each; *bad becomes the first slot whose expert does
 * not exist or was there before, or topk. */
__device__ __forceinline__ uint32_t ranks_of_token(const cuda_dispatch_routing_args_t &args,
                                                   int64_t token, int32_t *bad)
{
    const cuda_route_view_t &route = args.call.route;
    uint32_t ranks = 0;
    *bad = route.topk;
#pragma unroll 1
    for (int32_t first = 0; first < route.topk; first += ids_at_once) {
        int32_t ids[ids_at_once];
        read_ids(args, token * route.topk + first, route.topk - first, ids);
#pragma unroll
        for (int i = 0; i < ids_at_once; i++) {
            const bool exists = ids[i] >= 0 && ids[i] < route.expert_count;
            bool is_bad = !exists && ids[i] != -1;
#pragma unroll
            for (int other = 0; other < i; other++) {
                is_bad = is_bad || (exists && ids[other] == ids[i]);
            }
            for (int32_t other = 0; other < first; other++) {
                is_bad = is_bad || (exists && read_id(args, token * route.topk + other) == ids[i]);
            }
            if (exists) {
                ranks |= 1u << (__ldg(route.place_of_expert + ids[i]) >> 16);
            }
            *bad = is_bad ? min(*bad, first + i) : *bad;
        }
    }
    return ranks;
}

/* A warp: the tokens of a chunk in groups. `next` is the first row on this lane's rank; the one
 * behind the last is returned. */
template <typename visit_t>
__device__ __forceinline__ uint32_t walk_chunk(const cuda_dispatch_routing_args_t &args,
                                               const token_chunk &chunk, uint32_t next,
                                               visit_t visit)
{
    const int32_t rank_count = args.call.channel.rank_count;
#pragma unroll 1
    for (int64_t begin = chunk.begin; begin < chunk.end; begin += 32) {
        const int64_t token = begin + lane_index();
        int32_t bad = args.call.route.topk;
        const uint32_t ranks = token < chunk.end ? ranks_of_token(args, token, &bad) : 0;
        token_group group = {begin, (int32_t)min((int64_t)32, chunk.end - begin), 0, next};
        for (int32_t rank = 0; rank < rank_count; rank++) {
            const uint32_t tokens = __ballot_sync(all_lanes, (ranks >> rank & 1) != 0);
            group.tokens = lane_index() == rank ? tokens : group.tokens;
        }
        visit(group, bad);
        next += (uint32_t)__popc((int)group.tokens);
    }
    return next;
}

/* All threads, before the block meets. */
__device__ __forceinline__ void forget_counts(routing_shared &shared)
{
    for (int32_t i = threadIdx.x; i < CUDA_RANK_COUNT_MAX * CUDA_RANK_COUNT_MAX; i += blockDim.x) {
        shared.row_counts[i] = 0;
    }
    if (threadIdx.x < CUDA_RANK_COUNT_MAX) {
        shared.before[threadIdx.x] = 0;
    }
    if (threadIdx.x == 0) {
        shared.bad_line = no_line;
        shared.has_routing = 0;
    }
}

/* A sending warp: counts its chunk. Returns of its first tokens those with a row on this lane's
 * rank. */
__device__ __forceinline__ uint32_t count_chunk(const cuda_dispatch_routing_args_t &args,
                                                routing_shared &shared, int32_t warp)
{
    const int32_t topk = args.call.route.topk;
    const token_chunk chunk = chunk_of_sender(args, warp);
    uint32_t first_tokens = 0;
    unsigned long long bad_slot = no_slot;
    const uint32_t count = walk_chunk(args, chunk, 0, [&](const token_group &group, int32_t bad) {
        const uint32_t bad_tokens = __ballot_sync(all_lanes, bad < topk);
        const int32_t first_bad = __ffs((int)bad_tokens) - 1;
        const int32_t slot = __shfl_sync(all_lanes, bad, max(first_bad, 0));
        if (bad_tokens != 0 && bad_slot == no_slot) {
            bad_slot = (unsigned long long)((group.begin + first_bad) * topk + slot);
        }
        first_tokens = group.begin == chunk.begin ? group.tokens : first_tokens;
    });
    if (lane_index() < args.call.channel.rank_count) {
        shared.counts[warp][lane_index()] = count;
    }
    if (lane_index() == 0) {
        shared.bad_slots[warp] = bad_slot;
    }
    return first_tokens;
}

/* What a block of a rank tells another rank: CUDA_CHUNK_WORDS. */
__device__ __forceinline__ uint64_t *chunk_words(const cuda_dispatch_args_t &args, int32_t at,
                                                 uint32_t epoch, int32_t from, uint32_t block)
{
    const int32_t rank_count = args.channel.rank_count;
    const int64_t line = ((epoch % 2) * rank_count + from) * CUDA_BLOCK_COUNT_MAX + block;
    return reinterpret_cast<uint64_t *>(args.channel.parts[at] + args.route.chunk_offset) +
           line * CUDA_CHUNK_WORDS(rank_count);
}

/* Field number `field` of those that tell of a bad slot. */
__device__ inline uint32_t bad_field(const cuda_dispatch_routing_args_t &args,
                                     unsigned long long slot, int32_t field)
{
    const uint64_t value = field < 2 ? slot : (uint64_t)read_id(args, (int64_t)slot);
    return (uint32_t)(value >> 32 * (field % 2));
}

static_assert(CUDA_RANK_COUNT_MAX * CUDA_RANK_COUNT_MAX <= CUDA_DISPATCH_THREADS,
              "a thread tells a rank a count");

/* All threads, when the block has met: tells every rank how many rows this block has for each. The
 * last threads do it: in the first block the others have an offer to make. */
__device__ __forceinline__ void publish_counts(const cuda_dispatch_routing_args_t &args,
                                               const routing_shared &shared)
{
    const int32_t rank_count = args.call.channel.rank_count;
    const int32_t me = args.call.channel.rank;
    const uint32_t epoch = shared.op.epoch;
    const int32_t thread = (int32_t)(blockDim.x - 1 - threadIdx.x);
    if (thread >= rank_count * rank_count && thread >= rank_count * bad_field_count) {
        return;
    }
    dawdle(args.call.channel, epoch, 1 + CUDA_FLAG_COUNT);
    unsigned long long bad_slot = no_slot;
    uint32_t count = 0;
#pragma unroll
    for (int warp = 0; warp < bulk_warps; warp++) {
        bad_slot = min(bad_slot, shared.bad_slots[warp]);
        count += shared.counts[warp][thread % rank_count];
    }
    if (thread < rank_count * rank_count) {
        uint64_t *words = chunk_words(args.call, thread / rank_count, epoch, me, blockIdx.x);
        store_word(words + thread % rank_count,
                   tagged(epoch, bad_slot == no_slot ? count : bad_chunks));
    }
    if (bad_slot != no_slot && thread < rank_count * bad_field_count) {
        const int32_t field = thread % bad_field_count;
        uint64_t *words = chunk_words(args.call, thread / bad_field_count, epoch, me, blockIdx.x);
        store_word(words + rank_count + field, tagged(epoch, bad_field(args, bad_slot, field)));
    }
}

/* Words that a thread has asked for together. */
constexpr int32_t chunk_depth = 4;

/* A count that has not come yet; 0 if it never will: the group is lost, or the rank calls something
 * else. */
__device__ __noinline__ uint32_t await_chunk_count(const cuda_channel_t &channel, operation &op,
                                                   int32_t rank, const uint64_t *word)
{
    const uint64_t *kind = offer_words(channel, channel.rank, rank, op.epoch) + CUDA_OFFER_KIND;
    for (int looks = 1;; looks++) {
        const uint64_t seen = peek_word(word);
        if ((uint32_t)(seen >> 32) == op.epoch) {
            return (uint32_t)seen;
        }
        if (looks % looks_per_check == 0) {
            const uint64_t called = peek_word(kind);
            if (((uint32_t)(called >> 32) == op.epoch &&
                 (uint32_t)called != CUDA_OP_DISPATCH_ROUTING) ||
                !may_wait(channel, op, rank, CUDA_OP_DISPATCH_ROUTING, CUDA_PHASE_MEET)) {
                return 0;
            }
        }
        __nanosleep(look_pause_ns);
    }
}

/* Count number `number` of those of all blocks of all ranks to all ranks. */
__device__ __forceinline__ void take_chunk_count(const cuda_channel_t &channel,
                                                 routing_shared &shared, int32_t number,
                                                 uint32_t count)
{
    const int32_t rank_count = channel.rank_count;
    const int32_t line = number / rank_count;
    const int32_t column = number - line * rank_count;
    const int32_t source = line / (int32_t)gridDim.x;
    const bool is_before =
        line < channel.rank * (int32_t)gridDim.x + (int32_t)blockIdx.x; /* lines are in row order */
    if (count == bad_chunks) {
        atomicMin(&shared.bad_line, (uint32_t)line);
        return;
    }
    atomicAdd(&shared.row_counts[source * rank_count + column], count);
    if (is_before) {
        atomicAdd(&shared.before[column], count);
    }
}

/* All threads, which are to meet then: waits for the counts of all blocks of all ranks, and sums
 * them. */
__device__ __forceinline__ void gather_counts(const cuda_dispatch_routing_args_t &args,
                                              routing_shared &shared)
{
    const cuda_channel_t &channel = args.call.channel;
    operation &op = shared.op;
    const int32_t rank_count = channel.rank_count;
    const int32_t line_count = rank_count * (int32_t)gridDim.x;
    const auto word_of = [&](int32_t number) {
        const int32_t line = number / rank_count;
        const int32_t source = line / (int32_t)gridDim.x;
        return chunk_words(args.call, channel.rank, op.epoch, source,
                           (uint32_t)line - (uint32_t)source * gridDim.x) +
               number - line * rank_count;
    };
#pragma unroll 1
    for (int32_t first = (int32_t)(blockDim.x - 1 - threadIdx.x);
         first < line_count * rank_count && !op.is_lost;
         first += chunk_depth * (int32_t)blockDim.x) {
        uint64_t words[chunk_depth];
#pragma unroll
        for (int i = 0; i < chunk_depth; i++) {
            const int32_t number = first + i * (int32_t)blockDim.x;
            words[i] = number < line_count * rank_count ? peek_word(word_of(number)) : 0;
        }
#pragma unroll
        for (int i = 0; i < chunk_depth; i++) {
            const int32_t number = first + i * (int32_t)blockDim.x;
            if (number < line_count * rank_count) {
                const int32_t source = number / rank_count / (int32_t)gridDim.x;
                const uint32_t count =
                    (uint32_t)(words[i] >> 32) == op.epoch
                        ? (uint32_t)words[i]
                        : await_chunk_count(channel, op, source, word_of(number));
                take_chunk_count(channel, shared, number, count);
            }
        }
    }
}

/* A warp: the first row of a chunk of this block on this lane's rank. */
__device__ __forceinline__ uint32_t first_row_of_chunk(const routing_shared &shared, int32_t warp)
{
    uint32_t row = 0;
    if (lane_index() < CUDA_RANK_COUNT_MAX) {
        row = shared.before[lane_index()];
        for (int32_t earlier = 0; earlier < warp; earlier++) {
            row += shared.counts[earlier][lane_index()];
        }
    }
    return row;
}

/* One thread: what is wrong with any rank's routing, or with how much of it there is. */
__device__ __noinline__ void judge_routing(const cuda_dispatch_routing_args_t &args,
                                           routing_shared &shared)
{
    const cuda_channel_t &channel = args.call.channel;
    operation &op = shared.op;
    if (!judge_kinds(channel, op, CUDA_OP_DISPATCH_ROUTING)) {
        return;
    }
    for (int32_t rank = 0; rank < channel.rank_count; rank++) {
        uint32_t *fields = op.fields[rank];
        if (fields[CUDA_OFFER_STATUS] != 0 && fields[CUDA_OFFER_HAS_ROUTING] == 0) {
            refuse_call(channel, op, rank);
            return;
        }
        if (shared.bad_line / gridDim.x == (uint32_t)rank) {
            const uint64_t *words =
                chunk_words(args.call, channel.rank, op.epoch, rank, shared.bad_line % gridDim.x) +
                channel.rank_count;
            for (int32_t i = 0; i < bad_field_count && !op.is_lost; i++) {
                await_word(channel, op, rank, CUDA_OP_DISPATCH_ROUTING, words + i,
                           &fields[CUDA_OFFER_BAD_SLOT_LOW + i]);
            }
            refuse_routing(op, rank, args.call.route.topk);
            return;
        }
    }
    for (int32_t rank = 0; rank < channel.rank_count; rank++) {
        const int64_t capacity = (int64_t)wide_field(op, rank, CUDA_OFFER_ROUTE_CAPACITY_LOW);
        if (shared.needs[rank] > capacity) {
            refuse(op, CUDA_REFUSED_CAPACITY, rank, shared.needs[rank], capacity);
            return;
        }
    }
}

/* One thread of a rank: what the host and later kernels are told of the routing. */
__device__ inline void report_routing(const cuda_dispatch_routing_args_t &args,
                                      const routing_shared &shared)
{
    const cuda_channel_t &channel = args.call.channel;
    const cuda_route_view_t &route = args.call.route;
    *route.has_routing = shared.has_routing;
    route.report->call.refusal = CUDA_REFUSED_NOT;
    if (!shared.has_routing) {
        report_verdict(shared.op.verdict, &route.report->update);
        return;
    }
    *route.token_count = args.token_count;
    route.report->recv_row_count = shared.needs[channel.rank];
    route.report->logical_row_count = shared.needs[channel.rank];
    route.report->own_row_count =
        shared.row_counts[channel.rank * channel.rank_count + channel.rank];
    route.report->update.refusal = CUDA_REFUSED_NOT;
}

/* The first warp, when the ranks have met: the same verdict on their routings on every rank. */
__device__ __forceinline__ void agree_on_routing(const cuda_dispatch_routing_args_t &args,
                                                 routing_shared &shared)
{
    operation &op = shared.op;
    const int32_t rank_count = args.call.channel.rank_count;
    const int32_t rank = lane_index();
    bool is_plain = shared.bad_line == no_line;
    if (rank < rank_count) {
        const uint32_t *fields = op.fields[rank];
        int64_t need = 0;
        for (int32_t source = 0; source < rank_count; source++) {
            need += shared.row_counts[source * rank_count + rank];
        }
        shared.needs[rank] = need;
        is_plain = is_plain && fields[CUDA_OFFER_KIND] == CUDA_OP_DISPATCH_ROUTING &&
                   (fields[CUDA_OFFER_STATUS] == 0 || fields[CUDA_OFFER_HAS_ROUTING] != 0) &&
                   need <= (int64_t)wide_field(op, rank, CUDA_OFFER_ROUTE_CAPACITY_LOW);
    }
    __syncwarp();
    if (!__all_sync(all_lanes, is_plain) && rank == 0) {
        judge_routing(args, shared);
    }
    if (rank == 0 && !op.is_lost) {
        shared.has_routing = !op.is_refused;
        if (blockIdx.x == 0) {
            report_routing(args, shared);
        }
    }
    __syncwarp();
}

} // namespace moxie

#endif
