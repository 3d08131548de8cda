/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch in low latency: a block sends a token's row to its slot at every rank that it goes to,
 * where no other rank writes, and tells so. In expert_major it then copies the rows that came from
 * the peers' same tokens to their experts.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_DISPATCH_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_DISPATCH_CUH

#include "exchange/cuda/quantise.cuh"
#include "exchange/cuda/slots_clerk.cuh"

namespace moxie
{

struct slots_dispatch_shared : slots_clerk_shared {
    uint32_t ranks;                       /* that the token at hand goes to, a bit each */
    int32_t earlier[CUDA_RANK_COUNT_MAX]; /* rows that the tokens before it send to each rank */
    int32_t sums[CUDA_SLOTS_THREADS / 32]
                [CUDA_RANK_COUNT_MAX]; /* of those, what each warp counted */
    int32_t rows[CUDA_RANK_COUNT_MAX]; /* the token's row among this rank's there, -1: none */
    /* Of the token's slots. */
    int32_t experts[MOXIE_TOPK_MAX]; /* -1: unused */
    uint32_t homes[MOXIE_TOPK_MAX];  /* place_of_expert, ~0: unused */
    float weights[MOXIE_TOPK_MAX];
    int32_t places[MOXIE_TOPK_MAX]; /* expert_major: the row's number among those for its expert */
    uint32_t arrived[CUDA_RANK_COUNT_MAX]; /* 1 + the row that came of each rank, 0: none */
};

/* The ranks that a token goes to. */
__device__ __forceinline__ uint32_t ranks_of_token(const cuda_slots_dispatch_args_t &args,
                                                   int64_t token)
{
    const cuda_route_view_t &route = args.call.route;
    uint32_t ranks = 0;
#pragma unroll 8
    for (int32_t k = 0; k < route.topk; k++) {
        const int32_t expert = expert_of_slot(args, token * route.topk + k);
        ranks |= expert < 0 ? 0u : 1u << (__ldg(route.place_of_expert + expert) >> 16);
    }
    return ranks;
}

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
        shared.homes[k] = expert < 0 ? ~0u : __ldg(args.call.route.place_of_expert + expert);
    }
}

/* All threads: where the rows of a token go. `counted` tokens are in shared.earlier; afterwards all
 * up to this one are. */
