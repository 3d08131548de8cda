/* SPDX-License-Identifier: Apache-2.0 */
/* What the NCCL baseline does beside its transfers: a stable sort of slots by expert, row copies
 * along an index, the place of every received row, and the weighted sum at home. */
#include "baseline/nccl/launch.h"

#include <cuda_bf16.h>

namespace
{

constexpr int warp_threads = 32;
constexpr int warp_count_max = 32;
constexpr int load_count = 4; /* rows that a thread has under way at once */

__device__ int warp_sum(int value)
{
    for (int step = warp_threads / 2; step > 0; step /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, step);
    }
    return value;
}

/* The sum over a block, in every thread of it. */
__device__ int block_sum(int value)
{
    __shared__ int sums[warp_count_max];
    const int lane = threadIdx.x % warp_threads;
    const int warp = threadIdx.x / warp_threads;
    const int warp_count = blockDim.x / warp_threads;
    value = warp_sum(value);
    __syncthreads(); /* an earlier sum has been read */
    if (lane == 0) {
        sums[warp] = value;
    }
    __syncthreads();
    return warp_sum(lane < warp_count ? sums[lane] : 0);
}

/* How many threads before this one in the block have a flag; `total`: how many in all. */
__device__ int block_rank(bool flag, int *total)
{
    __shared__ int counts[warp_count_max];
    const int lane = threadIdx.x % warp_threads;
    const int warp = threadIdx.x / warp_threads;
    const int warp_count = blockDim.x / warp_threads;
    const unsigned votes = __ballot_sync(0xffffffffu, flag);
    __syncthreads(); /* earlier counts have been read */
    if (lane == 0) {
        counts[warp] = __popc(votes);
    }
    __syncthreads();
    const int count = lane < warp_count ? counts[lane] : 0;
    *total = warp_sum(count);
    return warp_sum(lane < warp ? count : 0) + __popc(votes & ((1u << lane) - 1u));
}

__device__ void copy_row(const char *from, char *to, long long bytes, int is_wide)
{
    if (is_wide) {
        const uint4 *source = reinterpret_cast<const uint4 *>(from);
        uint4 *target = reinterpret_cast<uint4 *>(to);
        const int count = static_cast<int>(bytes / static_cast<long long>(sizeof(uint4)));
#pragma unroll 4
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            target[i] = source[i];
        }
    } else {
        const unsigned short *source = reinterpret_cast<const unsigned short *>(from);
        unsigned short *target = reinterpret_cast<unsigned short *>(to);
        for (long long i = threadIdx.x; i < bytes / 2; i += blockDim.x) {
            target[i] = source[i];
        }
    }
}

/* Slots of a token in the order of their experts' ranks, ascending slot within a rank. */
struct home_order {
    int count;
    int slot[NCCL_TOPK_MAX];
    int rank[NCCL_TOPK_MAX];
    long long row[NCCL_TOPK_MAX];
    float weight[NCCL_TOPK_MAX];
};

__device__ void sort_slots(const nccl_sum_t &work, long long token, home_order *order)
{
    int count = 0;
    for (int slot = 0; slot < work.topk; slot++) {
        const long long index = token * work.topk + slot;
        const int expert = work.topk_idx[index];
        if (expert < 0) {
            continue;
        }
        const int rank = work.rank_of_expert[expert];
        int at = count++;
        for (; at > 0 && order->rank[at - 1] > rank; at--) {
            order->rank[at] = order->rank[at - 1];
            order->slot[at] = order->slot[at - 1];
        }
        order->rank[at] = rank;
        order->slot[at] = slot;
    }
    for (int at = 0; at < count; at++) {
        const long long index = token * work.topk + order->slot[at];
        order->row[at] = work.position_of_slot[index];
        order->weight[at] = work.topk_weights[index];
    }
    order->count = count;
}

/* One column: partials of each rank rounded once, then their sum. */
struct column_sum {
    float partial = 0.0f;
    float total = 0.0f;

    __device__ void end_rank()
    {
        total += __bfloat162float(__float2bfloat16_rn(partial));
        partial = 0.0f;
    }
};

__device__ float element(const uint4 &eight, int i)
{
    const unsigned words[4] = {eight.x, eight.y, eight.z, eight.w};
    return __uint_as_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u);
}

__device__ unsigned pack(float low, float high)
{
    const unsigned l = __bfloat16_as_ushort(__float2bfloat16_rn(low));
    const unsigned h = __bfloat16_as_ushort(__float2bfloat16_rn(high));
    return l | h << 16;
}

__device__ void add_eight(const home_order &order, int i, const uint4 &eight, column_sum *sums)
{
    const bool is_last = i + 1 == order.count || order.rank[i + 1] != order.rank[i];
#pragma unroll
    for (int column = 0; column < 8; column++) {
        sums[column].partial =
            __fmaf_rn(order.weight[i], element(eight, column), sums[column].partial);
        if (is_last) {
            sums[column].end_rank();
        }
    }
}

