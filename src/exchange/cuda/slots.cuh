/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Low latency: what dispatch and combine have in common. The first block of a kernel is the clerk:
 * it gives this rank's offer, meets the peers and comes to the verdict. The others move rows and
 * wait for rows, each for those of the same block of every peer, without waiting for the verdict.
 * The grid is the same on all ranks.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_CUH

#include "exchange/cuda/meeting.cuh"
#include "exchange/cuda/rows.cuh"

namespace moxie
{

/* What every block knows, in shared memory. */
struct slots_block {
    operation op;
    cuda_slots_block_t memory; /* what it remembers of earlier operations */
};

/* Pieces of rows that a thread has on the way at a time. */
constexpr int piece_depth = 4;

constexpr int32_t piece_bytes = 16;

__device__ __forceinline__ bool is_clerk()
{
    return blockIdx.x == 0;
}

/* Blocks that move rows take turns: this one's number among them, and how many they are. */
__device__ __forceinline__ int32_t turn_of_block()
{
    return (int32_t)blockIdx.x - 1;
}

__device__ __forceinline__ int32_t turn_count()
{
    return (int32_t)gridDim.x - 1;
}

__device__ __forceinline__ bool sends(const cuda_slots_call_t &call)
{
    return (call.halves & CUDA_HALF_SEND) != 0 && call.offer.fields[CUDA_OFFER_STATUS] == 0;
}

__device__ __forceinline__ bool receives(const cuda_slots_call_t &call)
{
    return (call.halves & CUDA_HALF_RECEIVE) != 0;
}

template <typename type_t>
__device__ __forceinline__ type_t *slots_at(const cuda_slots_call_t &call, int32_t rank,
                                            uint64_t offset)
{
    return reinterpret_cast<type_t *>(call.channel.parts[rank] + offset);
}

/* Index of a row among the slots: number `row` of those that a rank sends. */
__device__ __forceinline__ int64_t slot_of(const cuda_slots_call_t &call, int32_t from, int32_t row)
{
    return from * call.route.token_count_max + row;
}

/* What the last warp asks for first of all, on its way. */
struct slots_look {
    uint64_t revoked;
    cuda_slots_block_t memory;
};

__device__ __forceinline__ slots_look look_first(const cuda_slots_call_t &call)
{
    slots_look look = {};
    if (threadIdx.x == blockDim.x - 32) {
        look.revoked =
            *const_cast<volatile uint64_t *>(&call.channel.controls[call.channel.rank]->revoked);
        look.memory = call.slots.blocks[blockIdx.x];
    }
    return look;
}

/* Test builds: see dawdle(). A call, so that its code is out of the way. */
__device__ __noinline__ void dawdle_now(const cuda_channel_t &channel, uint32_t epoch,
                                        uint32_t place)
{
    dawdle(channel, epoch, place);
}

__device__ __forceinline__ void slots_dawdle(const cuda_slots_call_t &call, uint32_t epoch,
                                             uint32_t place)
{
    if (call.channel.delay_seed != 0) {
        dawdle_now(call.channel, epoch, place);
    }
}

/* All threads, before a barrier, of the last warp for itself: begins. */
__device__ inline void slots_begin(const cuda_slots_call_t &call, slots_block &block,
                                   const slots_look &look)
{
    if (threadIdx.x == blockDim.x - 32) {
        operation &op = block.op;
        block.memory = look.memory;
        op.epoch = look.memory.epoch + 1;
        op.mark_ns = clock_ns();
        op.deadline_ns = op.mark_ns + call.channel.timeout_ns;
        for (int32_t phase = 0; phase < CUDA_PHASE_COUNT; phase++) {
            op.phase_ns[phase] = 0;
        }
        op.is_refused = 0;
        op.is_lost = look.revoked != 0;
        if (op.is_lost && is_clerk()) {
            store_word(&call.channel.group_report->revoked, look.revoked);
        }
        slots_dawdle(call, op.epoch, call.halves);
    }
}

/* The end of a phase. What counts is the first block that moves rows, and for the meeting the
 * clerk.
 */
__device__ __forceinline__ void slots_mark(operation &op, cuda_phase_t phase)
{
    if (threadIdx.x == 0 && blockIdx.x <= 1) {
        const uint64_t now = clock_ns();
        op.phase_ns[phase] += now - op.mark_ns;
        op.mark_ns = now;
    }
}

/* Nobody waits for what was there. */
__device__ __forceinline__ void add_to_tally(uint64_t &sum, uint64_t value)
{
    atomicAdd(reinterpret_cast<unsigned long long *>(&sum), (unsigned long long)value);
}

/* All threads, last of all. */
__device__ inline void slots_end(const cuda_slots_call_t &call, slots_block &block)
{
    __syncthreads();
    slots_mark(block.op, CUDA_PHASE_FINISH);
    if (threadIdx.x != 0) {
        return;
    }
    if (receives(call)) {
        block.memory.epoch = block.op.epoch;
    }
    call.slots.blocks[blockIdx.x] = block.memory;
    cuda_tally_t &tally = call.channel.counters->tally;
    if (is_clerk()) {
        add_to_tally(tally.op_count, receives(call));
        add_to_tally(tally.phase_ns[CUDA_PHASE_MEET], block.op.phase_ns[CUDA_PHASE_MEET]);
    } else if (blockIdx.x == 1) {
        add_to_tally(tally.phase_ns[CUDA_PHASE_PREPARE], block.op.phase_ns[CUDA_PHASE_PREPARE]);
        add_to_tally(tally.phase_ns[CUDA_PHASE_MOVE], block.op.phase_ns[CUDA_PHASE_MOVE]);
        add_to_tally(tally.phase_ns[CUDA_PHASE_FINISH], block.op.phase_ns[CUDA_PHASE_FINISH]);
    }
}

/* One look has failed: false when it is time to give up, because the clerk has found out that the
 * operation does not take place, or because the group is lost. A peer that is missed has called or
 * has not. */
__device__ __noinline__ bool slots_may_wait(const cuda_slots_call_t &call, operation &op,
                                            int32_t peer, int32_t kind)
{
    if (*const_cast<volatile uint32_t *>(&call.slots.report->refused_epoch) == op.epoch) {
        op.is_refused = 1;
        return false;
    }
    const uint64_t offer =
        peek_word(offer_words(call.channel, call.channel.rank, peer, op.epoch) + CUDA_OFFER_KIND);
    const bool has_called = (uint32_t)(offer >> 32) == op.epoch;
    return may_wait(call.channel, op, peer, kind, has_called ? CUDA_PHASE_FINISH : CUDA_PHASE_MEET);
}

/* One thread: until `is_there()`. False: it will never be. `peer` is whom it waits for, which a
 * look may change. */
template <typename look_t>
__device__ __forceinline__ bool slots_await(const cuda_slots_call_t &call, operation &op,
                                            const int32_t &peer, look_t is_there)
{
    for (int looks = 1; !is_there(); looks++) {
        if (*const_cast<volatile int32_t *>(&op.is_lost) ||
            *const_cast<volatile int32_t *>(&op.is_refused) ||
            (looks % looks_per_check == 0 &&
             !slots_may_wait(call, op, peer, kind_of(call.offer)))) {
            return false;
        }
        __nanosleep(look_pause_ns);
    }
    return true;
}

/*
 * All threads: until what this rank wrote to its peers in operation `epoch`, 0: none, may be
 * overwritten. A rank's offer says that it has read what came before. Those of the last operation
 * the clerk has met, so only for what was written there the present ones are waited for.
 */
__device__ inline void await_credit(const cuda_slots_call_t &call, operation &op, uint32_t epoch)
{
    const int32_t rank = (int32_t)threadIdx.x;
    if (epoch != 0 && epoch == op.epoch - 1 && rank < call.channel.rank_count) {
        const uint64_t *word =
            offer_words(call.channel, call.channel.rank, rank, op.epoch) + CUDA_OFFER_KIND;
        const uint32_t now = op.epoch;
        slots_await(call, op, rank, [=] { return (uint32_t)(load_word(word) >> 32) == now; });
    }
    __syncthreads();
}

/* The last warp of a block is the first to know the epoch. In the clerk it alone speaks with the
 * peers' clerks. */
__device__ __forceinline__ bool is_speaker()
{
    return threadIdx.x >= blockDim.x - 32;
}

/* The clerk's speaker: this rank's offer to every rank. It says that what came before has been
 * read, and needs no fence for that: the kernels that read it have ended. */
__device__ inline void speaker_offer(const cuda_slots_call_t &call, const operation &op)
{
#pragma unroll 1
    for (int32_t i = lane_index(); i < call.channel.rank_count * CUDA_OFFER_FIELD_COUNT; i += 32) {
        const int32_t rank = i / CUDA_OFFER_FIELD_COUNT;
        const int32_t field = i - rank * CUDA_OFFER_FIELD_COUNT;
        store_word(offer_words(call.channel, rank, call.channel.rank, op.epoch) + field,
                   tagged(op.epoch, call.offer.fields[field]));
    }
    for (int32_t i = lane_index();
         call.offer.error != nullptr && i < call.channel.rank_count * CUDA_ERROR_WORDS; i += 32) {
        const int32_t rank = i / CUDA_ERROR_WORDS;
        const int32_t word = i - rank * CUDA_ERROR_WORDS;
        store_word(offer_words(call.channel, rank, call.channel.rank, op.epoch) + CUDA_OFFER_WORDS +
                       word,
                   tagged(op.epoch, call.offer.error[word]));
    }
}

/*
 * One thread: words of this operation from ranks from, from + 1, … below rank_count, a few at a
 * time: `at(rank)` is where that rank's lies. Each says by itself whether it is there: nothing else
 * is read because of it. False: some never come.
 */
template <typename at_t>
__device__ __forceinline__ bool take_words(const cuda_slots_call_t &call, operation &op,
                                           int32_t from, int32_t rank_count, at_t at,
                                           uint32_t (&values)[piece_depth])
{
    int32_t missing = from;
    return slots_await(call, op, missing, [&] {
        uint64_t words[piece_depth];
        bool is_whole = true;
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            words[i] = peek_word(at(min(from + i, rank_count - 1)));
        }
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            values[i] = (uint32_t)words[i];
            if ((uint32_t)(words[i] >> 32) != op.epoch) {
                missing = min(from + i, rank_count - 1);
                is_whole = false;
            }
        }
        return is_whole;
    });
}

