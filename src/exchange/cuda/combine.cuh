/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Combine, and the backward of dispatch: the experts' rank sums a token's rows and writes the
 * partial into the home rank's staging memory, and the home rank sums the partials of all ranks as
 * they come. One partial a (rank, token) crosses the wire.
 */
#ifndef MOXIE_EXCHANGE_CUDA_COMBINE_CUH
#define MOXIE_EXCHANGE_CUDA_COMBINE_CUH

#include "exchange/cuda/arrivals.cuh"
#include "exchange/cuda/bulk.cuh"
#include "exchange/cuda/bulk_sum.cuh"
#include "exchange/cuda/exchange.cuh"
#include "exchange/cuda/signals.cuh"

namespace moxie
{

/* Partials that are summed at a time, and columns of a token that a warp takes. */
constexpr int sum_ranks = 4;
constexpr int64_t sum_columns_max = 2048;

/* The warp of a sending block that raises flags. */
constexpr int32_t combine_signal_warp = CUDA_COMBINE_THREADS / 32 - 1;

/* Warps of a sending block that copy rows in bulk: more than where a row goes to several places, as
 * a row that is stored once has to pay for its draw and its flag. */
constexpr int32_t copy_warps = 13;
static_assert(copy_warps * sizeof(bulk_pipe) <= CUDA_COMBINE_SHARED_BYTES &&
                  copy_warps <= combine_signal_warp && sum_warps <= combine_signal_warp,
              "the host knows how much it is");

/* Rounds after which a sent partial is looked at: each goes to one place only, so that several must
 * be on their way to fill the wire. */
constexpr int combine_lag = 3;

struct combine_shared {
    operation op;
    signals queue;
    arrival_ranges ranges;
};

/* One pass: as many columns as the staging memory holds. */
struct combine_pass {
    int64_t begin; /* columns [begin, end) */
    int64_t end;
    int32_t pool;  /* first of its counters of work */
    uint32_t mark; /* what the flags of its partials say */
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

/* The partials that go home, one of each received token. */
struct partial_work {
    const cuda_combine_args_t &args;
    combine_shared &shared;
    arrival_work arrivals;

    /* Warps [0, warps) of each sending block send: the first of each is dealt. */
    __device__ __forceinline__ partial_work(const cuda_combine_args_t &arguments,
                                            combine_shared &block, const combine_pass &pass,
                                            uint32_t warps)
        : args(arguments), shared(block),
          arrivals(arguments.channel, arguments.route, block.ranges, pass.pool + pool_send,
                   arguments.send_blocks * warps,
                   blockIdx.x + arguments.send_blocks * (threadIdx.x / 32))
    {
    }

    __device__ __forceinline__ char *target_of(const arrived_token &token) const
    {
        return staging_row(args, token.from, token.arrival.token, args.channel.rank);
    }

    /* In rank_major one, which the caller has weighted and summed: 1 · y + 0 is y, but for the sign
     * of zero, which the sum at home does not see. */
    __device__ __forceinline__ int32_t row_count_of(const arrived_token &token) const
    {
        return args.route.layout == 1 ? 1 : token.arrival.count;
    }

    __device__ __forceinline__ uint64_t ticket_of(const arrived_token &token) const
    {
        return 1ull << (32 + token.from) | (uint32_t)token.arrival.token;
    }

    /* It is there. */
    __device__ __forceinline__ void done(uint64_t ticket)
    {
        signals_post(shared.queue, (uint32_t)ticket, (uint32_t)(ticket >> 32));
    }
};

/* For the bulk copy engine: rows as they are, lane 0 stores. */
struct copied_partials : partial_work, bulk_copies {
    using partial_work::partial_work;

    __device__ __forceinline__ bool next(const char **from, char **destination, uint64_t *ticket)
    {
        arrived_token token;
        if (!arrivals.take(&token)) {
            return false;
        }
        *from = args.source + token.n * source_row_bytes(args);
        *destination = lane_index() == 0 ? target_of(token) : nullptr;
        *ticket = ticket_of(token);
        return true;
    }
};

/* The same with sums of rows. */
struct summed_partials : partial_work {
    using partial_work::partial_work;

