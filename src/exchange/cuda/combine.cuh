/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Combine, and the backward of dispatch: the experts' rank sums a token's rows and writes the
 * partial into the home rank's staging memory, where the home rank sums the partials of all ranks.
 * One partial a (rank, token) crosses the wire.
 */
#ifndef MOXIE_EXCHANGE_CUDA_COMBINE_CUH
#define MOXIE_EXCHANGE_CUDA_COMBINE_CUH

#include "exchange/cuda/exchange.cuh"

namespace moxie
{

/* Columns of one pass: as many as the staging memory holds. */
struct column_range {
    int64_t begin;
    int64_t end;
};

/* The staging row of a token's partial from a rank. */
__device__ __forceinline__ char *staging_row(const cuda_combine_args_t &args, int32_t home,
                                             int64_t token, int32_t rank)
{
    return args.channel.parts[home] + args.route.staging_offset +
           (uint64_t)(token * args.channel.rank_count + rank) * args.route.staging_row_bytes;
}

/* Sums `count` columns of a chain's rows, ascending slots. */
template <int count>
__device__ __forceinline__ void sum_chain(const cuda_combine_args_t &args, const row_chain &chain,
                                          int64_t column, bool is_inside, float (&sum)[count])
{
    const int64_t row_bytes = args.route.hidden * (args.source_is_bf16 ? 2 : 4);
#pragma unroll
    for (int i = 0; i < count; i++) {
        sum[i] = 0.0f;
    }
    for (int32_t link = 0; link < chain.count; link++) {
        const char *row = args.source + chain_row(chain, link) * row_bytes;
        const float weight = args.unweighted ? 1.0f : chain_weight(chain, link);
        if (!is_inside) {
            continue;
        }
        float numbers[count];
        load_numbers<count>(row, column, args.source_is_bf16, numbers);
#pragma unroll
        for (int i = 0; i < count; i++) {
            sum[i] = fmaf(weight, numbers[i], sum[i]);
        }
    }
}

/* The partial of one token goes home. */
template <int count>
__device__ __forceinline__ void send_partial(const cuda_combine_args_t &args,
                                             const row_chain &chain, const cuda_row_t &first,
                                             column_range columns)
{
    char *staging = staging_row(args, first.rank, first.token, args.channel.rank);
    const bool is_rank_major = args.route.layout == 1;
    const char *only_row = args.source + (int64_t)chain_row(chain, 0) * args.route.hidden *
                                             (args.source_is_bf16 ? 2 : 4);
    for (int64_t base = columns.begin; base < columns.end; base += 32 * count) {
        const int64_t column = base + count * lane_index();
        const bool is_inside = column < columns.end;
        float sum[count];
        if (!is_rank_major) {
            sum_chain<count>(args, chain, column, is_inside, sum);
        } else if (is_inside) { /* weighted and summed by the caller */
            load_numbers<count>(only_row, column, args.source_is_bf16, sum);
        }
        if (is_inside) {
            store_numbers<count>(staging, column - columns.begin, args.wire_is_bf16, sum);
        }
    }
}

/* Gradients of the weights of one token's slots go home unchanged. */
__device__ inline void send_gradients(const cuda_combine_args_t &args, const row_chain &chain,
                                      const cuda_row_t &first, int64_t row)
{
    const cuda_route_view_t &route = args.route;
    const int32_t rank = args.channel.rank;
    float *gradients =
        reinterpret_cast<float *>(args.channel.parts[first.rank] + route.gradient_offset) +
        (int64_t)first.token * route.topk;
    if (route.layout == 1) {
        const cuda_slot_t *slots = reinterpret_cast<const cuda_slot_t *>(args.channel.parts[rank] +
                                                                         route.slot_offsets[rank]) +
                                   row * route.topk;
        for (int32_t slot = lane_index(); slot < route.topk; slot += 32) {
            if (slots[slot].local >= 0) {
                gradients[slot] = args.d_recv_weights[row * route.topk + slot];
            }
        }
        return;
    }
    for (int32_t half = 0; half < 2; half++) {
        if (32 * half + lane_index() < chain.count) {
            gradients[half == 0 ? chain.slots[0] : chain.slots[1]] =
                args.d_recv_weights[half == 0 ? chain.rows[0] : chain.rows[1]];
        }
    }
}

/* At the experts' rank: every token that was received. */
template <int count>
__device__ inline void send_partials(const cuda_combine_args_t &args, column_range columns,
                                     int32_t pool, bool sends_gradients)
{
    const cuda_route_view_t &route = args.route;
    const cuda_row_t *table = rows_of(args.channel, route);
    const int64_t row_count = route.needs[args.channel.rank];
    int32_t local = 0;
    for (int64_t row = take_work(args.channel, pool); row < row_count;) {
        const int64_t next = take_work(args.channel, pool);
        bool is_padding = false;
        if (route.layout == 2) {
            while (route.block_starts[local + 1] <= row) {
                local++;
            }
            is_padding = row >= route.block_starts[local] + route.local_counts[local];
        }
        const cuda_row_t first = load_row(table + row);
        if (!is_padding && first.first) {
            const row_chain chain = find_chain(table, (int32_t)row, first);
            send_partial<count>(args, chain, first, columns);
            if (sends_gradients) {
                send_gradients(args, chain, first, row);
            }
        }
        row = next;
    }
}

/* At home: sums the partials of every token, ascending ranks. */
template <int count>
__device__ inline void sum_partials(const cuda_combine_args_t &args, column_range columns,
                                    int32_t pool)
{
    const int32_t rank_count = args.channel.rank_count;
    const int32_t home = args.channel.rank;
    const int64_t token_count = *args.route.token_count;
    const int64_t row_bytes = args.route.hidden * (args.out_is_bf16 ? 2 : 4);
    for (int64_t token = take_work(args.channel, pool); token < token_count;) {
        const int32_t row = lane_index() < rank_count
                                ? args.route.first_rows[token * rank_count + lane_index()]
                                : -1;
        const int64_t next = take_work(args.channel, pool);
        const uint32_t mask = __ballot_sync(all_lanes, row >= 0);
        for (int64_t column = columns.begin + count * lane_index(); column < columns.end;
             column += 32 * count) {
            float sum[count] = {};
            for (uint32_t left = mask; left != 0; left &= left - 1) {
                float numbers[count];
                load_numbers<count>(staging_row(args, home, token, __ffs((int)left) - 1),
                                    column - columns.begin, args.wire_is_bf16, numbers);
#pragma unroll
                for (int i = 0; i < count; i++) {
                    sum[i] += numbers[i];
                }
            }
            store_numbers<count>(args.out + token * row_bytes, column, args.out_is_bf16, sum);
        }
        token = next;
    }
}

/* Whether rows of this address and size can be moved in pieces of wide_count numbers. */
__device__ __forceinline__ bool is_wide(const void *rows, int64_t hidden)
{
    return reinterpret_cast<uint64_t>(rows) % 16 == 0 && hidden % wide_count == 0;
}

/* Partials of some columns go home and are summed there. False: the group is lost. */
__device__ inline bool combine_columns(const cuda_combine_args_t &args, operation &op, int32_t kind,
                                       column_range columns, bool sends_gradients)
{
    const bool is_second = columns.begin > 0;
    const int32_t pool = is_second ? pool_per_pass : 0;
    const int32_t flag = is_second ? flag_second_payload : flag_payload;
    if (is_wide(args.source, args.route.hidden)) {
        send_partials<wide_count>(args, columns, pool + pool_payload, sends_gradients);
    } else {
        send_partials<1>(args, columns, pool + pool_payload, sends_gradients);
    }
    operation_raise(args.channel, op, flag);
    if (!operation_await(args.channel, op, kind, flag)) {
        return false;
    }
    if (is_wide(args.out, args.route.hidden)) {
        sum_partials<wide_count>(args, columns, pool + pool_local);
    } else {
        sum_partials<1>(args, columns, pool + pool_local);
    }
    return true;
}

/* fp32 on the wire takes two passes: the next overwrites the staging memory of all ranks, so all
 * must have read it. */
__device__ inline void combine_passes(const cuda_combine_args_t &args, operation &op, int32_t kind)
{
    const int64_t hidden = args.route.hidden;
    bool sends_gradients = gradient_is_wanted(args.channel, op);
    for (int64_t begin = 0; begin < hidden; begin += args.pass_columns) {
        if (begin > 0) {
            operation_raise(args.channel, op, flag_followed);
            if (!operation_await(args.channel, op, kind, flag_followed)) {
                return;
            }
        }
        const column_range columns = {begin, min(hidden, begin + args.pass_columns)};
        if (!combine_columns(args, op, kind, columns, sends_gradients)) {
            return;
        }
        sends_gradients = false;
    }
    if (args.d_topk_weights != nullptr) {
        take_gradients(args.channel, args.route, args.d_topk_weights);
    }
}

extern "C" __global__ void __launch_bounds__(CUDA_ROWS_THREADS, 1)
    moxie_combine(const __grid_constant__ cuda_combine_args_t args)
{
    __shared__ operation op;
    const int32_t kind = kind_of(args.offer);
    operation_begin(args.channel, op);
    if (blockIdx.x == 0) {
        operation_offer(args.channel, op, args.offer, nullptr);
    }
    operation_meet(args.channel, op, kind);
    const int64_t source_row_bytes = args.route.hidden * (args.source_is_bf16 ? 2 : 4);
    if (exchange_agree(args.channel, args.route, op, kind, source_row_bytes)) {
        combine_passes(args, op, kind);
    }
    operation_leave(args.channel, op);
}

} // namespace moxie

#endif
