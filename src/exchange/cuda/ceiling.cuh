/* SPDX-License-Identifier: Apache-2.0 */
/* The device barrier, and what the wire gives: every rank writes rows to all ranks at once. */
#ifndef MOXIE_EXCHANGE_CUDA_CEILING_CUH
#define MOXIE_EXCHANGE_CUDA_CEILING_CUH

#include "exchange/cuda/bulk.cuh"
#include "exchange/cuda/exchange.cuh"

namespace moxie
{

extern "C" __global__ void __launch_bounds__(CUDA_BARRIER_THREADS)
    moxie_barrier(const __grid_constant__ cuda_barrier_args_t args)
{
    __shared__ operation op;
    operation_begin(args.channel, op);
    operation_offer(args.channel, op, args.offer, nullptr);
    operation_meet(args.channel, op, CUDA_OP_BARRIER);
    operation_leave(args.channel, op);
}

/* Gives out the rows: each is read once and written to every rank that wants so many. */
struct ceiling_work : bulk_copies {
    const cuda_ceiling_args_t &args;
    const operation &op;
    int64_t wanted; /* by this lane's rank */
    int64_t row;

    __device__ __forceinline__ ceiling_work(const cuda_ceiling_args_t &arguments,
                                            const operation &operation)
        : args(arguments), op(operation),
          wanted(lane_index() < arguments.channel.rank_count ? arguments.rows_to_peer[lane_index()]
                                                             : 0),
          row(take_work(arguments.channel, pool_send))
    {
    }

    __device__ __forceinline__ bool next(const char **source, char **destination, uint64_t *ticket)
    {
        const uint32_t ranks = __ballot_sync(all_lanes, row < wanted);
        if (ranks == 0) {
            return false;
        }
        *source = args.source + row % args.source_row_count * args.row_bytes;
        *destination = nullptr;
        if (row < wanted) {
            const int32_t rank = lane_index();
            *destination = op.destination[rank] + (args.row_start[rank] + row) %
                                                      args.destination_row_count[rank] *
                                                      args.row_bytes;
        }
        *ticket = ranks;
        row = take_work(args.channel, pool_send);
        return true;
    }

    __device__ __forceinline__ void done(uint64_t)
    {
    }
};

__device__ inline void write_to_all(const cuda_ceiling_args_t &args, const operation &op,
                                    char *pieces)
{
    uint64_t addresses = reinterpret_cast<uint64_t>(args.source) | (uint64_t)args.row_bytes;
    for (int32_t rank = 0; rank < args.channel.rank_count; rank++) {
        addresses |= reinterpret_cast<uint64_t>(op.destination[rank]);
    }
    const int32_t warp = (int32_t)threadIdx.x / 32;
    if (has_bulk && addresses % 16 == 0) {
        if (warp < bulk_warps) {
            ceiling_work work(args, op);
            bulk_send<0>(pieces, warp, args.row_bytes, work);
        }
        return;
    }
    ceiling_work work(args, op);
    const char *source;
    char *destination;
    uint64_t ranks;
    while (work.next(&source, &destination, &ranks)) {
        copy_row(source, args.row_bytes,
                 or_over_lanes(reinterpret_cast<uint64_t>(destination)) |
                     reinterpret_cast<uint64_t>(source) | (uint64_t)args.row_bytes,
                 (uint32_t)ranks, destination);
    }
}

/* Shared memory: CUDA_BULK_SHARED_BYTES. */
extern "C" __global__ void __launch_bounds__(CUDA_DISPATCH_THREADS, 1)
    moxie_ceiling(const __grid_constant__ cuda_ceiling_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    __shared__ operation op;
    bulk_begin(pieces, bulk_warps);
    operation_begin(args.channel, op);
    if (blockIdx.x == 0) {
        operation_offer(args.channel, op, args.offer, nullptr);
    }
    operation_meet(args.channel, op, CUDA_OP_CEILING);
    const uint64_t start_ns = clock_ns();
    if (!op.is_lost) {
        if (threadIdx.x < args.channel.rank_count) {
            const uint32_t window =
                op.fields[threadIdx.x][CUDA_OFFER_WINDOW] % CUDA_WINDOW_COUNT_MAX;
            op.destination[threadIdx.x] =
                args.channel.windows[window * args.channel.rank_count + threadIdx.x].base +
                wide_field(op, (int32_t)threadIdx.x, CUDA_OFFER_OFFSET_LOW);
        }
        __syncthreads();
        write_to_all(args, op, pieces);
        operation_raise(args.channel, op, flag_payload);
        if (operation_await(args.channel, op, CUDA_OP_CEILING, flag_payload) && blockIdx.x == 0 &&
            threadIdx.x == 0) {
            args.channel.group_report->time_ns = clock_ns() - start_ns;
        }
    }
    operation_leave(args.channel, op);
}

} // namespace moxie

#endif
