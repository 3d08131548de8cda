/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch in low latency: a block sends a token's row to its slot at every rank that it goes to,
 * where no other rank writes, and tells so. In expert_major it then copies the rows that came from
 * the peers' same tokens to their experts.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_DISPATCH_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_DISPATCH_CUH

#include "exchange/cuda/slots_token.cuh"

namespace moxie
{

/* Pieces to all ranks that the token goes to; `word_count` of 4 words of each are left. Each block
 * begins with another rank, so that they do not all write to the same. */
template <int word_count, bool is_wide>
__device__ __forceinline__ void push_pieces(const cuda_slots_dispatch_args_t &args,
                                            const slots_dispatch_shared &shared,
                                            const row_pieces &row, int32_t first)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t rank_count = call.channel.rank_count;
    int32_t rank = (call.channel.rank + (int32_t)blockIdx.x) % rank_count;
#pragma unroll 1
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
                store_piece<word_count, is_wide>(to, offset, args.row_bytes, row.pieces[j]);
            }
        }
    }
}

/* All threads: a row that is quantised on the way. */
__device__ __noinline__ void push_quantised(const cuda_slots_dispatch_args_t &args,
                                            const slots_dispatch_shared &shared, int64_t token,
                                            uint32_t *scales)
{
    const bool is_wide = args.row_bytes % 8 == 0;
    convert_row(args, token, scales, [&](const row_pieces &row, int32_t first) {
        if (is_wide) {
            push_pieces<2, true>(args, shared, row, first);
        } else {
            push_pieces<2, false>(args, shared, row, first);
        }
    });
}

/* All threads: a row byte by byte. */
__device__ __noinline__ void push_bytes(const cuda_slots_dispatch_args_t &args,
                                        const slots_dispatch_shared &shared, int64_t token)
{
    convert_row(args, token, nullptr, [&](const row_pieces &row, int32_t first) {
        push_pieces<4, false>(args, shared, row, first);
    });
}

/* All threads: the row itself. */
__device__ __forceinline__ void push_row(const cuda_slots_dispatch_args_t &args,
                                         const slots_dispatch_shared &shared, row_pieces &row,
                                         int64_t token, uint32_t *scales)
{
    if (is_direct(args)) {
        walk_row(args, row, [&](int32_t first) { push_pieces<4, true>(args, shared, row, first); });
    } else if (args.is_quantised) {
        push_quantised(args, shared, token, scales);
    } else {
        push_bytes(args, shared, token);
    }
}

/* All threads: the row's scales, to all ranks it goes to. */
__device__ inline void push_scales(const cuda_slots_dispatch_args_t &args,
                                   const slots_dispatch_shared &shared, const row_pieces &row,
                                   int64_t token, const uint32_t *scales)
{
    const cuda_slots_call_t &call = args.call;
    if (args.is_quantised) {
        __syncthreads();
    }
#pragma unroll 1
    for (int32_t word = (int32_t)threadIdx.x; word < args.scale_words;
         word += (int32_t)blockDim.x) {
        const uint32_t value = scale_word(args, row, token, word, scales);
#pragma unroll 1
        for (int32_t rank = 0; rank < call.channel.rank_count; rank++) {
            if (shared.rows[rank] >= 0) {
                const int64_t slot = slot_of(call, call.channel.rank, shared.rows[rank]);
                slots_at<uint32_t>(call, rank,
                                   call.slots.scales_offset)[scale_index(args, slot, word)] = value;
            }
        }
    }
}

