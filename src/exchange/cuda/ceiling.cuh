/* SPDX-License-Identifier: Apache-2.0 */
/* The device barrier, and what the wire gives: every rank writes rows to all ranks at once. */
#ifndef MOXIE_EXCHANGE_CUDA_CEILING_CUH
#define MOXIE_EXCHANGE_CUDA_CEILING_CUH

#include "exchange/cuda/exchange.cuh"

namespace moxie
{

extern "C" __global__ void __launch_bounds__(CUDA_UPDATE_THREADS)
    moxie_barrier(const __grid_constant__ cuda_barrier_args_t args)
{
    __shared__ operation op;
    operation_begin(args.channel, op);
    operation_offer(args.channel, op, args.offer, nullptr);
    operation_meet(args.channel, op, CUDA_OP_BARRIER);
    operation_leave(args.channel, op);
}

__device__ inline void write_to_all(const cuda_ceiling_args_t &args, const operation &op)
{
    const int32_t lane = lane_index();
    const bool is_rank = lane < args.channel.rank_count;
    const int64_t wanted = is_rank ? args.rows_to_peer[lane] : 0;
    const int64_t start = is_rank ? args.row_start[lane] : 0;
    const int64_t room = is_rank ? args.destination_row_count[lane] : 1;
    for (int64_t row = take_work(args.channel, pool_payload);;) {
        const int64_t next = take_work(args.channel, pool_payload);
        const uint32_t mask = __ballot_sync(all_lanes, row < wanted);
        if (mask == 0) {
            return;
        }
        const char *source = args.source + row % args.source_row_count * args.row_bytes;
        char *destination =
            is_rank ? op.destination[lane] + (start + row) % room * args.row_bytes : nullptr;
        const uint64_t addresses =
            or_over_lanes((mask >> lane & 1) ? reinterpret_cast<uint64_t>(destination) : 0) |
            reinterpret_cast<uint64_t>(source) | (uint64_t)args.row_bytes;
        copy_row(source, args.row_bytes, addresses, mask, destination);
        row = next;
    }
}

extern "C" __global__ void __launch_bounds__(CUDA_ROWS_THREADS, 1)
    moxie_ceiling(const __grid_constant__ cuda_ceiling_args_t args)
{
    __shared__ operation op;
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
        write_to_all(args, op);
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
