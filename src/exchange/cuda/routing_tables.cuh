/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of a routing, written beside its dispatch in rank_major by the warps of a block that
 * send no rows: first where this block's tokens go, which the senders of all blocks wait for, then
 * what this rank's later calls need, what receivers are told of their rows, and the counts of every
 * expert.
 */
#ifndef MOXIE_EXCHANGE_CUDA_ROUTING_TABLES_CUH
#define MOXIE_EXCHANGE_CUDA_ROUTING_TABLES_CUH

#include "exchange/cuda/dispatch.cuh"
#include "exchange/cuda/routing_counts.cuh"

namespace moxie
{

constexpr int32_t table_warps = CUDA_DISPATCH_THREADS / 32 - bulk_warps;
constexpr int32_t table_threads = 32 * table_warps;

__device__ __forceinline__ int32_t table_thread()
{
    return (int32_t)threadIdx.x - 32 * bulk_warps;
}

/* All warps that write tables. */
__device__ __forceinline__ void table_barrier()
{
    asm volatile("bar.sync 1, %0;" ::"n"(table_threads) : "memory");
}

/* All lanes, each with a token of the group and a rank of its own: the token's row there, -1: none.
 */
__device__ __forceinline__ int32_t row_of_token(const token_group &group, int32_t index,
                                                int32_t rank)
{
    const uint32_t tokens = __shfl_sync(all_lanes, group.tokens, rank);
    const uint32_t next = __shfl_sync(all_lanes, group.next, rank);
    return (tokens >> index & 1) != 0 ? (int32_t)next + __popc((int)(tokens & ((1u << index) - 1)))
                                      : -1;
}

/* All chunks of this block, dealt out to the warps: visit(group). */
template <typename visit_t>
__device__ __forceinline__ void walk_block(const cuda_dispatch_routing_args_t &args,
                                           const routing_shared &shared, visit_t visit)
{
#pragma unroll 1
    for (int32_t chunk = (int32_t)threadIdx.x / 32 - bulk_warps; chunk < bulk_warps;
         chunk += table_warps) {
        walk_chunk(args, chunk_of_sender(args, chunk), first_row_of_chunk(shared, chunk),
                   [&](const token_group &group, int32_t) { visit(group); });
    }
}

/* Where the rows of a group go. */
__device__ __forceinline__ void note_rows(const cuda_dispatch_routing_args_t &args,
                                          const token_group &group)
{
    const int32_t rank_count = args.call.channel.rank_count;
    for (int32_t rank = 0; rank < rank_count; rank++) {
        const int32_t row = row_of_token(group, lane_index(), rank);
        if (lane_index() < group.count) {
            args.call.route.first_rows[(group.begin + lane_index()) * rank_count + rank] = row;
        }
    }
}

__device__ __forceinline__ uint32_t place_of_slot(const cuda_dispatch_routing_args_t &args,
                                                  int64_t slot)
{
    const int64_t id = read_id(args, slot);
    return id < 0 ? ~0u : __ldg(args.call.route.place_of_expert + id);
}

__device__ __forceinline__ float weight_of_slot(const cuda_dispatch_routing_args_t &args,
                                                int64_t slot)
{
    return args.topk_weights == nullptr ? 1.0f : args.topk_weights[slot];
}

/* This rank's own tables of a group's slots; counts their experts. */
__device__ __forceinline__ void note_slots(const cuda_dispatch_routing_args_t &args,
                                           const token_group &group)
{
    const cuda_route_view_t &route = args.call.route;
    const int32_t slot_count = group.count * route.topk;
#pragma unroll 2
    for (int32_t base = 0; base < slot_count; base += 32) {
        const int32_t i = base + lane_index();
        const bool is_there = i < slot_count;
        const int64_t slot = group.begin * route.topk + i;
        const int32_t expert = is_there ? (int32_t)read_id(args, slot) : -1;
        const uint32_t place = expert < 0 ? 0 : __ldg(route.place_of_expert + expert);
        const int32_t row =
            row_of_token(group, is_there ? i / route.topk : 0, (int32_t)(place >> 16));
        if (is_there) {
            route.experts[slot] = expert;
            route.weights[slot] = weight_of_slot(args, slot);
            route.rows[slot] = expert < 0 ? -1 : row;
        }
        if (expert >= 0) {
            atomicAdd(&route.expert_sums[expert], 1u);
        }
    }
}

/* Slots of a token that a rank serves. */
__device__ __forceinline__ int32_t count_slots(const cuda_dispatch_routing_args_t &args,
                                               int64_t token, int32_t rank)
{
    const int32_t topk = args.call.route.topk;
    int32_t count = 0;
#pragma unroll 8
    for (int32_t k = 0; k < topk; k++) {
        count += place_of_slot(args, token * topk + k) >> 16 == (uint32_t)rank;
    }
    return count;
}

/* Tells a rank of a group's rows there: one behind the other in its tables, as their rows are, so
 * that whole lines cross the link. */
__device__ __forceinline__ void tell_rank(const cuda_dispatch_routing_args_t &args,
                                          const token_group &group, uint8_t *order, int32_t rank)
{
    const cuda_route_view_t &route = args.call.route;
    char *part = args.call.channel.parts[rank];
    const uint32_t tokens = __shfl_sync(all_lanes, group.tokens, rank);
    const int64_t first = __shfl_sync(all_lanes, group.next, rank);
    const int32_t count = __popc((int)tokens);
    if ((tokens >> lane_index() & 1) != 0) {
        order[__popc((int)(tokens & lower_lanes()))] = (uint8_t)lane_index();
    }
    __syncwarp();
    if (lane_index() < count) {
        const int64_t token = group.begin + order[lane_index()];
        reinterpret_cast<uint2 *>(part + route.arrival_offset)[first + lane_index()] =
            make_uint2((uint32_t)token, (uint32_t)count_slots(args, token, rank));
    }
    uint2 *slots = reinterpret_cast<uint2 *>(part + route.detail_offset) + first * route.topk;
#pragma unroll 4
    for (int32_t i = lane_index(); i < count * route.topk; i += 32) {
        const int32_t number = i / route.topk;
        const int64_t slot = (group.begin + order[number]) * route.topk + i - number * route.topk;
        const uint32_t place = place_of_slot(args, slot);
        const bool is_here = place >> 16 == (uint32_t)rank;
        slots[i] = make_uint2(is_here ? place & 0xFFFFu : ~0u,
                              is_here ? __float_as_uint(weight_of_slot(args, slot)) : 0);
    }
    __syncwarp();
}

/* All that a group means to others than the senders; each rank begins with another one. */
__device__ __forceinline__ void tell_group(const cuda_dispatch_routing_args_t &args,
                                           routing_shared &shared, const token_group &group)
{
    const cuda_channel_t &channel = args.call.channel;
    note_slots(args, group);
    for (int32_t i = 1; i <= channel.rank_count; i++) {
        tell_rank(args, group, shared.order[threadIdx.x / 32],
                  (channel.rank + i) % channel.rank_count);
    }
}

/* One block: rows from every rank to every rank. */
__device__ __forceinline__ void note_row_counts(const cuda_dispatch_routing_args_t &args,
                                                const routing_shared &shared)
{
    const int32_t rank_count = args.call.channel.rank_count;
    for (int32_t i = table_thread(); i < rank_count * rank_count; i += table_threads) {
        args.call.route.row_counts[i] = (int32_t)shared.row_counts[i];
    }
    if (table_thread() < rank_count) {
        args.call.route.needs[table_thread()] = shared.needs[table_thread()];
    }
}

/* The block that was the last to count: this rank's slots of every expert to every rank, and
 * theirs into the route. The sums are ready for the next routing. */
__device__ inline void exchange_expert_counts(const cuda_dispatch_routing_args_t &args,
                                              operation &op)
{
    const cuda_channel_t &channel = args.call.channel;
    const cuda_route_view_t &route = args.call.route;
    for (int32_t expert = table_thread(); expert < route.expert_count; expert += table_threads) {
        const uint32_t sum = __ldcg(route.expert_sums + expert);
        route.expert_sums[expert] = 0;
        for (int32_t rank = 0; rank < channel.rank_count; rank++) {
            store_word(count_words(channel, rank, channel.rank, op.epoch) + channel.rank_count +
                           expert,
                       tagged(op.epoch, sum));
        }
    }
    const int32_t count = channel.rank_count * route.expert_count;
    for (int32_t i = table_thread(); i < count && !op.is_lost; i += table_threads) {
        const int32_t from = i / route.expert_count;
        uint32_t sum = 0;
        await_word(channel, op, from, CUDA_OP_DISPATCH_ROUTING,
                   count_words(channel, channel.rank, from, op.epoch) + channel.rank_count + i -
                       from * route.expert_count,
                   &sum);
        route.expert_counts[i] = (int32_t)sum;
    }
    table_barrier();
}

/* The same block: the slots of this rank's experts, for later calls and, where rows move, for the
 * caller. */
__device__ inline void count_local_experts(const cuda_dispatch_routing_args_t &args, bool moves)
{
    const cuda_route_view_t &route = args.call.route;
    const int32_t *experts = route.expert_of_local + route.expert_start[args.call.channel.rank];
    for (int32_t local = table_thread(); local < route.local_expert_count; local += table_threads) {
        int64_t sum = 0;
        for (int32_t rank = 0; rank < args.call.channel.rank_count; rank++) {
            sum += route.expert_counts[rank * route.expert_count + experts[local]];
        }
        route.local_counts[local] = sum;
        if (moves && args.call.expert_count != nullptr) {
            args.call.expert_count[local] = sum;
        }
    }
}

/* The warps that write tables, once the routing is known to be good. Where rows move, the caller
 * gets what goes with them. */
__device__ inline void write_tables(const cuda_dispatch_routing_args_t &args,
                                    routing_shared &shared, bool moves)
{
    const cuda_channel_t &channel = args.call.channel;
    operation &op = shared.op;
    walk_block(args, shared, [&](const token_group &group) { note_rows(args, group); });
    table_barrier();
    if (table_thread() == 0) {
        dawdle(channel, op.epoch, 2 + CUDA_FLAG_COUNT);
        __threadfence();
        atomicAdd(&channel.counters->arrived, 1u);
    }
    if (blockIdx.x == 0) {
        note_row_counts(args, shared);
    }
    walk_block(args, shared, [&](const token_group &group) { tell_group(args, shared, group); });
    table_barrier();
    if (table_thread() == 0) {
        raise_flag(channel, op, flag_tables);
        shared.told = atomicAdd(&channel.counters->told, 1u);
        __threadfence();
    }
    table_barrier();
    if (shared.told + 1 == gridDim.x) {
        exchange_expert_counts(args, op);
        count_local_experts(args, moves);
    }
    await_flags(channel, op, CUDA_OP_DISPATCH_ROUTING, flag_tables, bulk_warps);
    table_barrier();
    if (moves && !op.is_lost) {
        write_slots(args.call, bulk_warps);
    }
}

} // namespace moxie

#endif
