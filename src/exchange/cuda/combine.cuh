/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Combine, and the backward of dispatch: the experts' rank sums a token's rows and writes the
 * partial into the home rank's staging memory, and the home rank sums the partials of all ranks as
 * they come. One partial a (rank, token) crosses the wire.
 */
#ifndef MOXIE_EXCHANGE_CUDA_COMBINE_CUH
#define MOXIE_EXCHANGE_CUDA_COMBINE_CUH

#include "exchange/cuda/bulk.cuh"
#include "exchange/cuda/exchange.cuh"
#include "exchange/cuda/signals.cuh"

namespace moxie
{

/* Partials that are summed at a time. */
constexpr int sum_ranks = 4;

struct combine_shared {
    operation op;
    signals queue;
    arrival_ranges ranges;
};

/* One pass: as many columns as the staging memory holds. */
struct combine_pass {
    int64_t begin; /* columns [begin, end) */
    int64_t end;
    int32_t pool;           /* first of its counters of work */
    uint32_t mark;          /* what the flags of its partials say */
    bool sends_gradients;   /* d_recv_weights travel with it */
    bool returns_gradients; /* and become d_topk_weights */
};

/* The staging row of a token's partial from a rank. */
__device__ __forceinline__ char *staging_row(const cuda_combine_args_t &args, int32_t home,
                                             int64_t token, int32_t rank)
{
    return args.channel.parts[home] + args.route.staging_offset +
           (uint64_t)(token * args.channel.rank_count + rank) * args.route.staging_row_bytes;
}

__device__ __forceinline__ int64_t source_row_bytes(const cuda_combine_args_t &args)
{
    return args.route.hidden * (args.source_is_bf16 ? 2 : 4);
}

/* What goes home: number n of the receive set. */
struct partial_source {
    int64_t n; /* -1: none */
    int32_t home;
    cuda_arrival_t arrival;
};

/* Gives out the received tokens, what the next one needs being on its way. */
struct arrival_work {
    const cuda_combine_args_t &args;
    combine_shared &shared;
    const combine_pass &pass;
    int64_t count;
    int64_t unit; /* the next */
    partial_source source;
    unsigned long long later; /* the unit behind it, in lane 0 */

    __device__ __forceinline__ arrival_work(const cuda_combine_args_t &arguments,
                                            combine_shared &block, const combine_pass &columns)
        : args(arguments), shared(block), pass(columns),
          count(unit_count(arguments.channel, block.ranges)), unit(0), source{-1, 0, {0, 0}},
          later(0)
    {
        draw();
        advance();
    }

    __device__ __forceinline__ void draw()
    {
        if (lane_index() == 0) {
            later = atomicAdd(reinterpret_cast<unsigned long long *>(
                                  &args.channel.counters->pool[pass.pool + pool_send]),
                              1ull);
        }
    }

    __device__ __forceinline__ void advance()
    {
        unit = (int64_t)__shfl_sync(all_lanes, later, 0);
        source.n = -1;
        if (unit < count) {
            source.n = arrival_of_unit(args.channel, shared.ranges, unit, &source.home);
            if (source.n >= 0) {
                source.arrival = load_arrival(arrivals_of(args.channel, args.route) + source.n);
            }
            draw();
        }
    }

    /* The next token that was received; false: there is none. */
    __device__ __forceinline__ bool take(partial_source *taken)
    {
        while (unit < count) {
            *taken = source;
            advance();
            if (taken->n >= 0) {
                return true;
            }
        }
        return false;
    }

    __device__ __forceinline__ uint64_t ticket_of(const partial_source &taken) const
    {
        return 1ull << (32 + taken.home) | (uint32_t)taken.arrival.token;
    }

