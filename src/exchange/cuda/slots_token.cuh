/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch in low latency: what a block knows of the token that it sends, and the token's row in
 * registers.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_TOKEN_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_TOKEN_CUH

#include "exchange/cuda/quantise.cuh"
#include "exchange/cuda/slots_clerk.cuh"

namespace moxie
{

struct slots_dispatch_shared : slots_clerk_shared {
    int32_t earlier[CUDA_RANK_COUNT_MAX]; /* rows that the tokens before it send to each rank */
    int32_t rows[CUDA_RANK_COUNT_MAX];    /* the token's row among this rank's there, -1: none */
    /* Of the token's slots. */
    int32_t experts[MOXIE_TOPK_MAX]; /* -1: unused */
    uint32_t homes[MOXIE_TOPK_MAX];  /* place_of_expert, ~0: unused */
    float weights[MOXIE_TOPK_MAX];
    int32_t places[MOXIE_TOPK_MAX]; /* expert_major: the row's number among those for its expert */
    uint32_t arrived[CUDA_RANK_COUNT_MAX]; /* 1 + the row that came of each rank, 0: none */
};

/* Slots of the routing that a thread of a block that moves rows has on the way at a time. */
constexpr int marked_depth = 3;

/* All threads, before a barrier: what the token's row will be labelled with. */
__device__ __forceinline__ void read_slots(const cuda_slots_dispatch_args_t &args,
                                           slots_dispatch_shared &shared, int64_t token)
{
    const int32_t k = (int32_t)threadIdx.x;
    if (k < args.call.route.topk) {
        const int64_t slot = token * args.call.route.topk + k;
        const int32_t expert = expert_of_slot(args, slot);
        shared.experts[k] = expert;
        shared.weights[k] = args.topk_weights == nullptr ? 1.0f : args.topk_weights[slot];
        shared.homes[k] = expert < 0 ? ~0u : place_table()[expert];
    }
}

/* All threads, before a barrier. */
__device__ __forceinline__ void clear_masks(slots_dispatch_shared &shared)
{
    shared.masks[threadIdx.x] = 0;
}

/* All threads: what is the route's and not the call's, ahead of the kernel before this one. */
__device__ __forceinline__ void prepare_block(const cuda_slots_dispatch_args_t &args,
                                              slots_dispatch_shared &shared)
{
    const cuda_route_view_t &route = args.call.route;
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < route.expert_count; i += (int32_t)blockDim.x) {
        place_table()[i] = __ldg(route.place_of_expert + i);
    }
    clear_masks(shared);
    __syncthreads();
}

/* All threads: the ranks that `token_count` tokens from `first` on go to, in shared.masks, which
 * are zeros before. They are no more than the blocks that move rows. */
__device__ __forceinline__ void mark_tokens(const cuda_slots_dispatch_args_t &args,
                                            slots_dispatch_shared &shared, int64_t first,
                                            int32_t token_count)
{
    const uint32_t topk = (uint32_t)args.call.route.topk;
    const int32_t count = token_count * (int32_t)topk;
#pragma unroll 1
    for (int32_t base = (int32_t)threadIdx.x; base < count;
         base += marked_depth * (int32_t)blockDim.x) {
        int32_t experts[marked_depth];
#pragma unroll
        for (int j = 0; j < marked_depth; j++) {
            const int32_t i = base + j * (int32_t)blockDim.x;
            experts[j] = i < count ? expert_of_slot(args, first * topk + i) : -1;
        }
#pragma unroll
        for (int j = 0; j < marked_depth; j++) {
            const uint32_t i = (uint32_t)(base + j * (int32_t)blockDim.x);
            if (experts[j] >= 0) {
                atomicOr(&shared.masks[i / topk], 1u << (place_table()[experts[j]] >> 16));
            }
        }
    }
}

/* All threads: where the rows of a token go. `counted` tokens are in shared.earlier; afterwards all
 * up to this one are. */
