/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation on the device: all blocks begin, the ranks meet by exchanging offers, move payload,
 * raise flags, wait for the peers' flags, and leave. Every wait ends: at the deadline, or when the
 * group was revoked.
 */
#ifndef MOXIE_EXCHANGE_CUDA_MEETING_CUH
#define MOXIE_EXCHANGE_CUDA_MEETING_CUH

#include "transport/cuda/protocol.h"

namespace moxie
{

/* Statuses of moxie/status.h that kernels raise themselves. */
constexpr uint32_t status_timeout = 7;

/* Looks at a word between two looks at the clock and at the revoked word. */
constexpr int looks_per_check = 16;

/* Nanoseconds between two looks: pollers without a pause slow the payload down. */
constexpr unsigned look_pause_ns = 40;

/* What a block knows of the operation under way, in shared memory. */
struct operation {
    uint32_t epoch;
    uint64_t deadline_ns;
    uint64_t mark_ns; /* the end of the last phase */
    uint64_t phase_ns[CUDA_PHASE_COUNT];
    int32_t is_lost;    /* the group is revoked: nothing more to do */
    int32_t is_refused; /* the ranks agreed that it does not take place */
    uint32_t fields[CUDA_RANK_COUNT_MAX][CUDA_OFFER_FIELD_COUNT];
    char *destination[CUDA_RANK_COUNT_MAX]; /* each rank's buffer 0 as mapped here */
    cuda_verdict_t verdict;
};

__device__ __forceinline__ uint64_t clock_ns()
{
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

__device__ __forceinline__ uint64_t load_word(const uint64_t *word)
{
    uint64_t value;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
}

/* A word whose number says all there is to know: nothing else is read because of it. */
__device__ __forceinline__ uint64_t peek_word(const uint64_t *word)
{
    uint64_t value;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(word));
    return value;
}

__device__ __forceinline__ uint32_t load_flag(const uint32_t *flag)
{
    uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    return value;
}

__device__ __forceinline__ void store_word(uint64_t *word, uint64_t value)
{
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

__device__ __forceinline__ void store_flag(uint32_t *flag, uint32_t value)
{
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}

/* Test builds: some blocks dawdle here, others don't. */
__device__ __forceinline__ void dawdle(const cuda_channel_t &channel, uint32_t epoch,
                                       uint32_t place)
{
    if (channel.delay_seed == 0) {
        return;
    }
    uint64_t hash = channel.delay_seed + epoch * 0x9E3779B97F4A7C15u + place * 0xBF58476D1CE4E5B9u +
                    blockIdx.x * 0x94D049BB133111EBu + (uint64_t)channel.rank;
    hash = (hash ^ hash >> 31) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
    if (hash % 8 == 0) {
        const uint64_t end = clock_ns() + hash / 8 % 30000;
        while (clock_ns() < end) {
            __nanosleep(200);
        }
    }
}

__device__ inline uint64_t *offer_words(const cuda_channel_t &channel, int32_t at, int32_t from,
                                        uint32_t epoch)
{
    constexpr uint64_t words = CUDA_OFFER_WORDS + CUDA_ERROR_WORDS;
    const uint64_t line = (uint64_t)(epoch % 2) * channel.rank_count + from;
    return reinterpret_cast<uint64_t *>(channel.parts[at] + channel.offer_offset) + line * words;
}

__device__ inline uint64_t *count_words(const cuda_channel_t &channel, int32_t at, int32_t from,
                                        uint32_t epoch)
{
    const uint64_t line = (uint64_t)(epoch % 2) * channel.rank_count + from;
    return reinterpret_cast<uint64_t *>(channel.parts[at] + channel.count_offset) +
           line * channel.count_words;
}

__device__ inline uint32_t *flags_of(const cuda_channel_t &channel, int32_t at, int32_t from,
                                     int32_t phase)
{
    const uint64_t line = (uint64_t)phase * channel.rank_count + from;
    return reinterpret_cast<uint32_t *>(channel.parts[at] + channel.flag_offset) +
           line * CUDA_BLOCK_COUNT_MAX;
}

__device__ __forceinline__ uint64_t tagged(uint32_t epoch, uint32_t value)
{
    return (uint64_t)epoch << 32 | value;
}

/* Tells the host and every peer that this group is lost, and why. The first reason is kept. */
__device__ __noinline__ void revoke(const cuda_channel_t &channel, uint64_t reason)
{
    uint64_t *own = &channel.controls[channel.rank]->revoked;
    const unsigned long long before =
        atomicCAS(reinterpret_cast<unsigned long long *>(own), 0ull, reason);
    if (before != 0) {
        reason = before;
    }
    store_word(&channel.group_report->revoked, reason);
    for (int32_t rank = 0; rank < channel.rank_count; rank++) {
        if (rank != channel.rank && before == 0) {
            store_word(&channel.controls[rank]->revoked, reason);
        }
    }
}

/* One look has failed: false when it is time to give up. `kind` and `phase` are for the reason. */
__device__ __noinline__ bool may_wait(const cuda_channel_t &channel, operation &op, int32_t peer,
                                      int32_t kind, int32_t phase)
{
    const uint64_t revoked = load_word(&channel.controls[channel.rank]->revoked);
    if (revoked != 0) {
        store_word(&channel.group_report->revoked, revoked);
    } else if (clock_ns() > op.deadline_ns) {
        revoke(channel, CUDA_REVOKED(status_timeout, kind, phase, peer, channel.rank));
    } else {
        return true;
    }
    op.is_lost = 1;
    return false;
}

/* Waits for a word of this operation. False: the group is lost. */
__device__ inline bool await_word(const cuda_channel_t &channel, operation &op, int32_t peer,
                                  int32_t kind, const uint64_t *word, uint32_t *value)
{
    uint64_t seen = load_word(word);
    for (int looks = 1; (uint32_t)(seen >> 32) != op.epoch; looks++) {
        if (looks % looks_per_check == 0 && !may_wait(channel, op, peer, kind, CUDA_PHASE_MEET)) {
            return false;
        }
        __nanosleep(look_pause_ns);
        seen = load_word(word);
    }
    *value = (uint32_t)seen;
    return true;
}

/* The kind of the operation, from this rank's own offer. */
__device__ __forceinline__ int32_t kind_of(const cuda_offer_t &offer)
{
    return (int32_t)offer.fields[CUDA_OFFER_KIND];
}

/*
 * Overlapping launches, from Hopper on: a kernel lets the next one of its stream be launched before
 * it has ended, and that one waits for its end, with all that it wrote, before it reads anything
 * that ever changes.
 */
__device__ __forceinline__ void let_next_kernel_launch()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ __forceinline__ void await_previous_kernel()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* What an operation begins with. */
struct beginning {
    uint64_t revoked;
    uint32_t epoch; /* of the operation before */
};

/* The first thread asks for it, and may do other things until it has come. */
__device__ __forceinline__ beginning operation_look(const cuda_channel_t &channel)
{
    if (threadIdx.x != 0) {
        return {};
    }
    return {*const_cast<volatile uint64_t *>(&channel.controls[channel.rank]->revoked),
            *const_cast<volatile uint32_t *>(&channel.counters->epoch)};
}

/* All threads of all blocks. */
__device__ __forceinline__ void operation_begin(const cuda_channel_t &channel, operation &op,
                                                const beginning &found)
{
    if (threadIdx.x == 0) {
        op.mark_ns = clock_ns();
        op.epoch = found.epoch + 1;
        op.deadline_ns = op.mark_ns + channel.timeout_ns;
        for (int32_t phase = 0; phase < CUDA_PHASE_COUNT; phase++) {
            op.phase_ns[phase] = 0;
        }
        op.is_refused = 0;
        op.is_lost = found.revoked != 0;
        if (op.is_lost && blockIdx.x == 0) {
            store_word(&channel.group_report->revoked, found.revoked);
        }
        dawdle(channel, op.epoch, 0);
    }
    __syncthreads();
}

/* The same, where there is nothing else to do first. */
__device__ inline void operation_begin(const cuda_channel_t &channel, operation &op)
{
    operation_begin(channel, op, operation_look(channel));
}

/* The end of a phase; the first block's clock is the one that counts. */
__device__ __forceinline__ void operation_mark(operation &op, cuda_phase_t phase)
{
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        const uint64_t now = clock_ns();
        op.phase_ns[phase] += now - op.mark_ns;
        op.mark_ns = now;
    }
}

/* Some threads of one block, this one being number `thread` of them: the words of this rank's
 * offer. Each of them has made a fence of system scope before. */
__device__ __forceinline__ void store_offer(const cuda_channel_t &channel, const operation &op,
                                            const cuda_offer_t &offer, const uint32_t *extra_fields,
                                            int32_t thread, int32_t thread_count)
{
    const int32_t field_count = CUDA_OFFER_FIELD_COUNT;
    for (int32_t i = thread; i < channel.rank_count * field_count; i += thread_count) {
        const int32_t field = i % field_count;
        const uint32_t value = field == CUDA_OFFER_BLOCKS ? gridDim.x
                               : extra_fields != nullptr && field >= CUDA_OFFER_BAD_SLOT_LOW
                                   ? extra_fields[field - CUDA_OFFER_BAD_SLOT_LOW]
                                   : offer.fields[field];
        store_word(offer_words(channel, i / field_count, channel.rank, op.epoch) + field,
                   tagged(op.epoch, value));
    }
    if (offer.error == nullptr) {
        return;
    }
    for (int32_t i = thread; i < channel.rank_count * CUDA_ERROR_WORDS; i += thread_count) {
        const int32_t word = i % CUDA_ERROR_WORDS;
        store_word(offer_words(channel, i / CUDA_ERROR_WORDS, channel.rank, op.epoch) +
                       CUDA_OFFER_WORDS + word,
                   tagged(op.epoch, offer.error[word]));
    }
}

/*
 * All threads of one block: gives this rank's offer to every rank. The fence makes what earlier
 * kernels of this rank wrote into the peers' memory visible to whoever sees the offer.
 */
__device__ inline void operation_offer(const cuda_channel_t &channel, operation &op,
                                       const cuda_offer_t &offer, const uint32_t *extra_fields)
{
    if (op.is_lost) {
        return;
    }
    operation_mark(op, CUDA_PHASE_PREPARE);
    if (threadIdx.x < channel.rank_count * CUDA_OFFER_FIELD_COUNT) {
        __threadfence_system();
    }
    store_offer(channel, op, offer, extra_fields, (int32_t)threadIdx.x, (int32_t)blockDim.x);
}

/* All threads: waits for every rank's offer. Afterwards op.fields has them. */
__device__ inline void operation_meet(const cuda_channel_t &channel, operation &op, int32_t kind)
{
    const int32_t field_count = CUDA_OFFER_FIELD_COUNT;
    for (int32_t i = threadIdx.x; i < channel.rank_count * field_count && !op.is_lost;
         i += blockDim.x) {
        const int32_t rank = i / field_count;
        const int32_t field = i % field_count;
        await_word(channel, op, rank, kind,
                   offer_words(channel, channel.rank, rank, op.epoch) + field,
                   &op.fields[rank][field]);
    }
    __syncthreads();
    operation_mark(op, CUDA_PHASE_MEET);
}

__device__ __forceinline__ uint64_t wide_field(const operation &op, int32_t rank, int32_t low)
{
    return (uint64_t)op.fields[rank][low + 1] << 32 | op.fields[rank][low];
}

/* One thread: refuses the operation. */
__device__ inline void refuse(operation &op, int32_t refusal, int32_t peer, int64_t expected,
                              int64_t observed)
{
    op.is_refused = 1;
    op.verdict.refusal = refusal;
    op.verdict.peer = peer;
    op.verdict.slot = -1;
    op.verdict.token = -1;
    op.verdict.expected = expected;
    op.verdict.observed = observed;
}

/* One thread: whether all ranks call the same. */
__device__ inline bool judge_kinds(const cuda_channel_t &channel, operation &op, int32_t kind)
{
    op.verdict.kind = kind;
    for (int32_t rank = 1; rank < channel.rank_count; rank++) {
        if (op.fields[rank][CUDA_OFFER_KIND] != op.fields[0][CUDA_OFFER_KIND]) {
            refuse(op, CUDA_REFUSED_KIND, rank, op.fields[0][CUDA_OFFER_KIND],
                   op.fields[rank][CUDA_OFFER_KIND]);
            return false;
        }
    }
    return true;
}

/* One thread: refuses for what a rank found wrong with its own arguments. */
__device__ inline void refuse_call(const cuda_channel_t &channel, operation &op, int32_t rank)
{
    refuse(op, CUDA_REFUSED_CALL, rank, -1, -1);
    const uint64_t *words = offer_words(channel, channel.rank, rank, op.epoch) + CUDA_OFFER_WORDS;
    for (int32_t i = 0; i < CUDA_ERROR_WORDS && !op.is_lost; i++) {
        await_word(channel, op, rank, op.verdict.kind, words + i, &op.verdict.error[i]);
    }
}

/* One thread: refuses for a slot of a rank's routing. */
__device__ inline void refuse_routing(operation &op, int32_t rank, int32_t topk)
{
    const uint64_t bad = wide_field(op, rank, CUDA_OFFER_BAD_SLOT_LOW);
    refuse(op, CUDA_REFUSED_ROUTING, rank, -1,
           (int64_t)wide_field(op, rank, CUDA_OFFER_BAD_ID_LOW));
    op.verdict.token = (int64_t)(bad / (uint64_t)topk);
    op.verdict.slot = (int32_t)(bad % (uint64_t)topk);
}

/* One thread: what every operation is checked for, by rank, so that all come to the same verdict.
 */
__device__ __noinline__ void judge_calls(const cuda_channel_t &channel, operation &op, int32_t kind,
                                         int32_t topk)
{
    if (!judge_kinds(channel, op, kind)) {
        return;
    }
    for (int32_t rank = 0; rank < channel.rank_count; rank++) {
        if (op.fields[rank][CUDA_OFFER_STATUS] != 0) {
            refuse_call(channel, op, rank);
            return;
        }
        if ((kind == CUDA_OP_UPDATE || kind == CUDA_OP_SLOTS_DISPATCH) &&
            wide_field(op, rank, CUDA_OFFER_BAD_SLOT_LOW) != ~0ull) {
            refuse_routing(op, rank, topk);
            return;
        }
    }
    for (int32_t field = CUDA_OFFER_DTYPE; field <= CUDA_OFFER_SCALE_LAYOUT; field++) {
        for (int32_t rank = 1; rank < channel.rank_count; rank++) {
            if (op.fields[rank][field] != op.fields[0][field]) {
                refuse(op, CUDA_REFUSED_DTYPE + field - CUDA_OFFER_DTYPE, rank, op.fields[0][field],
                       op.fields[rank][field]);
                return;
            }
        }
    }
}

/* One thread writes the verdict where the host finds it. */
__device__ __noinline__ void report_verdict(const cuda_verdict_t &verdict, cuda_verdict_t *out)
{
    const uint32_t *from = reinterpret_cast<const uint32_t *>(&verdict);
    volatile uint32_t *to = reinterpret_cast<volatile uint32_t *>(out);
    for (uint32_t i = 0; i < sizeof(verdict) / 4; i++) {
        to[i] = from[i];
    }
}

/* One thread, for those that it has met: waits for all that they wrote to be where it belongs, and
 * then raises this block's flag at every rank. */
__device__ __forceinline__ void raise_flag(const cuda_channel_t &channel, const operation &op,
                                           int32_t phase)
{
    dawdle(channel, op.epoch, 1 + (uint32_t)phase);
    __threadfence_system();
    for (int32_t i = 0; i < channel.rank_count; i++) {
        const int32_t rank = (channel.rank + i) % channel.rank_count;
        store_flag(flags_of(channel, rank, channel.rank, phase) + blockIdx.x, op.epoch);
    }
}

/* All threads: the payload that this block wrote is complete. */
__device__ inline void operation_raise(const cuda_channel_t &channel, operation &op, int32_t phase)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        raise_flag(channel, op, phase);
    }
    operation_mark(op, CUDA_PHASE_MOVE);
}