/* A lane a rank: whether there is nothing to say about its offer, whatever the routing. */
__device__ __forceinline__ bool is_plain_call(const operation &op, int32_t rank)
{
    const uint32_t *fields = op.fields[rank];
    bool is_plain =
        fields[CUDA_OFFER_STATUS] == 0 && fields[CUDA_OFFER_KIND] == op.fields[0][CUDA_OFFER_KIND];
#pragma unroll
    for (int32_t field = CUDA_OFFER_DTYPE; field <= CUDA_OFFER_SCALE_LAYOUT; field++) {
        is_plain = is_plain && fields[field] == op.fields[0][field];
    }
    return is_plain;
}

/* The clerk's speaker: until all offers are there, and the same verdict on every rank; of a
 * dispatch without what is to be said of routings. */
__device__ inline void speaker_judge(const cuda_slots_call_t &call, operation &op)
{
    const int32_t field = lane_index();
#pragma unroll 1
    for (int32_t from = 0; from < call.channel.rank_count && field < CUDA_OFFER_FIELD_COUNT;
         from += piece_depth) {
        uint32_t values[piece_depth];
        if (!take_words(
                call, op, from, call.channel.rank_count,
                [&](int32_t rank) {
                    return offer_words(call.channel, call.channel.rank, rank, op.epoch) + field;
                },
                values)) {
            break;
        }
#pragma unroll
        for (int i = 0; i < piece_depth; i++) {
            if (from + i < call.channel.rank_count) {
                op.fields[from + i][field] = values[i];
            }
        }
    }
    __syncwarp();
    static_assert(CUDA_OFFER_FIELD_COUNT <= 32, "a lane a field");
    const bool is_plain =
        lane_index() >= call.channel.rank_count || is_plain_call(op, lane_index());
    if (!__all_sync(all_lanes, is_plain) && lane_index() == 0 && !op.is_lost) {
        judge_calls(call.channel, op, kind_of(call.offer), call.route.topk);
    }
    __syncwarp();
}