__device__ inline void place_token(const cuda_slots_dispatch_args_t &args,
                                   slots_dispatch_shared &shared, int64_t counted, int64_t token)
{
    const int32_t rank_count = args.call.channel.rank_count;
    const int32_t last = (int32_t)(token - counted);
    if (counted > 0) {
        clear_masks(shared);
        __syncthreads();
    }
    read_slots(args, shared, token);
    mark_tokens(args, shared, counted, last + 1);
    __syncthreads();
#pragma unroll 1
    for (int32_t rank = (int32_t)threadIdx.x / 32; rank < rank_count;
         rank += (int32_t)blockDim.x / 32) {
        int32_t row = counted == 0 ? 0 : shared.earlier[rank];
#pragma unroll 1
        for (int32_t base = 0; base < last; base += 32) {
            const int32_t i = base + lane_index();
            row += __popc(__ballot_sync(all_lanes, i < last && (shared.masks[i] >> rank & 1) != 0));
        }
        if (lane_index() == 0) {
            const bool goes = (shared.masks[last] >> rank & 1) != 0;
            shared.earlier[rank] = row + goes;
            shared.rows[rank] = goes ? row : -1;
            args.call.route.first_rows[token * rank_count + rank] = goes ? row : -1;
        }
    }
    __syncthreads();
}

/* expert_major, all threads: how many rows the tokens before this one send to its experts. */
__device__ inline void count_places(const cuda_slots_dispatch_args_t &args,
                                    slots_dispatch_shared &shared, int64_t token)
{
    const int32_t topk = args.call.route.topk;
    for (int32_t k = (int32_t)threadIdx.x / 32; k < topk; k += (int32_t)blockDim.x / 32) {
        const int32_t expert = shared.experts[k];
        int32_t count = 0;
#pragma unroll 4
        for (int64_t slot = lane_index(); slot < token * topk; slot += 32) {
            count += expert_of_slot(args, slot) == expert;
        }
        count = __reduce_add_sync(all_lanes, count);
        if (lane_index() == 0) {
            shared.places[k] = count;
        }
    }
    __syncthreads();
}

/* Whether rows travel as they are, and their addresses allow pieces of 16 bytes. What does not is
 * slower, and its code out of the way. */
__device__ __forceinline__ bool is_direct(const cuda_slots_dispatch_args_t &args)
{
    return !args.is_quantised && (reinterpret_cast<uint64_t>(args.source) |
                                  (uint64_t)args.source_row_bytes | (uint64_t)args.row_bytes) %
                                         piece_bytes ==
                                     0;
}

/* A token's row on its way through a thread's registers. */
struct row_pieces {
    const char *row;
    uint32_t scale; /* rows that are fp8 already: the word with the thread's number */
    uint4 pieces[piece_depth];

    template <bool is_wide>
    __device__ __forceinline__ void load(const cuda_slots_dispatch_args_t &args, int32_t first)
    {
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            const int64_t offset = (int64_t)(first + i * (int32_t)blockDim.x) * piece_bytes;
            pieces[i] = offset < args.source_row_bytes
                            ? load_piece<is_wide>(row, offset, args.source_row_bytes)
                            : uint4{};
        }
    }
};

/* A token's row: its first pieces are asked for before it is known where they go, or at least its
 * lines. */
__device__ __forceinline__ row_pieces ask_for_row(const cuda_slots_dispatch_args_t &args,
                                                  int64_t token)
{
    constexpr int32_t line_bytes = 128;
    row_pieces row = {args.source + token * args.source_row_bytes, 0, {}};
    if (is_direct(args)) {
        row.load<true>(args, (int32_t)threadIdx.x);
    } else if ((int64_t)threadIdx.x * line_bytes < args.source_row_bytes) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(row.row + threadIdx.x * line_bytes));
    }
    if (!args.is_quantised && (int32_t)threadIdx.x < args.scale_words) {
        row.scale = reinterpret_cast<const uint32_t *>(
            args.source_scales)[token * args.scale_words + threadIdx.x];
    }
    return row;
}

/* All lanes: pieces of 8 columns of bf16 become 8 bytes; the bits of their groups' scales, 16 lanes
 * each, go into `scales`. */