/* Eight columns from `at` on, in units of 16 bytes. */
__device__ void sum_eight(const nccl_sum_t &work, const home_order &order, long long token,
                          long long at, long long units)
{
    const uint4 *rows = static_cast<const uint4 *>(work.rows);
    column_sum sums[8];
    for (int first = 0; first < order.count; first += load_count) {
        uint4 loaded[load_count];
#pragma unroll
        for (int i = 0; i < load_count; i++) {
            if (first + i < order.count) {
                loaded[i] = rows[order.row[first + i] * units + at];
            }
        }
#pragma unroll
        for (int i = 0; i < load_count; i++) {
            if (first + i < order.count) {
                add_eight(order, first + i, loaded[i], sums);
            }
        }
    }
    uint4 out;
    out.x = pack(sums[0].total, sums[1].total);
    out.y = pack(sums[2].total, sums[3].total);
    out.z = pack(sums[4].total, sums[5].total);
    out.w = pack(sums[6].total, sums[7].total);
    static_cast<uint4 *>(work.out)[token * units + at] = out;
}

__device__ void sum_one(const nccl_sum_t &work, const home_order &order, long long token,
                        long long column)
{
    const __nv_bfloat16 *rows = static_cast<const __nv_bfloat16 *>(work.rows);
    column_sum sum;
    for (int i = 0; i < order.count; i++) {
        const float y = __bfloat162float(rows[order.row[i] * work.hidden + column]);
        sum.partial = __fmaf_rn(order.weight[i], y, sum.partial);
        if (i + 1 == order.count || order.rank[i + 1] != order.rank[i]) {
            sum.end_rank();
        }
    }
    static_cast<__nv_bfloat16 *>(work.out)[token * work.hidden + column] =
        __float2bfloat16_rn(sum.total);
}

} // namespace

/* A block an expert: counts the slots before its own, then gives its own their places in order. */
extern "C" __global__ void nccl_sort(nccl_sort_t work)
{
    const int expert = blockIdx.x;
    int before = 0;
    int own = 0;
    for (long long slot = threadIdx.x; slot < work.slot_count; slot += blockDim.x) {
        const int id = work.topk_idx[slot];
        before += id >= 0 && id < expert;
        own += id == expert;
        if (expert == 0 && id < 0) {
            work.position_of_slot[slot] = -1;
        }
    }
    int position = block_sum(before);
    own = block_sum(own);
    if (threadIdx.x == 0) {
        work.counts[expert] = own;
    }
    for (long long first = 0; first < work.slot_count; first += blockDim.x) {
        const long long slot = first + threadIdx.x;
        const bool is_own = slot < work.slot_count && work.topk_idx[slot] == expert;
        int total = 0;
        const int rank = block_rank(is_own, &total);
        if (is_own) {
            work.position_of_slot[slot] = position + rank;
            work.slot_at_position[position + rank] = static_cast<int>(slot);
        }
        position += total;
    }
}

/* A block a row. */
extern "C" __global__ void nccl_copy(nccl_copy_t work)
{
    for (long long row = blockIdx.x; row < work.row_count; row += gridDim.x) {
        const long long index = work.index[row] / work.divisor;
        const long long from = work.is_scatter ? row : index;
        const long long to = work.is_scatter ? index : row;
        copy_row(static_cast<const char *>(work.from) + from * work.row_bytes,
                 static_cast<char *>(work.to) + to * work.row_bytes, work.row_bytes, work.is_wide);
    }
}

/* A block a (local expert, source): received rows lie by source and expert, and go to expert and
 * source. */
extern "C" __global__ void nccl_place(nccl_place_t work)
{
    const int expert = blockIdx.x;
    const int source = blockIdx.y;
    const int experts = gridDim.x;
    const int sources = gridDim.y;
    int from = 0;
    int to = 0;
    int expert_from = 0;
    int expert_count = 0;
    for (int i = threadIdx.x; i < sources * experts; i += blockDim.x) {
        const int count = work.counts[i];
        const int s = i / experts;
        const int e = i % experts;
        from += s < source || (s == source && e < expert) ? count : 0;
        to += e < expert || (e == expert && s < source) ? count : 0;
        expert_from += e < expert ? count : 0;
        expert_count += e == expert ? count : 0;
    }
    from = block_sum(from);
    to = block_sum(to);
    expert_from = block_sum(expert_from);
    expert_count = block_sum(expert_count);
    const int count = work.counts[source * experts + expert];
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        work.place_of_row[from + i] = to + i;
    }
    if (source == 0 && threadIdx.x == 0) {
        if (work.expert_count != nullptr) {
            work.expert_count[expert] = expert_count;
        }
        if (work.expert_start != nullptr) {
            work.expert_start[expert] = expert_from;
            work.expert_start[expert + 1] = expert_from + expert_count; /* the same as the next's */
        }
    }
}

/* A block a token. */
extern "C" __global__ void nccl_sum(nccl_sum_t work)
{
    __shared__ home_order order;
    for (long long token = blockIdx.x; token < work.token_count; token += gridDim.x) {
        __syncthreads(); /* the last token's order has been used */
        if (threadIdx.x == 0) {
            sort_slots(work, token, &order);
        }
        __syncthreads();
        if (work.is_wide) {
            const long long units = work.hidden / 8;
            for (long long at = threadIdx.x; at < units; at += blockDim.x) {
                sum_eight(work, order, token, at, units);
            }
        } else {
            for (long long column = threadIdx.x; column < work.hidden; column += blockDim.x) {
                sum_one(work, order, token, column);
            }
        }
    }
}