    __device__ __forceinline__ bool next(row_sum *sum)
    {
        arrived_token token;
        if (!arrivals.take(&token)) {
            return false;
        }
        *sum = {token.arrival.count, args.source + token.link.row * source_row_bytes(args),
                args.unweighted ? 1.0f : token.link.weight, target_of(token), ticket_of(token)};
        return true;
    }
};

/* Gradients of the weights of received slots go home unchanged. They are few: blocks that send no
 * partials take them, before there is anything to sum. */
__device__ inline void send_gradients(const cuda_combine_args_t &args, const arrival_ranges &ranges)
{
    const cuda_channel_t &channel = args.channel;
    const cuda_route_view_t &route = args.route;
    const uint32_t first = args.send_blocks < gridDim.x ? args.send_blocks : 0;
    const char *details = channel.parts[channel.rank] + route.detail_offset;
    const int32_t last_rank = channel.rank_count - 1;
    const int64_t count =
        (int64_t)(ranges.starts[last_rank] + ranges.counts[last_rank]) * route.topk;
    int64_t i = ((int64_t)blockIdx.x - first) * blockDim.x + threadIdx.x;
    if (blockIdx.x < first) {
        return;
    }
    for (; i < count; i += (int64_t)(gridDim.x - first) * blockDim.x) {
        const int32_t n = (int32_t)(i / route.topk);
        const int32_t place = (int32_t)(i % route.topk);
        const cuda_arrival_t arrival = load_arrival(arrivals_of(channel, route) + n);
        int32_t slot = place;
        int64_t source = i;
        bool is_there;
        if (route.layout == 1) {
            is_there = (int32_t)__ldcg(reinterpret_cast<const uint2 *>(details) + i).x >= 0;
        } else {
            const cuda_link_t link = load_link(reinterpret_cast<const cuda_link_t *>(details) + i);
            is_there = place < arrival.count;
            slot = link.slot;
            source = link.row;
        }
        if (is_there) {
            char *home = channel.parts[source_of_arrival(channel, ranges, n)];
            reinterpret_cast<float *>(
                home + route.gradient_offset)[(int64_t)arrival.token * route.topk + slot] =
                args.d_recv_weights[source];
        }
    }
}

/* Loads of a lane that are on their way together: as many as registers hold. */
template <int count, bool is_bf16> constexpr int load_count = count == wide_count &&is_bf16 ? 8 : 4;

/* Sums `rows` rows, `row_count` at most, ascending slots, and writes the partial home. All
 * loads of a round are on their way before the first sum. */
template <int count, bool is_bf16, int row_count>
__device__ __forceinline__ void send_sum(const cuda_combine_args_t &args, const combine_pass &pass,
                                         char *staging, const arrived_token &token, int32_t rows)
{
    constexpr int depth = load_count<count, is_bf16> / row_count;
    const int32_t end = (int32_t)pass.end;
    const char *sources[row_count];
    float weights[row_count];
#pragma unroll
    for (int row = 0; row < row_count; row++) {
        sources[row] = args.source + token.row(row) * source_row_bytes(args);
        weights[row] = args.unweighted ? 1.0f : token.weight(row);
    }
#pragma unroll 1
    for (int32_t base = (int32_t)pass.begin + lane_index() * count;
         base - lane_index() * count < end; base += 32 * depth * count) {
        packed_numbers<count, is_bf16> packed[row_count][depth] = {};
#pragma unroll
        for (int row = 0; row < row_count; row++) {
#pragma unroll
            for (int i = 0; i < depth; i++) {
                if (row < rows && base + 32 * i * count < end) {
                    packed[row][i].load(sources[row], base + 32 * i * count);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < depth; i++) {
            float sums[count] = {};
#pragma unroll
            for (int row = 0; row < row_count; row++) {
                if (row < rows) {
                    add_weighted<count, is_bf16>(packed[row][i], weights[row], sums);
                }
            }
            if (base + 32 * i * count < end) {
                store_numbers<count>(staging, base + 32 * i * count - pass.begin, args.wire_is_bf16,
                                     sums);
            }
        }
    }
}

/* A token with more rows than that: so many of them at a time. */
template <int count, bool is_bf16>
__device__ __forceinline__ void send_long_sum(const cuda_combine_args_t &args,
                                              const combine_pass &pass, char *staging,
                                              const arrived_token &token, int32_t rows)
{
    constexpr int row_count = load_count<count, is_bf16> / 2;
    const int32_t end = (int32_t)pass.end;
#pragma unroll 1
    for (int32_t base = (int32_t)pass.begin; base < end; base += 32 * count) {
        const int32_t column = base + lane_index() * count;
        float sums[count] = {};
#pragma unroll 1
        for (int32_t first = 0; first < rows; first += row_count) {
            packed_numbers<count, is_bf16> packed[row_count] = {};
#pragma unroll
            for (int i = 0; i < row_count; i++) {
                const char *row = args.source + token.row(first + i) * source_row_bytes(args);
                if (first + i < rows && column < end) {
                    packed[i].load(row, column);
                }
            }
#pragma unroll
            for (int i = 0; i < row_count; i++) {
                const float weight = args.unweighted ? 1.0f : token.weight(first + i);
                if (first + i < rows) {
                    add_weighted<count, is_bf16>(packed[i], weight, sums);
                }
            }
        }
        if (column < end) {
            store_numbers<count>(staging, column - pass.begin, args.wire_is_bf16, sums);
        }
    }
}

/* Sums a token's rows here and writes the partial home. */
template <int count, bool is_bf16>
__device__ __forceinline__ void send_partial(const cuda_combine_args_t &args,
                                             const combine_pass &pass, char *staging,
                                             const arrived_token &token, int32_t rows)
{
    if (rows == 1) {
        send_sum<count, is_bf16, 1>(args, pass, staging, token, rows);
    } else if (rows == 2) {
        send_sum<count, is_bf16, 2>(args, pass, staging, token, rows);
    } else if (rows <= 4) {
        send_sum<count, is_bf16, 4>(args, pass, staging, token, rows);
    } else {
        send_long_sum<count, is_bf16>(args, pass, staging, token, rows);
    }
}

/* Asks for the rows of a token that is to be sent. */
__device__ __forceinline__ void prefetch_partial(const cuda_combine_args_t &args,
                                                 const arrived_token &token, int32_t rows)
{
    const int64_t row_bytes = source_row_bytes(args);
#pragma unroll 1
    for (int32_t i = 0; i < rows; i++) {
        prefetch_row(args.source + token.row(i) * row_bytes, row_bytes);
    }
}

/* While a token is summed, the rows of the next one come into the cache. */
template <int count, bool is_bf16>
__device__ __forceinline__ void send_partials_by_lanes(const cuda_combine_args_t &args,
                                                       const combine_pass &pass, partial_work &work)
{
    arrived_token token;
    arrived_token next;
    for (bool has_token = work.arrivals.take(&token); has_token;) {
        const bool has_next = work.arrivals.take(&next);
        if (has_next) {
            prefetch_partial(args, next, work.row_count_of(next));
        }
        send_partial<count, is_bf16>(args, pass, work.target_of(token), token,
                                     work.row_count_of(token));
        work.done(work.ticket_of(token));
        token = next;
        has_token = has_next;
    }
}

/* Whether rows of this address and size can be moved in pieces of wide_count numbers. */
__device__ __forceinline__ bool is_wide(const void *rows, int64_t hidden)
{
    return reinterpret_cast<uint64_t>(rows) % 16 == 0 && hidden % wide_count == 0;
}

__device__ inline void send_by_lanes(const cuda_combine_args_t &args, const combine_pass &pass,
                                     partial_work &work)
{
    const bool wide = is_wide(args.source, args.route.hidden);
    if (args.source_is_bf16) {
        wide ? send_partials_by_lanes<wide_count, true>(args, pass, work)
             : send_partials_by_lanes<1, true>(args, pass, work);
    } else {
        wide ? send_partials_by_lanes<wide_count, false>(args, pass, work)
             : send_partials_by_lanes<1, false>(args, pass, work);
    }
}

/* Which way partials go home. */
enum partial_way {
    partials_are_copies, /* rank_major in bf16: rows as they are */
    partials_are_sums,   /* of rows of bf16, in bf16 */
    partials_by_lanes,   /* all others */
};

__device__ __forceinline__ partial_way way_of(const cuda_combine_args_t &args)
{
    if (!has_bulk || !args.source_is_bf16 || !args.wire_is_bf16 ||
        !is_wide(args.source, args.route.hidden)) {
        return partials_by_lanes;
    }
    return args.route.layout == 1  ? partials_are_copies
           : args.route.topk <= 32 ? partials_are_sums
                                   : partials_by_lanes;
}

/* The warps of a sending block; the last raises the flags of the others. */
__device__ inline void send_partials(const cuda_combine_args_t &args, combine_shared &shared,
                                     const combine_pass &pass, char *pieces)
{
    const int32_t warp = (int32_t)threadIdx.x / 32;
    const partial_way way = way_of(args);
    if (warp == combine_signal_warp) {
        signals_raise(args.channel, args.route, shared.queue, pass.mark);
        return;
    }
    const int32_t warps = way == partials_are_copies ? copy_warps
                          : way == partials_are_sums ? sum_warps
                                                     : combine_signal_warp;
    if (way == partials_are_copies && warp < warps) {
        copied_partials work(args, shared, pass, warps);
        bulk_send<combine_lag>(pieces, warp, source_row_bytes(args), work);
    } else if (way == partials_are_sums && warp < warps) {
        summed_partials work(args, shared, pass, warps);
        bulk_sum(pieces, warp, source_row_bytes(args), work);
    } else if (way == partials_by_lanes) {
        partial_work work(args, shared, pass, warps);
        send_by_lanes(args, pass, work);
    }
    signals_leave(shared.queue);
}

/*
 * Sums the partials of some ranks in the columns [begin, end), ascending, `rank_count` at a time. A
 * rank without one adds +0, which changes nothing: the sum is never -0. All loads of a round are on
 * their way before the first sum.
 */
template <int count, bool is_bf16, int rank_count, bool is_all>
__device__ __forceinline__ void sum_token(const cuda_combine_args_t &args, const combine_pass &pass,
                                          int64_t token, uint32_t ranks, int32_t begin, int32_t end)
{
    constexpr int depth = is_all ? load_count<count, is_bf16> / rank_count : 1;
    char *out = args.out + token * args.route.hidden * (args.out_is_bf16 ? 2 : 4);
#pragma unroll 1
    for (int32_t base = begin + lane_index() * count; base - lane_index() * count < end;
         base += 32 * depth * count) {
        float sums[depth][count] = {};
#pragma unroll 1
        for (uint32_t left = ranks; is_all || left != 0;) {
            packed_numbers<count, is_bf16> packed[rank_count][depth] = {};
#pragma unroll
            for (int i = 0; i < rank_count; i++) {
                const char *partial =
                    staging_row(args, args.channel.rank, token, __ffs((int)left) - 1);
#pragma unroll
                for (int place = 0; place < depth; place++) {
                    const int32_t column = base + 32 * place * count;
                    if (left != 0 && column < end) {
                        packed[i][place].load(partial, column - pass.begin);
                    }
                }
                left &= left - 1;
            }
#pragma unroll
            for (int place = 0; place < depth; place++) {
#pragma unroll
                for (int i = 0; i < rank_count; i++) {
                    add_weighted<count, is_bf16>(packed[i][place], 1.0f, sums[place]);
                }
                if (is_all && base + 32 * place * count < end) {
                    store_numbers<count>(out, base + 32 * place * count, args.out_is_bf16,
                                         sums[place]);
                }
            }
            if (is_all) {
                break;
            }
        }
        if (!is_all && base < end) {
            store_numbers<count>(out, base, args.out_is_bf16, sums[0]);
        }
    }
}

/* Gives out some columns of this rank's tokens to be summed, so that the last token is soon done;
 * what the next columns need is on its way while the present ones are summed. */
struct home_work {
    const cuda_combine_args_t &args;
    int32_t pool;
    uint32_t parts; /* of a token */
    int64_t token_count;
    int64_t token;
    int32_t part;
    int32_t row;              /* of the token on this lane's rank, -1: none */
    unsigned long long later; /* the unit behind it, in lane 0 */

    __device__ __forceinline__ home_work(const cuda_combine_args_t &arguments,
                                         const combine_pass &pass)
        : args(arguments), pool(pass.pool + pool_receive),
          parts((uint32_t)((pass.end - pass.begin + sum_columns_max - 1) / sum_columns_max)),
          token_count(*arguments.route.token_count), token(0), part(0), row(-1), later(0)
    {
        draw();
        advance();
    }

    __device__ __forceinline__ void draw()
    {
        if (lane_index() == 0) {
            later = atomicAdd(
                reinterpret_cast<unsigned long long *>(&args.channel.counters->pool[pool]), 1ull);
        }
    }

    __device__ __forceinline__ void advance()
    {
        const int32_t rank_count = args.channel.rank_count;
        const uint32_t unit = (uint32_t)__shfl_sync(all_lanes, later, 0);
        token = unit / parts;
        part = (int32_t)(unit - (uint32_t)token * parts);
        row = token < token_count && lane_index() < rank_count
                  ? args.route.first_rows[token * rank_count + lane_index()]
                  : -1;
        if (token < token_count) {
            draw();
        }
    }
};

/* At home: sums the partials of every token as soon as all of them are there. */
template <int count, bool is_bf16>
__device__ __forceinline__ void sum_partials(const cuda_combine_args_t &args,
                                             combine_shared &shared, const combine_pass &pass,
                                             int32_t kind)
{
    const cuda_channel_t &channel = args.channel;
    const int32_t lane = lane_index();
    home_work work(args, pass);
    while (work.token < work.token_count) {
        const int64_t token = work.token;
        const int64_t begin = pass.begin + work.part * sum_columns_max;
        const int64_t end = min(begin + sum_columns_max, pass.end);
        const int32_t row = work.row;
        const uint32_t ranks = __ballot_sync(all_lanes, row >= 0);
        const uint32_t *flag =
            row >= 0 ? progress_of(channel, args.route, channel.rank, lane) + token : nullptr;
        work.advance();
        if (!progress_await(channel, shared.op, kind, flag, lane, pass.mark)) {
            return;
        }
        if (__popc((int)ranks) <= sum_ranks) {
            sum_token<count, is_bf16, sum_ranks, true>(args, pass, token, ranks, (int32_t)begin,
                                                       (int32_t)end);
        } else {
            sum_token<count, is_bf16, sum_ranks, false>(args, pass, token, ranks, (int32_t)begin,
                                                        (int32_t)end);
        }
    }
}

__device__ inline void combine_columns(const cuda_combine_args_t &args, combine_shared &shared,
                                       const combine_pass &pass, char *pieces, int32_t kind)
{
    if (blockIdx.x < args.send_blocks) {
        send_partials(args, shared, pass, pieces);
    }
    operation_mark(shared.op, CUDA_PHASE_MOVE);
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
    combine_pass pass = {0, min(hidden, args.pass_columns), 0, 2 * shared.op.epoch};
    combine_columns(args, shared, pass, pieces, kind);
    if (pass.end == hidden) {
        return;
    }
    operation_raise(args.channel, shared.op, flag_followed);
    if (!operation_await(args.channel, shared.op, kind, flag_followed)) {
        return;
    }
    signals_begin(shared.queue, combine_signal_warp);
    __syncthreads();
    pass = {pass.end, hidden, pool_per_pass, 2 * shared.op.epoch + 1};
    combine_columns(args, shared, pass, pieces, kind);
}

/* The partials, and where any rank asks for them the gradients of the weights, under flags of their
 * own. */
__device__ inline void combine_and_gradients(const cuda_combine_args_t &args,
                                             combine_shared &shared, char *pieces, int32_t kind)
{
    if (gradient_is_wanted(args.channel, shared.op)) {
        send_gradients(args, shared.ranges);
        operation_raise(args.channel, shared.op, flag_payload);
    }
    combine_passes(args, shared, pieces, kind);
    if (gradient_is_wanted(args.channel, shared.op) &&
        operation_await(args.channel, shared.op, kind, flag_payload) &&
        args.d_topk_weights != nullptr) {
        take_gradients(args.channel, args.route, args.d_topk_weights);
    }
}

/* Shared memory: CUDA_COMBINE_SHARED_BYTES. */
extern "C" __global__ void __launch_bounds__(CUDA_COMBINE_THREADS, 1)
    moxie_combine(const __grid_constant__ cuda_combine_args_t args)
{
    extern __shared__ __align__(128) char pieces[];
    __shared__ combine_shared shared;
    const int32_t kind = kind_of(args.offer);
    if (way_of(args) == partials_are_copies) {
        bulk_begin(pieces, copy_warps);
    }
    signals_begin(shared.queue, combine_signal_warp);
    operation_begin(args.channel, shared.op);
    if (blockIdx.x == 0) {
        operation_offer(args.channel, shared.op, args.offer, nullptr);
    }
    const expectation expected = expect_of_lane(args.channel, args.route);
    find_ranges(args.channel, args.route, shared.ranges);
    operation_meet(args.channel, shared.op, kind);
    if (exchange_agree(args.channel, args.route, shared.op, expected, kind,
                       source_row_bytes(args))) {
        combine_and_gradients(args, shared, pieces, kind);
    }
    operation_leave(args.channel, shared.op);
}

} // namespace moxie

#endif