__device__ __forceinline__ void quantise_pieces(const cuda_slots_dispatch_args_t &args,
                                                row_pieces &row, int32_t first, uint32_t *scales)
{
    constexpr int32_t group_lanes = MOXIE_SCALE_COLUMNS / 8;
#pragma unroll
    for (int i = 0; i < piece_depth; i++) {
        const int32_t piece = first + i * (int32_t)blockDim.x;
        if ((int64_t)(piece - lane_index()) * 8 >= args.row_bytes) {
            break; /* the same in all lanes */
        }
        const uint32_t bf16[4] = {row.pieces[i].x, row.pieces[i].y, row.pieces[i].z,
                                  row.pieces[i].w};
        uint32_t fp8[2];
        const uint32_t scale = quantise_group<4>(bf16, (moxie_scale_type_t)args.scale_type, fp8);
        row.pieces[i] = make_uint4(fp8[0], fp8[1], 0, 0);
        if (lane_index() % group_lanes == 0 && (int64_t)piece * 8 < args.row_bytes) {
            scales[piece / group_lanes] = scale;
        }
    }
}

/* A word of the scales of a row that was quantised, from the bits of its groups' scales. */
__device__ __forceinline__ uint32_t pack_scales(const cuda_slots_dispatch_args_t &args,
                                                int32_t word, const uint32_t *bits)
{
    if (args.scale_type != MOXIE_SCALE_UE8M0) {
        return bits[word];
    }
    const int32_t group_count =
        (int32_t)((args.call.route.hidden + MOXIE_SCALE_COLUMNS - 1) / MOXIE_SCALE_COLUMNS);
    uint32_t packed = 0;
    for (int32_t i = 0; i < 4 && 4 * word + i < group_count; i++) {
        packed |= bits[4 * word + i] >> 23 << 8 * i;
    }
    return packed;
}

/* All threads: the row's pieces as they go over the wire, a few at a time: `put(first)` takes those
 * in row.pieces, the thread's number `first` and each further one blockDim.x apart. */
template <typename put_t>
__device__ __forceinline__ void walk_row(const cuda_slots_dispatch_args_t &args, row_pieces &row,
                                         put_t put)
{
    const int32_t piece_count = (int32_t)((args.row_bytes + piece_bytes - 1) / piece_bytes);
    put((int32_t)threadIdx.x);
#pragma unroll 1
    for (int32_t first = (int32_t)threadIdx.x + piece_depth * (int32_t)blockDim.x;
         first < piece_count; first += piece_depth * (int32_t)blockDim.x) {
        row.load<true>(args, first);
        put(first);
    }
}

/* The same of rows that are not direct: `put(row, first)`. */
template <typename put_t>
__device__ __forceinline__ void convert_row(const cuda_slots_dispatch_args_t &args, int64_t token,
                                            uint32_t *scales, put_t put)
{
    const int32_t piece_count = (int32_t)((args.source_row_bytes + piece_bytes - 1) / piece_bytes);
    const bool is_wide =
        (reinterpret_cast<uint64_t>(args.source) | (uint64_t)args.source_row_bytes) % piece_bytes ==
        0;
    row_pieces row = {args.source + token * args.source_row_bytes, 0, {}};
#pragma unroll 1
    for (int32_t first = (int32_t)threadIdx.x; first - lane_index() < piece_count;
         first += piece_depth * (int32_t)blockDim.x) {
        is_wide ? row.load<true>(args, first) : row.load<false>(args, first);
        if (args.is_quantised) {
            quantise_pieces(args, row, first, scales);
        }
        put(row, first);
    }
}

/* A word of the row's scales; of a row that was quantised behind a barrier, for the groups of other
 * warps. */
__device__ __forceinline__ uint32_t scale_word(const cuda_slots_dispatch_args_t &args,
                                               const row_pieces &row, int64_t token, int32_t word,
                                               const uint32_t *scales)
{
    if (args.is_quantised) {
        return pack_scales(args, word, scales);
    }
    return word == (int32_t)threadIdx.x ? row.scale
                                        : reinterpret_cast<const uint32_t *>(
                                              args.source_scales)[token * args.scale_words + word];
}

/* Where a word of a slot's scales lies. In expert_major the receiver brings them into their
 * layout. */
__device__ __forceinline__ int64_t scale_index(const cuda_slots_dispatch_args_t &args, int64_t slot,
                                               int32_t word)
{
    const cuda_slots_call_t &call = args.call;
    return args.has_column_scales && call.route.layout == 1
               ? word * (call.channel.rank_count * call.route.token_count_max) + slot
               : slot * args.scale_words + word;
}

} // namespace moxie

#endif
