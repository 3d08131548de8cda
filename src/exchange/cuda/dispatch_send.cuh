/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending half of a dispatch: which warp takes which token, where its row and scales go, and
 * what becomes of them on the way.
 */
#ifndef MOXIE_EXCHANGE_CUDA_DISPATCH_SEND_CUH
#define MOXIE_EXCHANGE_CUDA_DISPATCH_SEND_CUH

#include "exchange/cuda/bulk.cuh"
#include "exchange/cuda/exchange.cuh"
#include "exchange/cuda/scales.cuh"
#include "exchange/cuda/signals.cuh"

#include <type_traits>

namespace moxie
{

/* The warp of a sending block that raises flags. */
constexpr int32_t dispatch_signal_warp = CUDA_DISPATCH_THREADS / 32 - 1;

/* What rows are: each kind has a kernel. */
enum row_kind {
    rows_plain,     /* bf16 or fp32 */
    rows_weighted,  /* the same, each times its weight: backward of a weighted combine */
    rows_scaled,    /* fp8 with scales */
    rows_quantised, /* bf16 at home, then fp8 with scales */
};

template <row_kind rows> constexpr bool is_fp8 = rows == rows_scaled || rows == rows_quantised;

/* The smallest element of rows as they travel. */
template <row_kind rows> struct element_of {
    using type = std::conditional_t<is_fp8<rows>, uint8_t, uint16_t>;
};

struct dispatch_shared {
    operation op;
    signals queue;
    arrival_ranges ranges;
};

/* Gives out this rank's tokens one by one to whichever warp comes, so that no block is left with a
 * long tail. */
struct token_pool {
    const cuda_dispatch_args_t &args;
    int64_t token_count;
    int64_t token;           /* the next; from token_count on: none */
    int32_t row;             /* its row on this lane's rank, -1: none */
    unsigned long long unit; /* the one behind it, in lane 0 */

    __device__ __forceinline__ token_pool(const cuda_dispatch_args_t &arguments, int64_t count)
        : args(arguments), token_count(count), token(0), row(-1), unit(0)
    {
    }

    __device__ __forceinline__ bool has_token() const
    {
        return token < token_count;
    }

    __device__ __forceinline__ void draw()
    {
        if (lane_index() == 0) {
            unit = atomicAdd(
                reinterpret_cast<unsigned long long *>(&args.channel.counters->pool[pool_send]),
                1ull);
        }
    }

    __device__ __forceinline__ void begin()
    {
        draw();
        advance();
    }

