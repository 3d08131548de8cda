/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch along a routing that comes with it, in rank_major: an update and a dispatch in one
 * kernel. The warps that send count a chunk of this rank's tokens each, and the block tells every
 * rank how many rows it has for each. From the counts of all blocks of all ranks a block knows
 * where its rows go, and sends them. What the routing means to others than the rows, now and in
 * later calls, the other warps write meanwhile: routing_tables.cuh.
 */
#ifndef MOXIE_EXCHANGE_CUDA_DISPATCH_ROUTING_CUH
#define MOXIE_EXCHANGE_CUDA_DISPATCH_ROUTING_CUH

#include "exchange/cuda/dispatch.cuh"
#include "exchange/cuda/routing_tables.cuh"

namespace moxie
{

/* Tokens that a warp sends of its own chunk before it takes any chunk's: about as long as it takes
 * until the rows of all are in the table. */
constexpr int32_t own_tokens = 6;

/* All lanes: until every block has written where its tokens' rows go. False: the group is lost. */
__device__ __noinline__ bool await_first_rows(const cuda_channel_t &channel, operation &op)
{
    const volatile uint32_t *arrived = &channel.counters->arrived;
    bool goes_on = true;
    for (int looks = 1; *arrived < gridDim.x && goes_on; looks++) {
        goes_on = looks % looks_per_check != 0 ||
                  may_wait(channel, op, channel.rank, CUDA_OP_DISPATCH_ROUTING, CUDA_PHASE_MOVE);
        __nanosleep(look_pause_ns);
    }
    __threadfence();
    return __all_sync(all_lanes, goes_on);
}

/* Gives out first the own tokens of a warp, whose rows it has counted itself, and then whichever
 * are left of any warp's. */
struct fresh_pool : token_pool {
    operation &op;
    int64_t chunk_size; /* of every warp */
    int64_t first;      /* token of this warp's chunk */
    int32_t own;        /* tokens of a chunk that only its warp sends */
    int32_t own_count;  /* those that there are in this one */
    int32_t turn;       /* the next of them */
    uint32_t tokens; /* of the chunk's first 32 those with a row on this lane's rank, a bit each */
    uint32_t next_row; /* the first one's there */
    bool knows_rows;   /* of all tokens */

    __device__ __forceinline__ fresh_pool(const cuda_dispatch_routing_args_t &arguments,
                                          operation &operation)
        : token_pool(arguments.call, arguments.token_count), op(operation),
          chunk_size(chunk_size_of(arguments)), first(0),
          own((int32_t)min(chunk_size, (int64_t)own_tokens)), own_count(0), turn(0), tokens(0),
          next_row(0), knows_rows(false)
    {
    }

    __device__ __forceinline__ void own_chunk(const token_chunk &chunk, uint32_t tokens_of_rank)
    {
        first = chunk.begin;
        own_count = (int32_t)min(chunk.end - chunk.begin, (int64_t)own);
        tokens = tokens_of_rank;
    }

    __device__ __forceinline__ void begin()
    {
        if (own_count == 0) {
            draw();
        }
        advance();
    }

    __device__ __forceinline__ void advance()
    {
        if (turn == own_count) {
            advance_any();
            return;
        }
        token = first + turn;
        row = (tokens >> turn & 1) != 0
                  ? (int32_t)next_row + __popc((int)(tokens & ((1u << turn) - 1)))
                  : -1;
        turn++;
        if (turn == own_count) {
            draw();
        }
    }