/* All threads: which experts the row is for, and with which weights, to all ranks it goes to. */
template <bool is_expert_major>
__device__ inline void push_labels(const cuda_slots_dispatch_args_t &args,
                                   const slots_dispatch_shared &shared, int64_t token)
{
    const cuda_slots_call_t &call = args.call;
    const int32_t topk = call.route.topk;
#pragma unroll 1
    for (int32_t rank = (int32_t)threadIdx.x / 32; rank < call.channel.rank_count;
         rank += (int32_t)blockDim.x / 32) {
        if (shared.rows[rank] < 0) {
            continue;
        }
        const int64_t slot = slot_of(call, call.channel.rank, shared.rows[rank]);
#pragma unroll 1
        for (int32_t k = lane_index(); k < topk; k += 32) {
            const bool is_there = (int32_t)(shared.homes[k] >> 16) == rank;
            slots_at<int32_t>(call, rank, call.slots.idx_offset)[slot * topk + k] =
                is_there ? (int32_t)(shared.homes[k] & 0xFFFFu) : -1;
            slots_at<float>(call, rank, call.slots.weights_offset)[slot * topk + k] =
                is_there ? shared.weights[k] : 0.0f;
            if (is_expert_major) {
                slots_at<int32_t>(call, rank, call.slots.places_offset)[slot * topk + k] =
                    shared.places[k];
            }
        }
        if (is_expert_major && lane_index() == 0) {
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
        slots_dawdle(call, shared.op.epoch, 16 + (uint32_t)token);
        __threadfence_system();
        store_word(slots_at<uint64_t>(call, rank, call.slots.arrived_offset) +
                       slot_of(call, call.channel.rank, (int32_t)token),
                   tagged(shared.op.epoch, row));
    }
}

/* All threads: sends a token whose rows were placed. */
template <bool is_expert_major>
__device__ __forceinline__ void send_token(const cuda_slots_dispatch_args_t &args,
                                           slots_dispatch_shared &shared, row_pieces &row,
                                           int64_t token)
{
    uint32_t *scales = slots_scratch(args);
    if constexpr (is_expert_major) {
        count_places(args, shared, token);
    }
    push_row(args, shared, row, token, scales);
    push_labels<is_expert_major>(args, shared, token);
    if (args.scale_words > 0) {
        push_scales(args, shared, row, token, scales);
    }
    raise_token(args, shared, token);
}

/* All threads of a block that moves rows: its tokens. What the first needs is asked for before all
 * else. */
template <bool is_expert_major>
__device__ inline void send_tokens(const cuda_slots_dispatch_args_t &args,
                                   slots_dispatch_shared &shared)
{
    const cuda_slots_call_t &call = args.call;
    int64_t counted = 0;
    for (int64_t token = turn_of_block(); token < call.route.token_count_max;
         token += turn_count()) {
        const bool is_first = token == turn_of_block();
        const bool is_there = token < args.token_count;
        row_pieces row = is_there ? ask_for_row(args, token) : row_pieces{};
        if (is_there) {
            place_token(args, shared, counted, token);
            counted = token + 1;
        }
        if (is_first) {      /* what it tells of an absent token is a word, too */
            __syncthreads(); /* begun */
            await_credit(call, shared.op, shared.memory.rows_epoch);
            if (shared.op.is_lost || shared.op.is_refused) {
                return;
            }
            slots_mark(shared.op, CUDA_PHASE_PREPARE);
        }
        if (is_there) {
            send_token<is_expert_major>(args, shared, row, token);
        } else {
            raise_token(args, shared, token);
        }
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
            word < 0
                ? (is_wide
                       ? load_piece<true>(rows + slot * args.row_bytes, offset, args.row_bytes)
                       : load_piece<false>(rows + slot * args.row_bytes, offset, args.row_bytes))
                : make_uint4(words[slot * args.scale_words + word], 0, 0, 0);
        for (int32_t k = 0; k < topk; k++) {
            const int64_t row = targets[from * topk + k];
            if (row < 0) {
                continue;
            }
            if (word < 0) {
                is_wide ? store_piece<4, true>(args.destination + row * args.row_bytes, offset,
                                               args.row_bytes, piece)
                        : store_piece<4, false>(args.destination + row * args.row_bytes, offset,
                                                args.row_bytes, piece);
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

/* expert_major, all threads: what came of the same token of every rank goes to its experts. */
__device__ __forceinline__ void spread_token(const cuda_slots_dispatch_args_t &args,
                                             slots_dispatch_shared &shared)
{
    const int32_t topk = args.call.route.topk;
    int32_t *targets = reinterpret_cast<int32_t *>(slots_scratch(args));
    for (int32_t i = (int32_t)threadIdx.x; i < args.call.channel.rank_count * topk;
         i += (int32_t)blockDim.x) {
        targets[i] = find_target(args, shared, i / topk, i % topk);
    }
    __syncthreads();
    if (args.destination != nullptr) {
        copy_arrived(args, shared, targets);
    }
    __syncthreads();
}

/* All threads of a block that moves rows: what comes of the same tokens of every rank. */
template <bool is_expert_major>
__device__ inline void receive_tokens(const cuda_slots_dispatch_args_t &args,
                                      slots_dispatch_shared &shared)
{
    const cuda_slots_call_t &call = args.call;
    for (int64_t token = turn_of_block(); token < call.route.token_count_max;
         token += turn_count()) {
        if ((int32_t)threadIdx.x < call.channel.rank_count) {
            await_token(args, shared, (int32_t)threadIdx.x, token, &shared.arrived[threadIdx.x]);
        }
        __syncthreads();
        if (shared.op.is_lost || shared.op.is_refused) {
            return;
        }
        if (is_expert_major && call.route.local_expert_count > 0) {
            spread_token(args, shared);
        }
    }
}

template <bool is_expert_major>
__device__ __forceinline__ void slots_dispatch(const cuda_slots_dispatch_args_t &args)
{
    __shared__ slots_dispatch_shared shared;
    prepare_block(args, shared);
    await_previous_kernel();
    let_next_kernel_launch();
    slots_begin(args.call, shared, look_first(args.call));
    if (is_clerk()) {
        clerk_dispatch(args, shared, slots_scratch(args));
        slots_end(args.call, shared);
        return;
    }
    if (sends(args.call)) {
        send_tokens<is_expert_major>(args, shared);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        slots_dawdle(args.call, shared.op.epoch, 8);
    }
    if (receives(args.call) && !shared.op.is_lost) {
        receive_tokens<is_expert_major>(args, shared);
    }
    slots_end(args.call, shared);
}

static_assert(sizeof(slots_dispatch_shared) <= CUDA_SLOTS_STATIC_BYTES,
              "what is left for dynamic shared memory");

/* Dynamic shared memory: the place table, and behind it 32 bits for each word of counts and each
 * local expert, each group of columns, and each slot of a token of every rank, whichever is most.
 */
extern "C" __global__ void __launch_bounds__(CUDA_SLOTS_THREADS, 1)
    moxie_slots_dispatch(const __grid_constant__ cuda_slots_dispatch_args_t args)
{
    slots_dispatch<false>(args);
}

extern "C" __global__ void __launch_bounds__(CUDA_SLOTS_THREADS, 1)
    moxie_slots_dispatch_expert_major(const __grid_constant__ cuda_slots_dispatch_args_t args)
{
    slots_dispatch<true>(args);
}

} // namespace moxie

#endif