/* A rank's flags are looked at by so many warps, each lane at one. */
constexpr int32_t flag_parts = CUDA_BLOCK_COUNT_MAX / 32;

/* All warps of a block from `first_warp` on, which are to meet then: waits for the flags of all
 * blocks of all ranks. */
__device__ __forceinline__ void await_flags(const cuda_channel_t &channel, operation &op,
                                            int32_t kind, int32_t phase, int32_t first_warp)
{
    const int32_t warp_count = (int32_t)blockDim.x / 32 - first_warp;
    for (int32_t part = (int32_t)threadIdx.x / 32 - first_warp;
         part < flag_parts * channel.rank_count; part += warp_count) {
        const int32_t rank = part / flag_parts;
        const uint32_t block = (uint32_t)(part % flag_parts) * 32 + threadIdx.x % 32;
        if (block >= op.fields[rank][CUDA_OFFER_BLOCKS]) {
            continue;
        }
        const uint32_t *flag = flags_of(channel, channel.rank, rank, phase) + block;
        for (int looks = 1; load_flag(flag) != op.epoch; looks++) {
            if (op.is_lost || (looks % looks_per_check == 0 &&
                               !may_wait(channel, op, rank, kind, CUDA_PHASE_FINISH))) {
                break;
            }
            __nanosleep(look_pause_ns);
        }
    }
}