/* All threads of the clerk: what the other blocks and the host are to know. */
__device__ inline void clerk_report(const cuda_slots_call_t &call, operation &op)
{
    cuda_slots_report_t *report = call.slots.report;
    if (threadIdx.x != 0 || op.is_lost || !op.is_refused) {
        return;
    }
    if (report->verdict.refusal == CUDA_REFUSED_NOT) {
        report_verdict(op.verdict, &report->verdict);
    }
    *const_cast<volatile uint32_t *>(&report->refused_epoch) = op.epoch;
}

/* One thread of the clerk, before anything else is reported. */
__device__ __forceinline__ void clerk_forget(const cuda_slots_call_t &call)
{
    if (call.is_new) {
        call.slots.report->verdict.refusal = CUDA_REFUSED_NOT;
    }
}

/* 16 bytes of a row from an offset on, or what is left of it and zeros. */
__device__ __noinline__ uint4 load_bytes(const char *row, int64_t offset, int64_t row_bytes)
{
    uint32_t words[4] = {};
#pragma unroll
    for (int i = 0; i < piece_bytes; i++) {
        if (offset + i < row_bytes) {
            words[i / 4] |= (uint32_t) * reinterpret_cast<const uint8_t *>(row + offset + i)
                            << 8 * (i % 4);
        }
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

/* The first `count` of them back. */
__device__ __noinline__ void store_bytes(char *row, int64_t offset, int64_t row_bytes, uint4 piece,
                                         int count)
{
    const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int i = 0; i < piece_bytes; i++) {
        if (i < count && offset + i < row_bytes) {
            row[offset + i] = (char)(words[i / 4] >> 8 * (i % 4));
        }
    }
}

template <bool is_wide>
__device__ __forceinline__ uint4 load_piece(const char *row, int64_t offset, int64_t row_bytes)
{
    if constexpr (is_wide) {
        return *reinterpret_cast<const uint4 *>(row + offset);
    } else {
        return load_bytes(row, offset, row_bytes);
    }
}

/* The first `word_count` words of a piece. */
template <int word_count, bool is_wide>
__device__ __forceinline__ void store_piece(char *row, int64_t offset, int64_t row_bytes,
                                            const uint4 &piece)
{
    if constexpr (!is_wide) {
        store_bytes(row, offset, row_bytes, piece, 4 * word_count);
    } else if constexpr (word_count == 4) {
        *reinterpret_cast<uint4 *>(row + offset) = piece;
    } else {
        *reinterpret_cast<uint2 *>(row + offset) = make_uint2(piece.x, piece.y);
    }
}

} // namespace moxie

#endif