    /* For the bulk copy engine: rows as they are, lane 0 stores. */
    __device__ __forceinline__ bool next(const char **from, char **destination, uint64_t *ticket)
    {
        partial_source taken;
        if (!take(&taken)) {
            return false;
        }
        *from = args.source + taken.n * source_row_bytes(args);
        *destination = lane_index() == 0
                           ? staging_row(args, taken.home, taken.arrival.token, args.channel.rank)
                           : nullptr;
        *ticket = ticket_of(taken);
        if (pass.sends_gradients) {
            send_gradients(taken);
        }
        return true;
    }

    __device__ __forceinline__ void done(uint64_t ticket)
    {
        signals_post(shared.queue, (uint32_t)ticket, (uint32_t)(ticket >> 32));
    }

    /* Gradients of the weights of a token's slots go home unchanged. */
    __device__ __forceinline__ void send_gradients(const partial_source &taken)
    {
        const cuda_route_view_t &route = args.route;
        float *gradients =
            reinterpret_cast<float *>(args.channel.parts[taken.home] + route.gradient_offset) +
            (int64_t)taken.arrival.token * route.topk;
        const char *details = args.channel.parts[args.channel.rank] + route.detail_offset;
        for (int32_t i = lane_index(); i < route.topk; i += 32) {
            if (route.layout == 1) {
                const uint2 slot =
                    __ldcg(reinterpret_cast<const uint2 *>(details) + taken.n * route.topk + i);
                if ((int32_t)slot.x >= 0) {
                    gradients[i] = args.d_recv_weights[taken.n * route.topk + i];
                }
            } else if (i < taken.arrival.count) {
                const cuda_link_t link = load_link(reinterpret_cast<const cuda_link_t *>(details) +
                                                   taken.n * route.topk + i);
                gradients[link.slot] = args.d_recv_weights[link.row];
            }
        }
    }
};

/* Loads of a lane for each of so many rows that are on their way together: as many as registers
 * hold. */
template <int count, bool is_bf16, int row_count>
constexpr int load_depth = count == 1 || !is_bf16 ? 1
                           : row_count == 4       ? 2
                                                  : 6;

/* A token's rows and weights, one a lane, and the second 32 beside them. In rank_major the one row,
 * which the caller has weighted and summed: 1 · y + 0 is y, but for the sign of zero, which the sum
 * at home does not see. */
struct weighted_rows {
    int32_t low_row, high_row;
    float low_weight, high_weight;

    __device__ __forceinline__ void load(const cuda_combine_args_t &args, int64_t n)
    {
        const cuda_route_view_t &route = args.route;
        low_row = (int32_t)n;
        low_weight = 1.0f;
        if (route.layout == 1 || n < 0) {
            return;
        }
        const cuda_link_t *links = links_of(args.channel, route, n);
        if (lane_index() < route.topk) { /* how many of them there are is not known yet */
            const cuda_link_t link = load_link(links + lane_index());
            low_row = link.row;
            low_weight = link.weight;
        }
        if (lane_index() + 32 < route.topk) {
            const cuda_link_t link = load_link(links + lane_index() + 32);
            high_row = link.row;
            high_weight = link.weight;
        }
    }