/* All threads: waits for the flags of all blocks of all ranks. False: the group is lost. */
__device__ inline bool operation_await(const cuda_channel_t &channel, operation &op, int32_t kind,
                                       int32_t phase)
{
    await_flags(channel, op, kind, phase, 0);
    __syncthreads();
    return !op.is_lost;
}

/* All threads of all blocks, last of all: the last block makes the channel ready for the next. */
__device__ inline void operation_leave(const cuda_channel_t &channel, operation &op)
{
    __syncthreads();
    operation_mark(op, CUDA_PHASE_FINISH);
    if (threadIdx.x != 0) {
        return;
    }
    cuda_counters_t *counters = channel.counters;
    __threadfence();
    if (atomicAdd(&counters->leaving, 1u) + 1 == gridDim.x) {
        counters->leaving = 0;
        counters->arrived = 0;
        counters->told = 0;
        for (int i = 0; i < 4; i++) {
            counters->pool[i] = 0;
        }
        counters->bad_slot = ~0ull;
        counters->epoch = op.epoch;
        atomicAdd(reinterpret_cast<unsigned long long *>(&counters->tally.op_count), 1ull);
    }
    for (int32_t phase = 0; phase < CUDA_PHASE_COUNT && blockIdx.x == 0; phase++) {
        atomicAdd(reinterpret_cast<unsigned long long *>(&counters->tally.phase_ns[phase]),
                  (unsigned long long)op.phase_ns[phase]); /* no answer to wait for */
    }
}

/* All threads of all blocks: no block passes before all have come. The blocks are resident together
 * (docs/protocol.md), so it is as bounded as the work before it. False: the group is lost. */
__device__ inline bool grid_barrier(const cuda_channel_t &channel, operation &op, int32_t kind)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(&channel.counters->arrived, 1u);
        const volatile uint32_t *arrived = &channel.counters->arrived;
        for (int looks = 1; *arrived < gridDim.x; looks++) {
            if (looks % looks_per_check == 0 &&
                !may_wait(channel, op, channel.rank, kind, CUDA_PHASE_MEET)) {
                break;
            }
        }
        __threadfence();
    }
    __syncthreads();
    return !op.is_lost;
}

/* All lanes of a warp: the next unit of work of a phase. */
__device__ __forceinline__ int64_t take_work(const cuda_channel_t &channel, int32_t phase)
{
    unsigned long long unit = 0;
    if (threadIdx.x % 32 == 0) {
        unit =
            atomicAdd(reinterpret_cast<unsigned long long *>(&channel.counters->pool[phase]), 1ull);
    }
    return (int64_t)__shfl_sync(0xFFFFFFFFu, unit, 0);
}

} // namespace moxie

#endif
