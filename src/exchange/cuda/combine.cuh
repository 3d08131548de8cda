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

/* Rows that are summed at a time. */
constexpr int sum_rows = 2;

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

/* Loads that a lane has in flight for a row: as many as registers allow. */
template <int count, bool is_bf16> constexpr int depth_of = count == 1 || is_bf16 ? 4 : 2;

/* Adds `sum_rows` rows, NULL: none, at some places of each lane, ascending slots. */
template <int count, bool is_bf16>
__device__ __forceinline__ void add_rows(const combine_pass &pass,
                                         const char *const (&rows)[sum_rows],
                                         const float (&weights)[sum_rows], int64_t base,
                                         float (&sums)[depth_of<count, is_bf16>][count])
{
    constexpr int depth = depth_of<count, is_bf16>;
    packed_numbers<count, is_bf16> packed[sum_rows][depth];
#pragma unroll
    for (int link = 0; link < sum_rows; link++) {
#pragma unroll
        for (int i = 0; i < depth; i++) {
            const int64_t column = base + (32 * i + lane_index()) * count;
            if (rows[link] != nullptr && column < pass.end) {
                packed[link][i].load(rows[link], column);
            }
        }
    }
#pragma unroll
    for (int link = 0; link < sum_rows; link++) {
#pragma unroll
        for (int i = 0; i < depth; i++) {
            const int64_t column = base + (32 * i + lane_index()) * count;
            if (rows[link] != nullptr && column < pass.end) {
                float numbers[count];
                packed[link][i].unpack(numbers);
#pragma unroll
                for (int j = 0; j < count; j++) {
                    sums[i][j] = fmaf(weights[link], numbers[j], sums[i][j]);
                }
            }
        }
    }
}

/* A token's rows and weights, one a lane, the second 32 in `more`. In rank_major the one row, which
 * the caller has weighted and summed: 1 · y + 0 is y, but for the sign of zero, which the sum at
 * home does not see. */
struct weighted_rows {
    cuda_link_t link;
    cuda_link_t more;

    __device__ __forceinline__ weighted_rows(const cuda_combine_args_t &args,
                                             const partial_source &taken)
        : link{(int32_t)taken.n, 1.0f, 0, 0}, more{}
    {
        const cuda_route_view_t &route = args.route;
        if (route.layout == 1) {
            return;
        }
        const cuda_link_t *links = links_of(args.channel, route, taken.n);
        if (lane_index() < taken.arrival.count) {
            link = load_link(links + lane_index());
        }
        if (lane_index() + 32 < taken.arrival.count) {
            more = load_link(links + lane_index() + 32);
        }
        if (args.unweighted) {
            link.weight = more.weight = 1.0f;
        }
    }

    __device__ __forceinline__ int32_t row(int32_t i) const
    {
        return __shfl_sync(all_lanes, i < 32 ? link.row : more.row, i % 32);
    }
    __device__ __forceinline__ float weight(int32_t i) const
    {
        return __shfl_sync(all_lanes, i < 32 ? link.weight : more.weight, i % 32);
    }
};

/* Sums a token's rows here and writes the partial home. */
template <int count, bool is_bf16>
__device__ __forceinline__ void send_partial(const cuda_combine_args_t &args,
                                             const combine_pass &pass, const partial_source &taken,
                                             const weighted_rows &rows)
{
    constexpr int depth = depth_of<count, is_bf16>;
    char *staging = staging_row(args, taken.home, taken.arrival.token, args.channel.rank);
    const int32_t row_count = args.route.layout == 1 ? 1 : taken.arrival.count;
    for (int64_t base = pass.begin; base < pass.end; base += 32 * depth * count) {
        float sums[depth][count] = {};
        for (int32_t first = 0; first < row_count; first += sum_rows) {
            const char *addresses[sum_rows];
            float weights[sum_rows];
#pragma unroll
            for (int i = 0; i < sum_rows; i++) {
                const int64_t row = rows.row(min(first + i, row_count - 1));
                weights[i] = rows.weight(min(first + i, row_count - 1));
                addresses[i] =
                    first + i < row_count ? args.source + row * source_row_bytes(args) : nullptr;
            }
            add_rows<count, is_bf16>(pass, addresses, weights, base, sums);
        }
#pragma unroll
        for (int i = 0; i < depth; i++) {
            const int64_t column = base + (32 * i + lane_index()) * count;
            if (column < pass.end) {
                store_numbers<count>(staging, column - pass.begin, args.wire_is_bf16, sums[i]);
            }
        }
    }
}