    __device__ __forceinline__ int32_t row(int32_t i) const
    {
        return __shfl_sync(all_lanes, i < 32 ? low_row : high_row, i % 32);
    }
    __device__ __forceinline__ float weight(int32_t i) const
    {
        return __shfl_sync(all_lanes, i < 32 ? low_weight : high_weight, i % 32);
    }
};

/* Sums `rows` rows, `row_count` at most, ascending slots, and writes the partial home. All
 * loads of a round are on their way before the first sum. */
template <int count, bool is_bf16, int row_count>
__device__ __forceinline__ void send_sum(const cuda_combine_args_t &args, const combine_pass &pass,
                                         char *staging, const weighted_rows &token, int32_t rows)
{
    constexpr int depth = load_depth<count, is_bf16, row_count>;
    const char *sources[row_count];
    float weights[row_count];
#pragma unroll
    for (int row = 0; row < row_count; row++) {
        sources[row] = args.source + token.row(row) * source_row_bytes(args);
        weights[row] = args.unweighted ? 1.0f : token.weight(row);
    }
#pragma unroll 1
    for (int64_t base = pass.begin; base < pass.end; base += 32 * depth * count) {
        packed_numbers<count, is_bf16> packed[row_count][depth];
#pragma unroll
        for (int row = 0; row < row_count; row++) {
#pragma unroll
            for (int i = 0; i < depth; i++) {
                const int64_t column = base + (32 * i + lane_index()) * count;
                if (row < rows && column < pass.end) {
                    packed[row][i].load(sources[row], column);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < depth; i++) {
            const int64_t column = base + (32 * i + lane_index()) * count;
            float sums[count] = {};
#pragma unroll
            for (int row = 0; row < row_count; row++) {
                if (row < rows) {
                    float numbers[count];
                    packed[row][i].unpack(numbers);
#pragma unroll
                    for (int j = 0; j < count; j++) {
                        sums[j] = fmaf(weights[row], numbers[j], sums[j]);
                    }
                }
            }
            if (column < pass.end) {
                store_numbers<count>(staging, column - pass.begin, args.wire_is_bf16, sums);
            }
        }
    }
}

/* A token with more rows than that: one after the other. */
template <int count, bool is_bf16>
__device__ __forceinline__ void send_long_sum(const cuda_combine_args_t &args,
                                              const combine_pass &pass, char *staging,
                                              const weighted_rows &rows, int32_t row_count)
{
    for (int64_t base = pass.begin; base < pass.end; base += 32 * count) {
        const int64_t column = base + lane_index() * count;
        float sums[count] = {};
        for (int32_t i = 0; i < row_count; i++) {
            const char *row = args.source + rows.row(i) * source_row_bytes(args);
            const float weight = args.unweighted ? 1.0f : rows.weight(i);
            if (column < pass.end) {
                packed_numbers<count, is_bf16> packed;
                float numbers[count];
                packed.load(row, column);
                packed.unpack(numbers);
#pragma unroll
                for (int j = 0; j < count; j++) {
                    sums[j] = fmaf(weight, numbers[j], sums[j]);
                }
            }
        }
        if (column < pass.end) {
            store_numbers<count>(staging, column - pass.begin, args.wire_is_bf16, sums);
        }
    }
}

/* Sums a token's rows here and writes the partial home. */
template <int count, bool is_bf16>
__device__ __forceinline__ void send_partial(const cuda_combine_args_t &args,
                                             const combine_pass &pass, const partial_source &taken,
                                             const weighted_rows &rows)
{
    const int32_t row_count = args.route.layout == 1 ? 1 : taken.arrival.count;
    char *staging = staging_row(args, taken.home, taken.arrival.token, args.channel.rank);
    if (row_count <= 2) {
        send_sum<count, is_bf16, 2>(args, pass, staging, rows, row_count);
    } else if (row_count <= 4) {
        send_sum<count, is_bf16, 4>(args, pass, staging, rows, row_count);
    } else {
        send_long_sum<count, is_bf16>(args, pass, staging, rows, row_count);
    }
}

template <int count, bool is_bf16>
__device__ __forceinline__ void send_partials_by_lanes(const cuda_combine_args_t &args,
                                                       combine_shared &shared,
                                                       const combine_pass &pass)
{
    arrival_work work(args, shared, pass);
    weighted_rows later = {}; /* of the token behind, on their way */
    later.load(args, work.source.n);
    while (work.unit < work.count) {
        const partial_source taken = work.source;
        const weighted_rows rows = later;
        work.advance();
        later.load(args, work.unit < work.count ? work.source.n : -1);
        if (taken.n < 0) {
            continue;
        }
        send_partial<count, is_bf16>(args, pass, taken, rows);
        if (pass.sends_gradients) {
            work.send_gradients(taken);
        }
        work.done(work.ticket_of(taken));
    }
}

/* rank_major in bf16: partials are the rows as they are. */
__device__ __forceinline__ void send_partials_in_bulk(const cuda_combine_args_t &args,
                                                      combine_shared &shared,
                                                      const combine_pass &pass, char *pieces)
{
    arrival_work work(args, shared, pass);
    bulk_send(pieces, (int32_t)threadIdx.x / 32, source_row_bytes(args), true, work);
}

/* Whether rows of this address and size can be moved in pieces of wide_count numbers. */
__device__ __forceinline__ bool is_wide(const void *rows, int64_t hidden)
{
    return reinterpret_cast<uint64_t>(rows) % 16 == 0 && hidden % wide_count == 0;
}

/* The warps of a sending block; the last raises the flags of the others. */
__device__ inline void send_partials(const cuda_combine_args_t &args, combine_shared &shared,
                                     const combine_pass &pass, char *pieces)
{
    const int32_t warp = (int32_t)threadIdx.x / 32;
    if (warp == signal_warp) {
        signals_raise(args.channel, args.route, shared.queue, pass.mark);
        return;
    }
    const bool wide = is_wide(args.source, args.route.hidden);
    if (has_bulk && wide && args.route.layout == 1 && args.source_is_bf16 && args.wire_is_bf16) {
        if (warp < bulk_warps) {
            send_partials_in_bulk(args, shared, pass, pieces);
        }
    } else if (args.source_is_bf16) {
        wide ? send_partials_by_lanes<wide_count, true>(args, shared, pass)
             : send_partials_by_lanes<1, true>(args, shared, pass);
    } else {
        wide ? send_partials_by_lanes<wide_count, false>(args, shared, pass)
             : send_partials_by_lanes<1, false>(args, shared, pass);
    }
    signals_leave(shared.queue);
}

/* Sums the partials of some ranks, ascending. A rank without one adds +0, which changes nothing:
 * the sum is never -0. */
template <int count, bool is_bf16>
__device__ __forceinline__ void sum_token(const cuda_combine_args_t &args, const combine_pass &pass,
                                          int64_t token, uint32_t ranks)
{
    constexpr int depth = load_depth<count, is_bf16, sum_ranks>;
    const int64_t out_row_bytes = args.route.hidden * (args.out_is_bf16 ? 2 : 4);
    for (int64_t base = pass.begin; base < pass.end; base += 32 * depth * count) {
        float sums[depth][count] = {};
        for (uint32_t left = ranks; left != 0;) {
            packed_numbers<count, is_bf16> packed[sum_ranks][depth] = {};
#pragma unroll
            for (int i = 0; i < sum_ranks; i++) {
                const char *partial =
                    staging_row(args, args.channel.rank, token, __ffs((int)left) - 1);
#pragma unroll
                for (int place = 0; place < depth; place++) {
                    const int64_t column = base + (32 * place + lane_index()) * count;
                    if (left != 0 && column < pass.end) {
                        packed[i][place].load(partial, column - pass.begin);
                    }
                }
                left &= left - 1;
            }
#pragma unroll
            for (int i = 0; i < sum_ranks; i++) {
#pragma unroll
                for (int place = 0; place < depth; place++) {
                    float numbers[count];
                    packed[i][place].unpack(numbers);
#pragma unroll
                    for (int j = 0; j < count; j++) {
                        sums[place][j] += numbers[j];
                    }
                }
            }
        }
#pragma unroll
        for (int place = 0; place < depth; place++) {
            const int64_t column = base + (32 * place + lane_index()) * count;
            if (column < pass.end) {
                store_numbers<count>(args.out + token * out_row_bytes, column, args.out_is_bf16,
                                     sums[place]);
            }
        }
    }
}

/* At home: sums the partials of every token as soon as all of them are there. */
template <int count, bool is_bf16>
__device__ __forceinline__ void sum_partials(const cuda_combine_args_t &args,
                                             combine_shared &shared, const combine_pass &pass,
                                             int32_t kind)
{
    const cuda_channel_t &channel = args.channel;
    const cuda_route_view_t &route = args.route;
    const int32_t lane = lane_index();
    const int64_t token_count = *route.token_count;
    for (int64_t token = take_work(channel, pass.pool + pool_receive); token < token_count;) {
        const int32_t row =
            lane < channel.rank_count ? route.first_rows[token * channel.rank_count + lane] : -1;
        const int64_t next = take_work(channel, pass.pool + pool_receive);
        const uint32_t ranks = __ballot_sync(all_lanes, row >= 0);
        const uint32_t *flag =
            row >= 0 ? progress_of(channel, route, channel.rank, lane) + token : nullptr;
        if (!progress_await(channel, shared.op, kind, flag, lane, pass.mark)) {
            return;
        }
        sum_token<count, is_bf16>(args, pass, token, ranks);
        for (int32_t slot = lane; pass.returns_gradients && slot < route.topk; slot += 32) {
            const int64_t i = token * route.topk + slot;
            args.d_topk_weights[i] =
                route.experts[i] < 0
                    ? 0.0f
                    : __ldcg(reinterpret_cast<const float *>(channel.parts[channel.rank] +
                                                             route.gradient_offset) +
                             i);
        }
        token = next;
    }
}

__device__ inline void combine_columns(const cuda_combine_args_t &args, combine_shared &shared,
                                       const combine_pass &pass, char *pieces, int32_t kind)
{
    if (blockIdx.x < args.send_blocks) {
        send_partials(args, shared, pass, pieces);
    }
    const bool wide = is_wide(args.out, args.route.hidden);
    if (args.wire_is_bf16) {
        wide ? sum_partials<wide_count, true>(args, shared, pass, kind)
             : sum_partials<1, true>(args, shared, pass, kind);
    } else {
        wide ? sum_partials<wide_count, false>(args, shared, pass, kind)
             : sum_partials<1, false>(args, shared, pass, kind);
    }
}

/* fp32 on the wire takes two passes: the second overwrites the staging memory of all ranks, so all
 * must have read it. */
__device__ inline void combine_passes(const cuda_combine_args_t &args, combine_shared &shared,
                                      char *pieces, int32_t kind)
{
    const int64_t hidden = args.route.hidden;
    combine_pass pass = {0,
                         min(hidden, args.pass_columns),
                         0,
                         2 * shared.op.epoch,
                         gradient_is_wanted(args.channel, shared.op),
                         args.d_topk_weights != nullptr};
    combine_columns(args, shared, pass, pieces, kind);
    if (pass.end == hidden) {
        return;
    }
    operation_raise(args.channel, shared.op, flag_followed);
    if (!operation_await(args.channel, shared.op, kind, flag_followed)) {
        return;
    }
    signals_begin(shared.queue, signal_warp);
    __syncthreads();
    pass = {pass.end, hidden, pool_per_pass, 2 * shared.op.epoch + 1, false, false};
    combine_columns(args, shared, pass, pieces, kind);
}

/* Shared memory: CUDA_BULK_SHARED_BYTES. */
extern "C" __global__ void __launch_bounds__(CUDA_ROWS_THREADS, 1)
    moxie_combine(const __grid_constant__ cuda_combine_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    __shared__ combine_shared shared;
    const int32_t kind = kind_of(args.offer);
    bulk_begin(pieces);
    signals_begin(shared.queue, signal_warp);
    operation_begin(args.channel, shared.op);
    if (blockIdx.x == 0) {
        operation_offer(args.channel, shared.op, args.offer, nullptr);
    }
    find_ranges(args.channel, args.route, shared.ranges);
    operation_meet(args.channel, shared.op, kind);
    if (exchange_agree(args.channel, args.route, shared.op, kind, source_row_bytes(args))) {
        combine_passes(args, shared, pieces, kind);
    }
    operation_leave(args.channel, shared.op);
}

} // namespace moxie

#endif