__device__ inline void place_token(const cuda_slots_dispatch_args_t &args,
                                   slots_dispatch_shared &shared, int64_t counted, int64_t token)
{
    const cuda_route_view_t &route = args.call.route;
    const int32_t rank_count = args.call.channel.rank_count;
    int32_t sum = 0; /* of the rank that has the lane's number */
    for (int64_t base = counted + threadIdx.x; base - lane_index() <= token; base += blockDim.x) {
        const uint32_t ranks = base <= token ? ranks_of_token(args, base) : 0;
        if (base == token) {
            shared.ranks = ranks;
        }
        for (int32_t rank = 0; rank < rank_count; rank++) {
            const uint32_t lanes =
                __ballot_sync(all_lanes, base < token && (ranks >> rank & 1) != 0);
            sum += lane_index() == rank ? __popc(lanes) : 0;
        }
    }
    if (lane_index() < rank_count) {
        shared.sums[threadIdx.x / 32][lane_index()] = sum;
    }
    __syncthreads();
    const int32_t rank = (int32_t)threadIdx.x;
    if (rank < rank_count) {
        int32_t row = counted == 0 ? 0 : shared.earlier[rank];
        for (int32_t warp = 0; warp < (int32_t)blockDim.x / 32; warp++) {
            row += shared.sums[warp][rank];
        }
        const bool goes = (shared.ranks >> rank & 1) != 0;
        shared.earlier[rank] = row + goes;
        shared.rows[rank] = goes ? row : -1;
        route.first_rows[token * rank_count + rank] = goes ? row : -1;
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

/* A token's row on its way through a thread's registers. */
struct row_pieces {
    const char *row;
    bool is_wide;
    uint32_t scale; /* rows that are fp8 already: the word with the thread's number */
    uint4 pieces[piece_depth];

    __device__ __forceinline__ void load(const cuda_slots_dispatch_args_t &args, int32_t first)
    {
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            const int64_t offset = (int64_t)(first + i * (int32_t)blockDim.x) * piece_bytes;
            pieces[i] = offset < args.source_row_bytes
                            ? load_piece(row, offset, args.source_row_bytes, is_wide)
                            : uint4{};
        }
    }

    /* The first of them are asked for before it is known where they go. */
    __device__ __forceinline__ row_pieces(const cuda_slots_dispatch_args_t &args, int64_t token)
        : row(args.source + token * args.source_row_bytes),
          is_wide((reinterpret_cast<uint64_t>(args.source) | (uint64_t)args.source_row_bytes |
                   (uint64_t)args.row_bytes) %
                      piece_bytes ==
                  0),
          scale(0)
    {
        load(args, (int32_t)threadIdx.x);
        if (!args.is_quantised && (int32_t)threadIdx.x < args.scale_words) {
            scale = reinterpret_cast<const uint32_t *>(
                args.source_scales)[token * args.scale_words + threadIdx.x];
        }
    }
};

/* Pieces to all ranks that the token goes to; `word_count` of 4 words of each are left. Each block
 * begins with another rank, so that they do not all write to the same. */
template <int word_count>
__device__ __forceinline__ void push_pieces(const cuda_slots_dispatch_args_t &args,
                                            const slots_dispatch_shared &shared,
                                            const row_pieces &row, int32_t first)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank_count = call.channel.rank_count;
    int32_t rank = (call.channel.rank + (int32_t)blockIdx.x) % rank_count;
    for (int32_t i = 0; i < rank_count; i++) {
        rank = rank + 1 < rank_count ? rank + 1 : 0;
        if (shared.rows[rank] < 0) {
            continue;
        }
        char *to = slots_at<char>(call, rank, call.slots.rows_offset) +
                   slot_of(call, call.channel.rank, shared.rows[rank]) * args.row_bytes;
#pragma unroll
        for (int j = 0; j < piece_depth; j++) {
            const int64_t offset = (int64_t)(first + j * (int32_t)blockDim.x) * (4 * word_count);
            if (offset < args.row_bytes) {
                store_piece<word_count>(to, offset, args.row_bytes, row.pieces[j], row.is_wide);
            }
        }
    }
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

/* All threads: the row itself. */
__device__ __forceinline__ void push_row(const cuda_slots_dispatch_args_t &args,
                                         const slots_dispatch_shared &shared, row_pieces &row,
                                         uint32_t *scales)
{
    const int32_t piece_count = (int32_t)((args.source_row_bytes + piece_bytes - 1) / piece_bytes);
#pragma unroll 1
    for (int32_t first = (int32_t)threadIdx.x; first - lane_index() < piece_count;
         first += piece_depth * (int32_t)blockDim.x) {
        if (first != (int32_t)threadIdx.x) {
            row.load(args, first);
        }
        if (args.is_quantised) {
            quantise_pieces(args, row, first, scales);
            push_pieces<2>(args, shared, row, first);
        } else {
            push_pieces<4>(args, shared, row, first);
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

/* All threads: the row's scales, to all ranks it goes to. In expert_major the receiver brings them
 * into their layout. */
__device__ inline void push_scales(const cuda_slots_dispatch_args_t &args,
                                   const slots_dispatch_shared &shared, const row_pieces &row,
                                   int64_t token, const uint32_t *bits)
{
    const cuda_slots_call_t &call = args.call;
    const int64_t slot_count = call.channel.rank_count * call.route.token_count_max;
    const bool by_column = args.has_column_scales && call.route.layout == 1;
    const uint32_t *source =
        reinterpret_cast<const uint32_t *>(args.source_scales) + token * args.scale_words;
    if (args.is_quantised) {
        __syncthreads(); /* the groups of other warps */
    }
    for (int32_t word = (int32_t)threadIdx.x; word < args.scale_words;
         word += (int32_t)blockDim.x) {
        const uint32_t value = args.is_quantised              ? pack_scales(args, word, bits)
                               : word == (int32_t)threadIdx.x ? row.scale
                                                              : source[word];
        for (int32_t rank = 0; rank < call.channel.rank_count; rank++) {
            if (shared.rows[rank] >= 0) {
                const int64_t slot = slot_of(call, call.channel.rank, shared.rows[rank]);
                slots_at<uint32_t>(
                    call, rank,
                    call.slots.scales_offset)[by_column ? word * slot_count + slot
                                                        : slot * args.scale_words + word] = value;
            }
        }
    }
}

/* All threads: which experts the row is for, and with which weights, to all ranks it goes to. */
__device__ inline void push_labels(const cuda_slots_dispatch_args_t &args,
                                   const slots_dispatch_shared &shared, int64_t token)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t topk = call.route.topk;
    const bool is_expert_major = call.route.layout != 1;
    for (int32_t i = (int32_t)threadIdx.x; i < call.channel.rank_count * topk;
         i += (int32_t)blockDim.x) {
        const int32_t rank = i / topk;
        const int32_t k = i - rank * topk;
        if (shared.rows[rank] < 0) {
            continue;
        }
        const bool is_there = (int32_t)(shared.homes[k] >> 16) == rank;
        const int64_t slot = slot_of(call, call.channel.rank, shared.rows[rank]);
        slots_at<int32_t>(call, rank, call.slots.idx_offset)[slot * topk + k] =
            is_there ? (int32_t)(shared.homes[k] & 0xFFFFu) : -1;
        slots_at<float>(call, rank, call.slots.weights_offset)[slot * topk + k] =
            is_there ? shared.weights[k] : 0.0f;
        if (is_expert_major) {
            slots_at<int32_t>(call, rank, call.slots.places_offset)[slot * topk + k] =
                shared.places[k];
        }
        if (is_expert_major && k == 0) {
            slots_at<int32_t>(call, rank, call.slots.tokens_offset)[slot] = (int32_t)token;
        }
    }
}

/* All threads: this block's part of a token is complete. One warp waits for all of it to be where
 * it belongs, and then tells every rank, also those that the token does not go to. */
__device__ inline void raise_token(const cuda_slots_dispatch_args_t &args,
                                   slots_dispatch_shared &shared, int64_t token)
{
    const cuda_slots_call_t &call = args.call;
    __syncthreads();
    const int32_t rank = (int32_t)threadIdx.x;
    if (rank < call.channel.rank_count) {
        const uint32_t row = token < args.token_count ? (uint32_t)(shared.rows[rank] + 1) : 0;
        dawdle(call.channel, shared.op.epoch, 16 + (uint32_t)token);
        __threadfence_system();
        store_word(slots_at<uint64_t>(call, rank, call.slots.arrived_offset) +
                       slot_of(call, call.channel.rank, (int32_t)token),
                   tagged(shared.op.epoch, row));
    }
}

/* All threads: sends a token whose rows were placed. */
__device__ __forceinline__ void send_token(const cuda_slots_dispatch_args_t &args,
                                           slots_dispatch_shared &shared, row_pieces &row,
                                           int64_t token, uint32_t *scales)
{
    if (args.call.route.layout != 1) {
        count_places(args, shared, token);
    }
    push_row(args, shared, row, scales);
    push_labels(args, shared, token);
    if (args.scale_words > 0) {
        push_scales(args, shared, row, token, scales);
    }
}

/* All threads of a block that moves rows: its tokens. What the first needs is asked for before all
 * else. */
__device__ inline void send_tokens(const cuda_slots_dispatch_args_t &args,
                                   slots_dispatch_shared &shared, uint32_t *scales)
{
    const cuda_slots_call_t &call = args.call;
    int64_t counted = 0;
    for (int64_t token = turn_of_block(); token < call.route.token_count_max;
         token += turn_count()) {
        if (token < args.token_count) {
            row_pieces row(args, token);
            read_slots(args, shared, token);
            place_token(args, shared, counted, token);
            if (counted == 0) {
                await_credit(call, shared.op, shared.memory.rows_epoch);
            }
            counted = token + 1;
            if (shared.op.is_lost || shared.op.is_refused) {
                return;
            }
            slots_mark(shared.op, CUDA_PHASE_PREPARE);
            send_token(args, shared, row, token, scales);
        } else if (token == turn_of_block()) { /* what it tells of an absent token is a word, too */
            __syncthreads();                   /* begun */
            await_credit(call, shared.op, shared.memory.rows_epoch);
            if (shared.op.is_lost || shared.op.is_refused) {
                return;
            }
        }
        raise_token(args, shared, token);
        slots_mark(shared.op, CUDA_PHASE_MOVE);
    }
    if (threadIdx.x == 0) {
        shared.memory.rows_epoch = shared.op.epoch;
    }
}

/* One thread: the word that says what came of a rank's token, in its lower half. */
__device__ __forceinline__ bool await_token(const cuda_slots_dispatch_args_t &args,
                                            slots_dispatch_shared &shared, int32_t from,
                                            int64_t token, uint32_t *row)
{
    const cuda_slots_call_t &call = args.call;
    const uint64_t *word = slots_at<uint64_t>(call, call.channel.rank, call.slots.arrived_offset) +
                           slot_of(call, from, (int32_t)token);
    uint64_t seen = 0;
    const uint32_t epoch = shared.op.epoch;
    const bool is_there = slots_await(call, shared.op, from, [&] {
        seen = load_word(word);
        return (uint32_t)(seen >> 32) == epoch;
    });
    *row = is_there ? (uint32_t)seen : 0;
    return is_there;
}

/* One thread: the rows for a local expert that ranks before `from` send. -1: it will never be
 * known. */
__device__ inline int64_t rows_before(const cuda_slots_dispatch_args_t &args,
                                      slots_dispatch_shared &shared, int32_t from, int32_t local)
{
    const cuda_slots_call_t &call = args.call;
    const cuda_channel_t &channel = call.channel;
    const int32_t expert =
        call.route.expert_of_local[call.route.expert_start[channel.rank] + local];
    const uint32_t epoch = shared.op.epoch;
    int64_t sum = 0;
    for (int32_t rank = 0; rank < from; rank++) {
        const uint64_t *word =
            count_words(channel, channel.rank, rank, epoch) + channel.rank_count + expert;
        uint64_t seen = 0;
        if (!slots_await(call, shared.op, rank, [&] {
                seen = peek_word(word);
                return (uint32_t)(seen >> 32) == epoch;
            })) {
            return -1;
        }
        sum += (uint32_t)seen;
    }
    return sum;
}

/* expert_major, one thread a slot: where it goes, -1: nowhere. What peers say is not trusted: a row
 * beyond its expert's block is left out, as it is in a call that is going to be refused. */
__device__ inline int32_t find_target(const cuda_slots_dispatch_args_t &args,
                                      slots_dispatch_shared &shared, int32_t from, int32_t k)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t topk = call.route.topk;
    const int64_t slot_count = call.channel.rank_count * call.route.token_count_max;
    if (shared.arrived[from] == 0) {
        return -1;
    }
    const int32_t me = call.channel.rank;
    const int64_t slot = slot_of(call, from, (int32_t)shared.arrived[from] - 1);
    const int64_t index = slot * topk + k;
    const int32_t local = slots_at<int32_t>(call, me, call.slots.idx_offset)[index];
    int64_t row = -1;
    if (local >= 0 && local < call.route.local_expert_count) {
        const int64_t before = rows_before(args, shared, from, local);
        const int64_t place = before + slots_at<int32_t>(call, me, call.slots.places_offset)[index];
        row = before >= 0 && place < slot_count ? local * slot_count + place : -1;
    }
    call.slots.rows[index] = (int32_t)row;
    if (row >= 0 && args.row_weight != nullptr) {
        args.row_weight[row] = slots_at<float>(call, me, call.slots.weights_offset)[index];
    }
    if (row >= 0 && args.row_source != nullptr) {
        args.row_source[3 * row] = from;
        args.row_source[3 * row + 1] = slots_at<int32_t>(call, me, call.slots.tokens_offset)[slot];
        args.row_source[3 * row + 2] = k;
    }
    return (int32_t)row;
}

/* expert_major, all threads: rows that came, and their scales, to their `targets`, [ranks][topk].
 */
__device__ inline void copy_arrived(const cuda_slots_dispatch_args_t &args,
                                    const slots_dispatch_shared &shared, const int32_t *targets)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t topk = call.route.topk;
    const int64_t slot_count = call.channel.rank_count * call.route.token_count_max;
    const int32_t piece_count = (int32_t)((args.row_bytes + piece_bytes - 1) / piece_bytes);
    const bool is_wide =
        (reinterpret_cast<uint64_t>(args.destination) | (uint64_t)args.row_bytes) % piece_bytes ==
        0;
    const char *rows = slots_at<char>(call, call.channel.rank, call.slots.rows_offset);
    const uint32_t *words = slots_at<uint32_t>(call, call.channel.rank, call.slots.scales_offset);
    const int32_t unit_count = piece_count + args.scale_words;
    for (int32_t unit = (int32_t)threadIdx.x; unit < call.channel.rank_count * unit_count;
         unit += (int32_t)blockDim.x) {
        const int32_t from = unit / unit_count;
        const int32_t part = unit - from * unit_count;
        if (shared.arrived[from] == 0) {
            continue;
        }
        const int64_t slot = slot_of(call, from, (int32_t)shared.arrived[from] - 1);
        const int32_t word = part - piece_count;
        const int64_t offset = (int64_t)part * piece_bytes;
        const uint4 piece =
            word < 0 ? load_piece(rows + slot * args.row_bytes, offset, args.row_bytes, is_wide)
                     : make_uint4(words[slot * args.scale_words + word], 0, 0, 0);
        for (int32_t k = 0; k < topk; k++) {
            const int64_t row = targets[from * topk + k];
            if (row < 0) {
                continue;
            }
            if (word < 0) {
                store_piece<4>(args.destination + row * args.row_bytes, offset, args.row_bytes,
                               piece, is_wide);
                continue;
            }
            const int64_t block = row / slot_count;
            reinterpret_cast<uint32_t *>(
                args.scales)[args.has_column_scales
                                 ? (block * args.scale_words + word) * slot_count +
                                       (row - block * slot_count)
                                 : row * args.scale_words + word] = piece.x;
        }
    }
}

/* All threads of a block that moves rows: what comes of the same tokens of every rank. */
__device__ inline void receive_tokens(const cuda_slots_dispatch_args_t &args,
                                      slots_dispatch_shared &shared, int32_t *targets)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank_count = call.channel.rank_count;
    const int32_t topk = call.route.topk;
    const bool is_expert_major = call.route.layout != 1;
    for (int64_t token = turn_of_block(); token < call.route.token_count_max;
         token += turn_count()) {
        if ((int32_t)threadIdx.x < rank_count) {
            await_token(args, shared, (int32_t)threadIdx.x, token, &shared.arrived[threadIdx.x]);
        }
        __syncthreads();
        if (shared.op.is_lost || shared.op.is_refused) {
            return;
        }
        if (!is_expert_major || call.route.local_expert_count == 0) {
            continue;
        }
        for (int32_t i = (int32_t)threadIdx.x; i < rank_count * topk; i += (int32_t)blockDim.x) {
            targets[i] = find_target(args, shared, i / topk, i % topk);
        }
        __syncthreads();
        if (args.destination != nullptr) {
            copy_arrived(args, shared, targets);
        }
        __syncthreads();
    }
}

