/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tagged pieces: 12 bytes of payload and the number of the operation in one store of 16. Whoever
 * sees the number has the payload, so that neither a fence nor a flag comes behind it, and as they
 * lie in two banks, nothing is asked of the peer before it. They cost a third more bytes: for few.
 */
#ifndef MOXIE_EXCHANGE_CUDA_SLOTS_TAGGED_CUH
#define MOXIE_EXCHANGE_CUDA_SLOTS_TAGGED_CUH

#include "exchange/cuda/slots.cuh"

namespace moxie
{

/* Words of payload. */
constexpr int32_t tagged_words = 3;

/* x, y, z: payload; w: the operation. */
using tagged_piece = uint4;

__device__ __forceinline__ int32_t tagged_count(int32_t word_count)
{
    return (word_count + tagged_words - 1) / tagged_words;
}

/* One access of 128 bits, not a vector of four, which might come in parts. */
__device__ __forceinline__ void store_tagged(tagged_piece *to, const tagged_piece &piece)
{
    asm volatile("{\n\t"
                 ".reg .b64 low, high;\n\t"
                 ".reg .b128 whole;\n\t"
                 "mov.b64 low, {%1, %2};\n\t"
                 "mov.b64 high, {%3, %4};\n\t"
                 "mov.b128 whole, {low, high};\n\t"
                 "st.relaxed.sys.global.b128 [%0], whole;\n\t"
                 "}" ::"l"(to),
                 "r"(piece.x), "r"(piece.y), "r"(piece.z), "r"(piece.w)
                 : "memory");
}

__device__ __forceinline__ tagged_piece peek_tagged(const tagged_piece *from)
{
    tagged_piece piece;
    asm volatile("{\n\t"
                 ".reg .b64 low, high;\n\t"
                 ".reg .b128 whole;\n\t"
                 "ld.relaxed.sys.global.b128 whole, [%4];\n\t"
                 "mov.b128 {low, high}, whole;\n\t"
                 "mov.b64 {%0, %1}, low;\n\t"
                 "mov.b64 {%2, %3}, high;\n\t"
                 "}"
                 : "=r"(piece.x), "=r"(piece.y), "=r"(piece.z), "=r"(piece.w)
                 : "l"(from));
    return piece;
}

/* The pieces that rank `from` has for rank `at` in a slot's place of an operation's bank. */
__device__ __forceinline__ tagged_piece *tagged_at(const cuda_slots_call_t &call, uint32_t epoch,
                                                   int32_t at, int32_t from, int32_t number)
{
    const int64_t slot_count = call.channel.rank_count * call.route.token_count_max;
    return slots_at<tagged_piece>(call, at, call.slots.tagged_offset) +
           ((epoch % 2) * slot_count + slot_of(call, from, number)) * call.slots.tagged_pieces;
}

} // namespace moxie

#endif