    __device__ __forceinline__ void advance()
    {
        const int32_t rank_count = args.channel.rank_count;
        token = (int64_t)__shfl_sync(all_lanes, unit, 0);
        row = token < token_count && lane_index() < rank_count
                  ? args.route.first_rows[token * rank_count + lane_index()]
                  : -1;
        if (token < token_count) {
            draw();
        }
    }
};

/* Sends the rows of the tokens that come out of a pool. What the next token needs is on its way
 * while the present one is sent, and of the first while the ranks meet. */
template <row_kind rows, typename pool_t = token_pool> struct token_work : bulk_copies {
    static constexpr row_kind kind = rows;

    const cuda_dispatch_args_t &args;
    dispatch_shared &shared;
    pool_t pool;
    bool has_begun;         /* what was drawn must be sent */
    scale_words words;      /* rows_scaled: of the next token */
    uint32_t *scales;       /* at this lane's rank: scales_at() */
    uint32_t *scale_target; /* there: of the token that was given out last */

    __device__ __forceinline__ token_work(const cuda_dispatch_args_t &arguments,
                                          dispatch_shared &block, const pool_t &tokens)
        : args(arguments), shared(block), pool(tokens), has_begun(false), words{}, scales(nullptr),
          scale_target(nullptr)
    {
    }

    /* When the ranks have met. */
    __device__ __forceinline__ void aim()
    {
        if (is_fp8<rows> && lane_index() < args.channel.rank_count) {
            scales = scales_at(args, shared.op, lane_index(), args.channel.rank);
        }
    }

    __device__ __forceinline__ int64_t source_row_bytes() const
    {
        return rows == rows_quantised ? 2 * args.row_bytes : args.row_bytes;
    }

    __device__ __forceinline__ const uint32_t *source_scales(int64_t number) const
    {
        return args.source_scales + number * args.scale_words;
    }

    __device__ __forceinline__ void begin()
    {
        has_begun = true;
        pool.begin();
        load_scales();
    }

    __device__ __forceinline__ void load_scales()
    {
        if (rows == rows_scaled && pool.has_token()) {
            words.load(source_scales(pool.token), args.scale_words);
        }
    }

    __device__ __forceinline__ bool next(const char **source, char **destination, uint64_t *ticket)
    {
        uint32_t ranks = 0;
        int64_t taken = pool.token;
        int32_t taken_row = -1;
        scale_words taken_words = {};
        while (ranks == 0) {
            if (!pool.has_token()) {
                return false;
            }
            taken = pool.token;
            taken_row = pool.row;
            taken_words = words;
            ranks = __ballot_sync(all_lanes, taken_row >= 0);
            pool.advance();
            load_scales();
        }
        if (is_fp8<rows>) {
            const int64_t place = args.route.layout == 1 ? taken_row : taken;
            scale_target = scales + place * args.scale_words;
        }
        if (rows == rows_scaled) {
            taken_words.store(source_scales(taken), args.scale_words, ranks, scale_target, 1);
        }
        *source = args.source + taken * source_row_bytes();
        *destination = taken_row < 0 ? nullptr
                                     : shared.op.destination[lane_index()] +
                                           (int64_t)taken_row * args.row_bytes;
        *ticket = (uint64_t)ranks << 32 | (uint32_t)taken;
        return true;
    }

    __device__ __forceinline__ void done(uint64_t ticket)
    {
        signals_post(shared.queue, (uint32_t)ticket, (uint32_t)(ticket >> 32));
    }
};

/* A piece of a row to be quantised: also where its first scale goes. */
struct quantised_piece : bulk_piece {
    char *scales;
};

/* Rows of bf16 that are quantised on the way: whole words of scales at a time. */
template <typename pool_t = token_pool> struct quantised_work : token_work<rows_quantised, pool_t> {
    using base = token_work<rows_quantised, pool_t>;
    using piece = quantised_piece;
    static constexpr int64_t cut = 2 * quantise_columns;
    static constexpr int shrink = 2;
    static_assert(bulk_piece_bytes == 2 * part_columns, "a piece is quantised at a time");

    using base::base;

    __device__ __forceinline__ moxie_scale_type_t type() const
    {
        return (moxie_scale_type_t)this->args.scale_type;
    }

    /* Where the scale of the group that begins at a column goes. */
    __device__ __forceinline__ char *scale_of_column(int64_t column) const
    {
        const int64_t group = column / MOXIE_SCALE_COLUMNS;
        return reinterpret_cast<char *>(this->scale_target) +
               (type() == MOXIE_SCALE_UE8M0 ? group : 4 * group);
    }

    __device__ __forceinline__ quantised_piece place(const bulk_piece &piece, int64_t offset) const
    {
        return {piece, scale_of_column(offset / 2)};
    }

    __device__ __forceinline__ void change(char *stage, const quantised_piece &piece) const
    {
        const int32_t columns = (int32_t)piece.bytes / 2;
        const auto load = [&](int32_t column) {
            return column < columns ? *reinterpret_cast<const uint4 *>(stage + 2 * column)
                                    : make_uint4(0, 0, 0, 0);
        };
        const auto store = [&](int32_t column, const uint2 &fp8) {
            if (column < columns) {
                *reinterpret_cast<uint2 *>(stage + column) = fp8;
            }
        };
        const uint32_t scales = quantise_part(columns, type(), load, store);
        bulk_publish_writes();
        __syncwarp();
        store_part_scales(type(), columns, scales,
                          __ballot_sync(all_lanes, piece.target != nullptr), piece.scales);
    }
};

/* Numbers from a place in a row on, 8 at most; `is_wide`: there are as many, in 16 bytes. */
__device__ __forceinline__ uint4 load_eight(const char *from, int32_t count, bool is_wide)
{
    uint32_t pairs[4] = {};
    if (is_wide && count > 0) {
        return __ldcs(reinterpret_cast<const uint4 *>(from));
    }
#pragma unroll
    for (int i = 0; i < wide_count; i++) {
        if (i < count) {
            pairs[i / 2] |= (uint32_t) reinterpret_cast<const uint16_t *>(from)[i] << 16 * (i % 2);
        }
    }
    return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

__device__ __forceinline__ void store_eight(char *to, const uint2 &fp8, int32_t count, bool is_wide)
{
    if (is_wide && count > 0) {
        *reinterpret_cast<uint2 *>(to) = fp8;
        return;
    }
#pragma unroll
    for (int i = 0; i < wide_count; i++) {
        if (i < count) {
            to[i] = (char)((i < 4 ? fp8.x : fp8.y) >> 8 * (i % 4));
        }
    }
}

/* Quantises a row to the address that each lane of `mask` holds. */
template <typename pool_t>
__device__ __forceinline__ void quantise_row(const quantised_work<pool_t> &work, const char *source,
                                             uint64_t addresses, uint32_t mask, char *destination)
{
    const bool is_wide = addresses % 16 == 0;
#pragma unroll 1
    for (int64_t base = 0; base < work.args.row_bytes; base += part_columns) {
        const int32_t columns = (int32_t)min(work.args.row_bytes - base, (int64_t)part_columns);
        const auto load = [&](int32_t column) {
            return load_eight(source + 2 * (base + column), columns - column, is_wide);
        };
        const auto store = [&](int32_t column, const uint2 &fp8) {
            for (uint32_t left = mask; left != 0; left &= left - 1) {
                char *to = reinterpret_cast<char *>(
                    __shfl_sync(all_lanes, reinterpret_cast<unsigned long long>(destination),
                                __ffs((int)left) - 1));
                store_eight(to + base + column, fp8, columns - column, is_wide);
            }
        };
        const uint32_t scales = quantise_part(columns, work.type(), load, store);
        store_part_scales(work.type(), columns, scales, mask, work.scale_of_column(base));
    }
}

/* Without the bulk copy engine: by loads and stores of the warp's lanes. */
template <typename work_t>
__device__ __forceinline__ void send_rows_by_lanes(const cuda_dispatch_args_t &args, work_t &work,
                                                   bool has_tickets)
{
    const char *source;
    char *destination;
    uint64_t ticket;
    if (!work.has_begun) {
        work.begin();
    }
    while (work.next(&source, &destination, &ticket)) {
        const uint64_t addresses = or_over_lanes(reinterpret_cast<uint64_t>(destination)) |
                                   reinterpret_cast<uint64_t>(source) | (uint64_t)args.row_bytes;
        const uint32_t ranks = (uint32_t)(ticket >> 32);
        if constexpr (work_t::kind == rows_quantised) {
            quantise_row(work, source, addresses, ranks, destination);
        } else {
            copy_row<typename element_of<work_t::kind>::type>(source, args.row_bytes, addresses,
                                                              ranks, destination);
        }
        if (has_tickets) {
            work.done(ticket);
        }
    }
}

/* Whether all addresses of this rank's rows are such as the bulk copy engine takes. */
__device__ __forceinline__ bool can_send_bulk(const cuda_dispatch_args_t &args, const operation &op)
{
    uint64_t addresses = reinterpret_cast<uint64_t>(args.source) | (uint64_t)args.row_bytes;
    for (int32_t rank = 0; rank < args.channel.rank_count; rank++) {
        addresses |= reinterpret_cast<uint64_t>(op.destination[rank]);
    }
    return has_bulk && addresses % 16 == 0;
}

/* expert_major: the warps of a sending block; the last raises the flags of the others. */
template <typename work_t>
__device__ inline void send_rows_with_flags(const cuda_dispatch_args_t &args,
                                            dispatch_shared &shared, work_t &work, char *pieces)
{
    const int32_t warp = (int32_t)threadIdx.x / 32;
    if (warp == dispatch_signal_warp) {
        signals_raise(args.channel, args.route, shared.queue, 2 * shared.op.epoch);
        return;
    }
    if (!can_send_bulk(args, shared.op)) {
        send_rows_by_lanes(args, work, true);
    } else if (warp < bulk_warps) {
        bulk_send<1>(pieces, warp, work.source_row_bytes(), work);
    }
    signals_leave(shared.queue);
}

} // namespace moxie

#endif
