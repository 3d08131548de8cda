/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The row kernels' source, included by one file an instruction set, which defines
 *   ROWS_KERNELS   the table to fill in
 *   ROWS_NAME      its name
 *   ROWS_FMA       vector fused multiply-add of (w, y, acc)
 *   ROWS_STREAM    a 64-byte store past the caches to an aligned address, from any address
 * Everything else is GCC vector arithmetic. Each operation rounds by itself, so the bits do not
 * depend on the instruction set.
 */
#include "core/dtype.h"
#include "exchange/shm/rows.h"

#include <math.h>
#include <string.h>

#define LANES       16
#define BLOCK       4 /* vectors summed at a time */
#define BLOCK_LANES (BLOCK * LANES)
#define DOT_LANES   256
#define INLINE      static inline __attribute__((always_inline))

typedef float floats_t __attribute__((vector_size(64)));
typedef uint32_t words_t __attribute__((vector_size(64)));
typedef uint16_t halves_t __attribute__((vector_size(32)));
typedef uint8_t bytes_t __attribute__((vector_size(16)));

INLINE floats_t load(const void *row, size_t column, moxie_dtype_t dtype)
{
    if (dtype == MOXIE_DTYPE_BF16) {
        halves_t halves;
        memcpy(&halves, (const uint16_t *)row + column, sizeof(halves));
        return (floats_t)(__builtin_convertvector(halves, words_t) << 16);
    }
    floats_t floats;
    memcpy(&floats, (const float *)row + column, sizeof(floats));
    return floats;
}

/* The upper halves are the rounded bfloat16; the lower ones are not cleared. */
INLINE words_t round_to_upper(floats_t values)
{
    const words_t bits = (words_t)values;
    const words_t rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
    const words_t is_nan = (words_t)((bits & 0x7FFFFFFFu) > 0x7F800000u);
    return (rounded & ~is_nan) | (is_nan & (BF16_NAN << 16));
}

INLINE floats_t round_to(floats_t values, moxie_dtype_t dtype)
{
    if (dtype == MOXIE_DTYPE_BF16) {
        return (floats_t)(round_to_upper(values) & 0xFFFF0000u);
    }
    return values;
}

INLINE void store(void *row, size_t column, floats_t values, moxie_dtype_t dtype)
{
    if (dtype == MOXIE_DTYPE_BF16) {
        const halves_t halves = __builtin_convertvector(round_to_upper(values) >> 16, halves_t);
        memcpy((uint16_t *)row + column, &halves, sizeof(halves));
        return;
    }
    const words_t bits = (words_t)values;
    const words_t is_nan = (words_t)((bits & 0x7FFFFFFFu) > 0x7F800000u);
    const words_t canonical = (bits & ~is_nan) | (is_nan & FP32_NAN);
    memcpy((float *)row + column, &canonical, sizeof(canonical));
}

/* Fetches the cache lines of `columns` columns of a row that will be needed soon. */
INLINE void fetch(const void *row, size_t column, size_t columns, moxie_dtype_t dtype)
{
    const size_t element_bytes = dtype == MOXIE_DTYPE_BF16 ? 2 : 4;
    const char *first = (const char *)row + column * element_bytes;
    for (size_t done = 0; done < columns * element_bytes; done += 64) {
        __builtin_prefetch(first + done, 0, 3);
    }
}

/* Stores a block of results: through a buffer and past the caches where it is streamed. */
INLINE void store_block(void *out, size_t column, const floats_t *values, int vectors,
                        rows_types_t types)
{
    if (!types.is_streamed) {
        for (int v = 0; v < vectors; v++) {
            store(out, column + (size_t)v * LANES, values[v], types.out);
        }
        return;
    }
    _Alignas(64) char block[BLOCK_LANES * sizeof(float)];
    for (int v = 0; v < vectors; v++) {
        store(block, (size_t)v * LANES, values[v], types.out);
    }
    const size_t element_bytes = types.out == MOXIE_DTYPE_BF16 ? 2 : 4;
    char *to = (char *)out + column * element_bytes;
    for (size_t done = 0; done < (size_t)vectors * LANES * element_bytes; done += 64) {
        ROWS_STREAM(to + done, block + done);
    }
}

