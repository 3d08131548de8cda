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

/* All threads, first of all. */
__device__ inline void slots_begin(const cuda_slots_call_t &call, slots_block &block)
{
    if (threadIdx.x == 0) {
        operation &op = block.op;
        const uint64_t revoked =
            *const_cast<volatile uint64_t *>(&call.channel.controls[call.channel.rank]->revoked);
        block.memory = call.slots.blocks[blockIdx.x];
        op.epoch = block.memory.epoch + 1;
        op.mark_ns = clock_ns();
        op.deadline_ns = op.mark_ns + call.channel.timeout_ns;
        for (int32_t phase = 0; phase < CUDA_PHASE_COUNT; phase++) {
            op.phase_ns[phase] = 0;
        }
        op.is_refused = 0;
        op.is_lost = revoked != 0;
        if (op.is_lost && is_clerk()) {
            store_word(&call.channel.group_report->revoked, revoked);
        }
        dawdle(call.channel, op.epoch, call.halves);
    }
    __syncthreads();
}

/* All threads, last of all. */
__device__ inline void slots_end(const cuda_slots_call_t &call, slots_block &block)
{
    __syncthreads();
    if (threadIdx.x != 0) {
        return;
    }
    if (receives(call)) {
        block.memory.epoch = block.op.epoch;
    }
    call.slots.blocks[blockIdx.x] = block.memory;
    if (!is_clerk()) {
        return;
    }
    operation_mark(block.op, CUDA_PHASE_FINISH);
    cuda_tally_t &tally = call.channel.counters->tally;
    tally.op_count += receives(call);
    for (int32_t phase = 0; phase < CUDA_PHASE_COUNT; phase++) {
        tally.phase_ns[phase] += block.op.phase_ns[phase];
    }
}

/* One look has failed: false when it is time to give up, because the clerk has found out that the
 * operation does not take place, or because the group is lost. */
__device__ __noinline__ bool slots_may_wait(const cuda_slots_call_t &call, operation &op,
                                            int32_t peer, int32_t kind)
{
    if (*const_cast<volatile uint32_t *>(&call.slots.report->refused_epoch) == op.epoch) {
        op.is_refused = 1;
        return false;
    }
    return may_wait(call.channel, op, peer, kind, CUDA_PHASE_FINISH);
}

/* One thread: until `is_there()`. False: it will never be. */
template <typename look_t>
__device__ __forceinline__ bool slots_await(const cuda_slots_call_t &call, operation &op,
                                            int32_t peer, look_t is_there)
{
    for (int looks = 1; !is_there(); looks++) {
        if (op.is_lost || op.is_refused ||
            (looks % looks_per_check == 0 &&
             !slots_may_wait(call, op, peer, kind_of(call.offer)))) {
            return false;
        }
        __nanosleep(look_pause_ns);
    }
    return true;
}

/* All threads of the clerk: tells every rank that this one has begun, and so has read what came to
 * it before. */
__device__ inline void say_begun(const cuda_slots_call_t &call, const operation &op)
{
    const int32_t rank = (int32_t)threadIdx.x;
    if (rank < call.channel.rank_count) {
        __threadfence_system();
        store_flag(slots_at<uint32_t>(call, rank, call.slots.begun_offset) + call.channel.rank,
                   op.epoch);
    }
}

/* All threads: until every peer has begun a later operation than `epoch`, in which this rank wrote
 * last to where it is to write now; 0: never. */
__device__ inline void await_credit(const cuda_slots_call_t &call, operation &op, uint32_t epoch)
{
    const int32_t rank = (int32_t)threadIdx.x;
    if (epoch != 0 && rank < call.channel.rank_count && rank != call.channel.rank) {
        const uint32_t *begun =
            slots_at<uint32_t>(call, call.channel.rank, call.slots.begun_offset) + rank;
        slots_await(call, op, rank, [=] { return (int32_t)(load_flag(begun) - epoch) > 0; });
    }
    __syncthreads();
}

/* All threads of the clerk: until all offers are there, and the same verdict on every rank.
 * `has_dispatched` is what a combine needs. True: the operation takes place. */
__device__ inline bool clerk_judge(const cuda_slots_call_t &call, operation &op,
                                   bool has_dispatched)
{
    operation_meet(call.channel, op, kind_of(call.offer));
    if (threadIdx.x == 0 && !op.is_lost) {
        judge_calls(call.channel, op, kind_of(call.offer), call.route.topk);
        if (!op.is_refused && !has_dispatched) {
            refuse(op, CUDA_REFUSED_NO_DISPATCH, 0, -1, -1);
        }
    }
    __syncthreads();
    return !op.is_lost && !op.is_refused;
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
__device__ __forceinline__ uint4 load_piece(const char *row, int64_t offset, int64_t row_bytes,
                                            bool is_wide)
{
    if (is_wide) {
        return *reinterpret_cast<const uint4 *>(row + offset);
    }
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

/* The first `word_count` words of it back into a row. */
template <int word_count>
__device__ __forceinline__ void store_piece(char *row, int64_t offset, int64_t row_bytes,
                                            const uint4 &piece, bool is_wide)
{
    if (is_wide && word_count == 4) {
        *reinterpret_cast<uint4 *>(row + offset) = piece;
        return;
    }
    if (is_wide && word_count == 2) {
        *reinterpret_cast<uint2 *>(row + offset) = make_uint2(piece.x, piece.y);
        return;
    }
    const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int i = 0; i < 4 * word_count; i++) {
        if (offset + i < row_bytes) {
            row[offset + i] = (char)(words[i / 4] >> 8 * (i % 4));
        }
    }
}

} // namespace moxie

#endif