static_assert(sizeof(slots_dispatch_shared) +
                      sizeof(uint32_t) *
                          (CUDA_RANK_COUNT_MAX + 2 * MOXIE_EXPERT_COUNT_MAX + CUDA_BAD_WORDS) <=
                  48 << 10,
              "what a block may have unasked");

/* Dynamic shared memory: 32 bits for each word of counts and each local expert, each group of
 * columns, and each slot of a token of every rank, whichever is most. */
extern "C" __global__ void __launch_bounds__(CUDA_SLOTS_THREADS, 1)
    moxie_slots_dispatch(const __grid_constant__ cuda_slots_dispatch_args_t args)
{
    extern __shared__ __align__(16) uint32_t scratch[];
    __shared__ slots_dispatch_shared shared;
    await_previous_kernel();
    let_next_kernel_launch();
    slots_begin(args.call, shared, look_first(args.call));
    if (is_clerk()) {
        clerk_dispatch(args, shared, scratch);
        slots_end(args.call, shared);
        return;
    }
    if (sends(args.call)) {
        send_tokens(args, shared, scratch);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        dawdle(args.call.channel, shared.op.epoch, 8);
    }
    if (receives(args.call) && !shared.op.is_lost) {
        receive_tokens(args, shared, reinterpret_cast<int32_t *>(scratch));
    }
    slots_end(args.call, shared);
}

} // namespace moxie

#endif