/* Sums `vectors` vectors from `column` on; all types are constants where this is inlined. */
INLINE void sum_vectors(const rows_sum_t *terms, rows_types_t types, void *out, size_t column,
                        int vectors)
{
    floats_t total[BLOCK] = {0};
    floats_t partial[BLOCK] = {0};
    for (int32_t i = 0; i < terms->count; i++) {
        const void *row = terms->rows[i];
        if (types.is_plain) {
            for (int v = 0; v < vectors; v++) {
                total[v] += load(row, column + (size_t)v * LANES, types.in);
            }
            continue;
        }
        const floats_t weight = terms->weights[i] - (floats_t){0};
        for (int v = 0; v < vectors; v++) {
            partial[v] =
                ROWS_FMA(weight, load(row, column + (size_t)v * LANES, types.in), partial[v]);
        }
        if (terms->ends_partial[i]) {
            for (int v = 0; v < vectors; v++) {
                total[v] += round_to(partial[v], types.wire);
                partial[v] = (floats_t){0};
            }
        }
    }
    store_block(out, column, total, vectors, types);
}

/* The last columns, fewer than a vector: through rows of one vector, zeroes behind them. */
INLINE void sum_tail(const rows_sum_t *terms, rows_types_t types, void *out, size_t column,
                     size_t columns)
{
    float rows[MOXIE_TOPK_MAX][LANES];
    float result[LANES];
    rows_sum_t tail;
    const size_t in_bytes = types.in == MOXIE_DTYPE_BF16 ? 2 : 4;
    const size_t out_bytes = types.out == MOXIE_DTYPE_BF16 ? 2 : 4;
    tail.count = terms->count;
    for (int32_t i = 0; i < terms->count; i++) {
        memset(rows[i], 0, sizeof(rows[i]));
        memcpy(rows[i], (const char *)terms->rows[i] + column * in_bytes,
               (columns - column) * in_bytes);
        tail.rows[i] = rows[i];
        tail.weights[i] = terms->weights[i];
        tail.ends_partial[i] = terms->ends_partial[i];
    }
    types.is_streamed = 0;
    sum_vectors(&tail, types, result, 0, 1);
    memcpy((char *)out + column * out_bytes, result, (columns - column) * out_bytes);
}

INLINE void sum_row(const rows_sum_t *terms, const rows_sum_t *next, rows_types_t types, void *out,
                    size_t columns)
{
    size_t column = 0;
    for (; column + BLOCK_LANES <= columns; column += BLOCK_LANES) {
        for (int32_t i = 0; i < next->count; i++) {
            fetch(next->rows[i], column, BLOCK_LANES, types.in);
        }
        sum_vectors(terms, types, out, column, BLOCK);
    }
    types.is_streamed = 0;
    for (; column + LANES <= columns; column += LANES) {
        sum_vectors(terms, types, out, column, 1);
    }
    if (column < columns) {
        sum_tail(terms, types, out, column, columns);
    }
}

#define BF16 MOXIE_DTYPE_BF16
#define FP32 MOXIE_DTYPE_FP32

/* One branch a combination of types, so that each has a loop of its own. */
static void sum(const rows_sum_t *terms, const rows_sum_t *next, const rows_types_t *types,
                void *out, size_t columns)
{
    const int is_streamed = types->is_streamed && ((uintptr_t)out & 63u) == 0;
#define CASE(in_type, wire_type, out_type, plain)                                                  \
    if (types->in == (in_type) && types->wire == (wire_type) && types->out == (out_type) &&        \
        types->is_plain == (plain)) {                                                              \
        sum_row(terms, next, (rows_types_t){in_type, wire_type, out_type, plain, is_streamed},     \
                out, columns);                                                                     \
        return;                                                                                    \
    }
    CASE(BF16, BF16, BF16, 1)
    CASE(BF16, BF16, BF16, 0)
    CASE(BF16, BF16, FP32, 1)
    CASE(BF16, BF16, FP32, 0)
    CASE(BF16, FP32, BF16, 1)
    CASE(BF16, FP32, BF16, 0)
    CASE(BF16, FP32, FP32, 1)
    CASE(BF16, FP32, FP32, 0)
    CASE(FP32, BF16, BF16, 0)
    CASE(FP32, BF16, FP32, 0)
    CASE(FP32, FP32, BF16, 1)
    CASE(FP32, FP32, BF16, 0)
    CASE(FP32, FP32, FP32, 1)
    CASE(FP32, FP32, FP32, 0)
#undef CASE
}