    /* What is drawn is a number among the tokens that are nobody's own. */
    __device__ __forceinline__ void advance_any()
    {
        const int32_t rank_count = args.channel.rank_count;
        const uint32_t number = (uint32_t)__shfl_sync(all_lanes, unit, 0);
        const uint32_t left = (uint32_t)(chunk_size - own);
        token = left == 0 ? token_count : number + (int64_t)own * (number / left + 1);
        row = -1;
        if (token >= token_count) {
            return;
        }
        knows_rows = knows_rows || await_first_rows(args.channel, op);
        if (!knows_rows) {
            token = token_count;
            return;
        }
        if (lane_index() < rank_count) {
            row = __ldcg(args.route.first_rows + token * rank_count + lane_index());
        }
        draw();
    }
};

/* The rows of a warp's own tokens, wherever they go. */
template <typename work_t> struct own_sources : bulk_copies {
    static constexpr int64_t cut = work_t::cut;

    const work_t &work;
    int32_t turn;

    __device__ __forceinline__ explicit own_sources(const work_t &rows) : work(rows), turn(0)
    {
    }

    __device__ __forceinline__ bool next(const char **source, char **destination, uint64_t *ticket)
    {
        while (turn < work.pool.own_count) {
            const int32_t taken = turn++;
            if (__any_sync(all_lanes, (work.pool.tokens >> taken & 1) != 0)) {
                *source = work.args.source + (work.pool.first + taken) * work.source_row_bytes();
                *destination = nullptr;
                *ticket = 0;
                return true;
            }
        }
        return false;
    }
};

/* A sending warp, as soon as it has counted: loads the first pieces that it will send, though not
 * where to. Returns how many. */
template <typename work_t>
__device__ __forceinline__ int32_t load_first_pieces(const work_t &work, char *pieces)
{
    const cuda_dispatch_args_t &args = work.args;
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const uint64_t addresses = reinterpret_cast<uint64_t>(args.source) | (uint64_t)args.row_bytes;
    if (!has_bulk || addresses % 16 != 0 || args.offer.fields[CUDA_OFFER_STATUS] != 0) {
        return 0;
    }
    own_sources<work_t> sources(work);
    bulk_cutter<own_sources<work_t>> cutter(sources, work.source_row_bytes());
    bulk_pipe &pipe = bulk_pipe_of(pieces, warp);
    int32_t count = 0;
#pragma unroll
    for (int i = 0; i < bulk_ahead; i++) {
        count += cutter.fetch(pipe.pieces[i], &pipe.barriers[i], false).bytes != 0;
    }
    return count;
}

/* A sending warp: all that it has to send. `begun` pieces lie in its stages, or soon will. */
template <typename work_t>
__device__ __forceinline__ void send_fresh_rows(const routing_shared &shared, work_t &work,
                                                char *pieces, int32_t begun, bool moves)
{
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const bool in_bulk = moves && can_send_bulk(work.args, shared.op);
    if (!in_bulk) {
        for (int32_t i = 0; i < begun; i++) {
            bulk_await(&bulk_pipe_of(pieces, warp).barriers[i], 0);
        }
    }
    if (!moves) {
        return;
    }
    work.pool.next_row = first_row_of_chunk(shared, warp);
    work.aim();
    work.begin();
    if (in_bulk) {
        bulk_send<0>(pieces, warp, work.source_row_bytes(), work, begun);
    } else {
        send_rows_by_lanes(work.args, work, false);
    }
}

/* All threads: begins the operation and has this block's counts on their way to every rank. Returns
 * of a sending warp's first tokens those with a row on this lane's rank. */
__device__ __forceinline__ uint32_t begin_routing(const cuda_dispatch_routing_args_t &args,
                                                  routing_shared &shared)
{
    const cuda_channel_t &channel = args.call.channel;
    const beginning found = operation_look(channel);
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const bool offers = blockIdx.x == 0 && warp >= bulk_warps;
    uint32_t tokens = 0;
    forget_counts(shared);
    if (warp < bulk_warps) {
        tokens = count_chunk(args, shared, warp);
    } else if (offers) {
        __threadfence_system(); /* for the offer: meanwhile the others count */
    }
    operation_begin(channel, shared.op, found);
    operation_mark(shared.op, CUDA_PHASE_PREPARE);
    if (!shared.op.is_lost) {
        publish_counts(args, shared);
    }
    if (offers && !shared.op.is_lost) {
        store_offer(channel, shared.op, args.call.offer, nullptr,
                    (int32_t)threadIdx.x - 32 * bulk_warps, 32 * table_warps);
    }
    return tokens;
}

template <typename work_t>
__device__ __forceinline__ void dispatch_routing(const cuda_dispatch_routing_args_t &args,
                                                 char *pieces)
{
    __shared__ routing_shared shared;
    const cuda_dispatch_args_t &call = args.call;
    operation &op = shared.op;
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const bool sends = warp < bulk_warps;
    bulk_begin(pieces, bulk_warps);
    work_t work(call, shared, fresh_pool(args, op));
    int32_t begun = 0;
    const uint32_t tokens = begin_routing(args, shared);
    if (sends && !op.is_lost) {
        work.pool.own_chunk(chunk_of_sender(args, warp), tokens);
        begun = load_first_pieces(work, pieces);
    }
    gather_counts(args, shared);
    operation_meet(call.channel, op, CUDA_OP_DISPATCH_ROUTING);
    if (warp == 0 && !op.is_lost) {
        agree_on_routing(args, shared);
    }
    const int32_t rank = lane_index() % CUDA_RANK_COUNT_MAX;
    const bool moves =
        exchange_agree(call.channel, call.route, op, {shared.needs[rank], shared.needs, true},
                       CUDA_OP_DISPATCH_ROUTING, call.row_bytes);
    if (sends) {
        send_fresh_rows(shared, work, pieces, begun, moves);
    } else if (shared.has_routing) {
        write_tables(args, shared, moves);
    }
    if (shared.has_routing) {
        operation_raise(call.channel, op, flag_payload);
        const bool is_there =
            operation_await(call.channel, op, CUDA_OP_DISPATCH_ROUTING, flag_payload);
        if (is_there && moves) {
            turn_received_scales<work_t::kind>(call);
        }
    }
    operation_leave(call.channel, op);
}

/* Shared memory: CUDA_BULK_SHARED_BYTES. */
extern "C" __global__ void __launch_bounds__(CUDA_DISPATCH_THREADS, 1)
    moxie_dispatch_routing(const __grid_constant__ cuda_dispatch_routing_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    dispatch_routing<token_work<rows_plain, fresh_pool>>(args, pieces);
}

extern "C" __global__ void __launch_bounds__(CUDA_DISPATCH_THREADS, 1)
    moxie_dispatch_routing_fp8(const __grid_constant__ cuda_dispatch_routing_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    dispatch_routing<token_work<rows_scaled, fresh_pool>>(args, pieces);
}

extern "C" __global__ void __launch_bounds__(CUDA_DISPATCH_THREADS, 1)
    moxie_dispatch_routing_quantised(const __grid_constant__ cuda_dispatch_routing_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    dispatch_routing<quantised_work<fresh_pool>>(args, pieces);
}

} // namespace moxie

#endif