template <int count, bool is_bf16>
__device__ __forceinline__ void send_partials_by_lanes(const cuda_combine_args_t &args,
                                                       combine_shared &shared,
                                                       const combine_pass &pass)
{
    arrival_work work(args, shared, pass);
    partial_source taken;
    while (work.take(&taken)) {
        const weighted_rows rows(args, taken);
        send_partial<count, is_bf16>(args, pass, taken, rows);
        if (pass.sends_gradients) {
            work.send_gradients(taken);
        }
        work.done(work.ticket_of(taken));
    }
}

/* Gives out the rows of sums piece by piece, token by token. */
struct sum_work {
    const cuda_combine_args_t &args;
    const combine_pass &pass;
    arrival_work arrivals;
    partial_source taken;
    cuda_link_t link; /* rows of the token, one a lane */
    cuda_link_t more;
    cuda_link_t next_link; /* of the token behind it, on their way */
    cuda_link_t next_more;
    int32_t row_count;
    int32_t index;  /* of the next row; row_count: the piece is done */
    int64_t column; /* where the next piece begins */
    int32_t piece_columns;

    __device__ __forceinline__ sum_work(const cuda_combine_args_t &arguments,
                                        combine_shared &shared, const combine_pass &columns)
        : args(arguments), pass(columns),
          arrivals(arguments, shared, columns), taken{}, link{}, more{}, next_link{}, next_more{},
          row_count(0), index(0), column(columns.end)
    {
        const int64_t width = pass.end - pass.begin;
        const int64_t count = (2 * width + bulk_piece_bytes - 1) / bulk_piece_bytes;
        piece_columns = (int32_t)((width + 8 * count - 1) / (8 * count)) * 8;
        look_ahead();
    }

    /* Loads the rows of the next token, without knowing yet how many there are. */
    __device__ __forceinline__ void look_ahead()
    {
        if (arrivals.unit < arrivals.count && arrivals.source.n >= 0) {
            const cuda_link_t *links = links_of(args.channel, args.route, arrivals.source.n);
            if (lane_index() < args.route.topk) {
                next_link = load_link(links + lane_index());
            }
            if (lane_index() + 32 < args.route.topk) {
                next_more = load_link(links + lane_index() + 32);
            }
        }
    }

    __device__ __forceinline__ bool take_token()
    {
        while (arrivals.unit < arrivals.count) {
            taken = arrivals.source;
            link = next_link;
            more = next_more;
            arrivals.advance();
            look_ahead();
            if (taken.n >= 0) {
                row_count = taken.arrival.count;
                column = pass.begin;
                index = 0;
                if (pass.sends_gradients) {
                    arrivals.send_gradients(taken);
                }
                return true;
            }
        }
        return false;
    }

    __device__ __forceinline__ const char *next(bulk_row *row)
    {
        if (index == row_count && column < pass.end) {
            column += piece_columns;
            index = 0;
        }
        if (column >= pass.end && !take_token()) {
            return nullptr;
        }
        const int64_t at = __shfl_sync(all_lanes, index < 32 ? link.row : more.row, index % 32);
        const float weight =
            __shfl_sync(all_lanes, index < 32 ? link.weight : more.weight, index % 32);
        const int64_t end = min(pass.end, column + piece_columns);
        row->weight = args.unweighted ? 1.0f : weight;
        row->bytes = (uint32_t)(2 * (end - column));
        row->is_last = ++index == row_count;
        row->ticket = arrivals.ticket_of(taken);
        row->column = (int32_t)column;
        return args.source + at * source_row_bytes(args) + 2 * column;
    }

    __device__ __forceinline__ void write(const bulk_row &row,
                                          const float (&sums)[bulk_sum_depth][wide_count])
    {
        const int32_t home = __ffs((int)(row.ticket >> 32)) - 1;
        char *staging = staging_row(args, home, (uint32_t)row.ticket, args.channel.rank);
#pragma unroll
        for (int i = 0; i < bulk_sum_depth; i++) {
            const int32_t number = 256 * i + wide_count * lane_index();
            if (2 * number < (int32_t)row.bytes) {
                store_numbers<wide_count>(staging, row.column - pass.begin + number,
                                          args.wire_is_bf16, sums[i]);
            }
        }
        if (row.column + row.bytes / 2 >= pass.end) {
            arrivals.done(row.ticket);
        }
    }
};

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
    } else if (has_bulk && wide && args.route.layout == 2 && args.source_is_bf16) {
        if (warp < bulk_warps) {
            sum_work work(args, shared, pass);
            bulk_sum(pieces, warp, work);
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
    constexpr int depth = depth_of<count, is_bf16> / 2;
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