INLINE void scale_row(void *destination, const void *source, float weight, moxie_dtype_t dtype,
                      size_t columns)
{
    size_t column = 0;
    for (; column + LANES <= columns; column += LANES) {
        store(destination, column, weight * load(source, column, dtype), dtype);
    }
    for (; column < columns; column++) {
        if (dtype == MOXIE_DTYPE_BF16) {
            ((uint16_t *)destination)[column] =
                bf16_from_float(weight * bf16_to_float(((const uint16_t *)source)[column]));
        } else {
            ((float *)destination)[column] =
                fp32_canonical(weight * ((const float *)source)[column]);
        }
    }
}

static void scale(void *destination, const void *source, float weight, moxie_dtype_t dtype,
                  size_t columns)
{
    if (dtype == MOXIE_DTYPE_BF16) {
        scale_row(destination, source, weight, MOXIE_DTYPE_BF16, columns);
    } else {
        scale_row(destination, source, weight, MOXIE_DTYPE_FP32, columns);
    }
}

INLINE float element(const void *row, size_t column, moxie_dtype_t dtype)
{
    return dtype == MOXIE_DTYPE_BF16 ? bf16_to_float(((const uint16_t *)row)[column])
                                     : ((const float *)row)[column];
}

INLINE float dot_rows(const void *a, const void *b, const void *next, moxie_dtype_t dtype,
                      size_t columns)
{
    floats_t partial[DOT_LANES / LANES] = {0};
    size_t column = 0;
    for (; column + DOT_LANES <= columns; column += DOT_LANES) {
        if (next != NULL) {
            fetch(next, column, DOT_LANES, dtype);
        }
        for (size_t v = 0; v < DOT_LANES / LANES; v++) {
            partial[v] = ROWS_FMA(load(a, column + v * LANES, dtype),
                                  load(b, column + v * LANES, dtype), partial[v]);
        }
    }
    float lanes[DOT_LANES];
    memcpy(lanes, partial, sizeof(lanes));
    for (size_t lane = 0; column < columns; column++, lane++) {
        lanes[lane] = fmaf(element(a, column, dtype), element(b, column, dtype), lanes[lane]);
    }
    for (size_t half = DOT_LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return fp32_canonical(lanes[0]);
}

static float dot(const void *a, const void *b, const void *next, moxie_dtype_t dtype,
                 size_t columns)
{
    return dtype == MOXIE_DTYPE_BF16 ? dot_rows(a, b, next, MOXIE_DTYPE_BF16, columns)
                                     : dot_rows(a, b, next, MOXIE_DTYPE_FP32, columns);
}

#define GROUP_VECTORS (MOXIE_SCALE_COLUMNS / LANES)

/* The scale of a group, and what its elements are multiplied with. */
typedef struct group_scale {
    float scale;
    float multiplier;
} group_scale_t;

/* The bits of the largest magnitude, NaNs left aside, and at least 1e-4. Magnitudes are ordered as
 * their bits are. */
INLINE uint32_t group_amax(const floats_t *group)
{
    words_t largest = {0};
    for (int v = 0; v < GROUP_VECTORS; v++) {
        words_t magnitude = (words_t)group[v] & 0x7FFFFFFFu;
        magnitude &= ~(words_t)(magnitude > 0x7F800000u);
        const words_t is_larger = (words_t)(magnitude > largest);
        largest = (magnitude & is_larger) | (largest & ~is_larger);
    }
    uint32_t amax = fp32_bits(1e-4f);
    for (int lane = 0; lane < LANES; lane++) {
        amax = largest[lane] > amax ? largest[lane] : amax;
    }
    return amax;
}

INLINE group_scale_t scale_of(uint32_t amax, moxie_scale_type_t type)
{
    if (type == MOXIE_SCALE_FP32) {
        const float value = fp32_from_bits(amax);
        return (group_scale_t){value / 448.0f, 448.0f / value};
    }
    /* The exponent of amax / 448 = m / 1.75 * 2^(k - 8), rounded up; 0x600000 is m = 1.75. */
    const uint32_t biased = (amax >> 23) - 8 + ((amax & 0x7FFFFFu) > 0x600000u);
    return (group_scale_t){fp32_from_bits(biased << 23), fp32_from_bits((254 - biased) << 23)};
}

/* As fp8_from_float(). Adding 2^14 rounds a small magnitude to a multiple of 2^-9. */
INLINE bytes_t round_to_fp8(floats_t values)
{
    const words_t bits = (words_t)values;
    const words_t magnitude = bits & 0x7FFFFFFFu;
    const words_t is_nan = (words_t)(magnitude > 0x7F800000u);
    const words_t is_small = (words_t)(magnitude < 121u << 23);
    const words_t normal = ((magnitude + 0x7FFFFu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
    const words_t small = (words_t)((floats_t)magnitude + 16384.0f) - (141u << 23);
    words_t rounded = (normal & ~is_small) | (small & is_small);
    const words_t is_over = (words_t)(rounded > FP8_MAX);
    rounded = (rounded & ~is_over) | (is_over & FP8_MAX) | ((bits >> 24) & 0x80u);
    return __builtin_convertvector((rounded & ~is_nan) | (is_nan & FP8_NAN), bytes_t);
}

static void quantise(const void *row, size_t columns, moxie_scale_type_t type, uint8_t *fp8,
                     uint32_t *words)
{
    const uint16_t *from = row;
    for (size_t first = 0; first < columns; first += MOXIE_SCALE_COLUMNS) {
        const size_t left = columns - first;
        const size_t count = left < MOXIE_SCALE_COLUMNS ? left : MOXIE_SCALE_COLUMNS;
        uint16_t halves[MOXIE_SCALE_COLUMNS];
        uint8_t rounded[MOXIE_SCALE_COLUMNS];
        floats_t group[GROUP_VECTORS];
        if (count < MOXIE_SCALE_COLUMNS) {
            memset(halves, 0, sizeof(halves));
        }
        memcpy(halves, from + first, count * sizeof(*from));
        for (size_t v = 0; v < GROUP_VECTORS; v++) {
            group[v] = load(halves, v * LANES, MOXIE_DTYPE_BF16);
        }
        const group_scale_t scale = scale_of(group_amax(group), type);
        for (size_t v = 0; v < GROUP_VECTORS; v++) {
            const bytes_t bytes = round_to_fp8(group[v] * scale.multiplier);
            memcpy(rounded + v * LANES, &bytes, sizeof(bytes));
        }
        memcpy(fp8 + first, rounded, count);
        const size_t index = first / MOXIE_SCALE_COLUMNS;
        const uint32_t bits = fp32_bits(scale.scale);
        if (type != MOXIE_SCALE_UE8M0) {
            words[index] = bits;
        } else {
            const uint32_t shift = (uint32_t)(index % 4) * 8;
            words[index / 4] = (shift == 0 ? 0 : words[index / 4]) | (bits >> 23) << shift;
        }
    }
}

/* Ordinary stores up to the first cache line of the destination and after the last. */
static void copy_stream(void *destination, const void *source, size_t bytes)
{
    char *to = destination;
    const char *from = source;
    const size_t head = (size_t)(-(uintptr_t)to & 63u);
    if (bytes < head + 64) {
        memcpy(to, from, bytes);
        return;
    }
    memcpy(to, from, head);
    size_t done = head;
    for (; done + 64 <= bytes; done += 64) {
        ROWS_STREAM(to + done, from + done);
    }
    memcpy(to + done, from + done, bytes - done);
}

const rows_kernels_t ROWS_KERNELS = {
    .name = ROWS_NAME,
    .copy_stream = copy_stream,
    .sum = sum,
    .scale = scale,
    .dot = dot,
    .quantise = quantise,
};
