/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One channel of the part about GPUs of docs/protocol.md as a SPIN model: RANKS ranks, on each a
 * kernel of BLOCKS blocks an operation, OPS operations: an update, then any sequence of updates,
 * dispatches of both layouts and combines in two passes. Every step names the function of src/exchange/cuda that
 * makes it. What is checked:
 *
 *   - no word of an offer is overwritten before its reader took it (he would wait for ever)
 *   - a table row, payload row, partial or scale that is read is that of this routing, operation
 *     and pass; scales of a dispatch and partials lie in the same staging memory
 *   - received rows stay until the caller, whose work follows the kernel, has read them
 *   - nobody waits for ever
 *
 * Rows, scales and partials for another rank are first in flight and arrive at any time, whatever else has
 * arrived, unless a fence waits for them: a fence is here what it is for. Words and flags arrive one
 * by one. Deadlines and residency are not modelled. SEED_... puts a known bug in; run_spin.sh has
 * the list and expects each to be found.
 */
#ifndef RANKS
#define RANKS 2
#endif
#ifndef BLOCKS
#define BLOCKS 2
#endif
#ifndef OPS
#define OPS 3
#endif

/* Kinds of operations. */
#define UPDATE             0
#define DISPATCH_BY_RANK   1
#define DISPATCH_BY_EXPERT 2
#define COMBINE            3

/* Flags of a block, exchange.cuh. */
#define PAYLOAD  0
#define FOLLOWED 1

/* What a rank writes at a rank, each block its own. Words of an offer: 0 is the offer itself, of
 * block 0; the others are counts. */
#define PAIR(to, from, i, count) (((to) * RANKS + (from)) * (count) + (i))
#ifdef SEED_SINGLE_BANK
#define BANK 0
#else
#define BANK (op % 2)
#endif
#define WORD(to, from, i)            (PAIR(to, from, i, BLOCKS + 1) * 2 + BANK)
#define FLAG(to, from, block, phase) (PAIR(to, from, block, BLOCKS) * 2 + (phase))
#define CELLS                        (RANKS * RANKS * BLOCKS)
#define CELL(what, to, from, block)  ((what) * CELLS + PAIR(to, from, block, BLOCKS))

/* What the cells of a rank hold: one of each block of each rank, of one token say. */
#define TABLE   0 /* what it receives, written by updates */
#define ROWS    1 /* recv_x, written by dispatches */
#define STAGING 2 /* partials of combines, scales of dispatches: twice the operation, and the pass */

byte kind[OPS + 1];

/* Memory of all ranks. A word, flag, table row or received row holds the number of its operation. */
byte word[RANKS * RANKS * (BLOCKS + 1) * 2];
byte flag[CELLS * 2];
byte progress[CELLS]; /* of a token: twice the operation, and the pass */
byte memory[CELLS * 3];
byte in_flight[CELLS * 3]; /* stores that have not arrived */

/* cuda_counters_t, and block_counts of an update. */
byte epoch[RANKS];
byte leaving[RANKS];
byte arrived[RANKS];
byte counted[RANKS * BLOCKS];

/* The way of one block's stores from one rank to another. */
#define ARRIVES(cell) d_step { in_flight[cell] != 0 -> memory[cell] = in_flight[cell]; \
                               in_flight[cell] = 0 }

proctype link(byte to; byte from; byte b)
{
end:
    do
    :: ARRIVES(CELL(TABLE, to, from, b))
    :: ARRIVES(CELL(ROWS, to, from, b))
    :: ARRIVES(CELL(STAGING, to, from, b))
    od
}

/* This block's stores of some kind to every rank; its own has them at once. */
inline store_all(what, value)
{
    d_step {
        for (k : 0 .. (RANKS - 1)) {
            if
            :: k == me -> memory[CELL(what, k, me, b)] = value
            :: else -> in_flight[CELL(what, k, me, b)] = value
            fi
        }
        k = 0
    }
}

/* A fence over stores of some kind. */
inline await_arrival(what, block)
{
    for (k : 0 .. (RANKS - 1)) {
        in_flight[CELL(what, k, me, block)] == 0
    }
    k = 0
}

/* What is in this rank's memory, from every block of every rank. */
inline expect_all(what, value)
{
    d_step {
        for (k : 0 .. (RANKS * BLOCKS - 1)) {
            assert(memory[CELL(what, me, 0, k)] == (value))
        }
        k = 0
    }
}

/* The same of this block's share: one token of each rank. */
inline expect_share(what, value)
{
    d_step {
        for (k : 0 .. (RANKS - 1)) {
            assert(memory[CELL(what, me, k, b)] == (value))
        }
        k = 0
    }
}

/* This block's word at every rank, one after the other. */
inline store_words(which)
{
    word[WORD(0, me, which)] = op;
    word[WORD(1, me, which)] = op
#if RANKS > 2
    ;word[WORD(2, me, which)] = op
#endif
}

inline store_flags(phase)
{
    flag[FLAG(0, me, b, phase)] = op;
    flag[FLAG(1, me, b, phase)] = op
#if RANKS > 2
    ;flag[FLAG(2, me, b, phase)] = op
#endif
}

inline store_progress(mark)
{
    progress[PAIR(0, me, b, BLOCKS)] = mark;
    progress[PAIR(1, me, b, BLOCKS)] = mark
#if RANKS > 2
    ;progress[PAIR(2, me, b, BLOCKS)] = mark
#endif
}

/* grid_barrier() */
inline grid_barrier()
{
#ifdef SEED_NO_GRID_BARRIER
    skip
#else
    arrived[me]++;
    arrived[me] == BLOCKS
#endif
}

/* operation_offer(): the fence is cumulative, it covers earlier kernels of this rank. */
inline offer()
{
    if
    :: b == 0 ->
#ifndef SEED_NO_OFFER_FENCE
        atomic {
            for (i : 0 .. (BLOCKS - 1)) {
                await_arrival(TABLE, i)
            }
            i = 0
        }
#endif
        store_words(0)
    :: else
    fi
}

/* tell_totals(): a share of the columns by each block. */
inline tell_totals()
{
    d_step {
        for (k : 0 .. (BLOCKS - 1)) {
            assert(counted[me * BLOCKS + k] == op)
        }
        k = 0
    }
    store_words(b + 1)
}

/* await_word() of one word of every rank. */
inline await_words(which)
{
    for (i : 0 .. (RANKS - 1)) {
        word[WORD(me, i, which)] == op
    }
    i = 0
}

/* operation_meet(), and gather_totals() of an update */
inline meet()
{
#ifdef SEED_NO_MEET
    skip
#else
    atomic {
        await_words(0);
        if
        :: kind[op] == UPDATE ->
            for (j : 1 .. BLOCKS) {
                await_words(j)
            }
            j = 0
        :: else
        fi
    }
#endif
}

/* A fence over payload, and over the scales that went with it. */
inline fence(what)
{
#ifdef SEED_NO_RAISE_FENCE
    skip
#else
    atomic {
        await_arrival(what, b);
#ifndef SEED_NO_SCALE_FENCE
        await_arrival(STAGING, b)
#endif
    }
#endif
}

/* operation_raise() */
inline raise(what, phase)
{
    fence(what);
    store_flags(phase)
}

/* operation_await() */
inline await(phase)
{
#ifdef SEED_NO_AWAIT
    skip
#else
    atomic {
        for (i : 0 .. (RANKS - 1)) {
#ifdef SEED_ONE_FLAG
            flag[FLAG(me, i, 0, phase)] >= op
#else
            for (j : 0 .. (BLOCKS - 1)) {
                flag[FLAG(me, i, j, phase)] >= op
            }
            j = 0
#endif
        }
        i = 0
    }
#endif
}

/* moxie_update(); the table is written without a flag. */
inline update()
{
    counted[me * BLOCKS + b] = op; /* publish_block() */
    grid_barrier();
    tell_totals();
    offer();
    meet();
    store_all(TABLE, op) /* place_chunk() */
}

/* Payload; with rows, which are fp8, their scales into the peers' staging memory (scales.cuh). */
inline store(what, value)
{
    atomic {
#ifndef SEED_SCALES_FIRST
        if
        :: what == ROWS -> store_all(STAGING, 2 * op)
        :: else
        fi;
#endif
        store_all(what, value)
    }
}

/* send_rows(), send_partials(), and signals_raise() */
inline send_tokens(what, value, mark)
{
#ifdef SEED_FLAG_FIRST
    store_progress(mark);
#endif
    store(what, value);
#ifndef SEED_FLAG_FIRST
    fence(what);
    store_progress(mark)
#endif
}

/* progress_await() of this block's tokens */
inline await_tokens(mark)
{
#ifdef SEED_NO_AWAIT
    skip
#else
    atomic {
        for (i : 0 .. (RANKS - 1)) {
            progress[PAIR(me, i, b, BLOCKS)] >= mark
        }
        i = 0
    }
#endif
}

/* exchange_by_rank() */
inline dispatch_by_rank()
{
#ifdef SEED_SCALES_FIRST
    store_all(STAGING, 2 * op);
#endif
#ifdef SEED_PAYLOAD_FIRST
    store(ROWS, op);
    meet();
#else
    meet();
#endif
    expect_all(TABLE, routing); /* write_slots() */
#ifdef SEED_FLAG_FIRST
    raise(ROWS, PAYLOAD);
#endif
#ifndef SEED_PAYLOAD_FIRST
    store(ROWS, op); /* send_rows() */
#endif
#ifndef SEED_FLAG_FIRST
    raise(ROWS, PAYLOAD);
#endif
    await(PAYLOAD);
    expect_all(TABLE, routing);
    expect_all(STAGING, 2 * op) /* turn_scales() */
}

/* exchange_by_expert(): nobody waits for what other blocks wait for. */
inline dispatch_by_expert()
{
#ifdef SEED_SCALES_FIRST
    store_all(STAGING, 2 * op);
#endif
    meet();
    send_tokens(ROWS, op, 2 * op);
    expect_share(TABLE, routing); /* find_token() */
    await_tokens(2 * op);
    expect_share(ROWS, op); /* copy_token() */
    expect_share(STAGING, 2 * op)
}

#ifdef SEED_SAME_MARK
#define SECOND 0
#else
#define SECOND 1
#endif

/* combine_passes(), fp32 on the wire */
inline combine()
{
    meet();
    expect_all(TABLE, routing); /* arrival_work */
    send_tokens(STAGING, 2 * op, 2 * op);
    await_tokens(2 * op);
    expect_share(STAGING, 2 * op); /* sum_token() */
    expect_share(STAGING, 2 * op); /* still at it */
#ifndef SEED_NO_FOLLOWED
    raise(STAGING, FOLLOWED);
    await(FOLLOWED);
#endif
    send_tokens(STAGING, 2 * op + 1, 2 * op + SECOND);
    await_tokens(2 * op + SECOND);
    expect_share(STAGING, 2 * op + 1)
}

/* operation_leave(); then what follows in the stream, and the next kernel. */
inline leave()
{
    d_step {
        leaving[me]++;
        last = leaving[me] == BLOCKS
    }
#ifdef SEED_EARLY_EPOCH
    epoch[me] = op;
#endif
    if
    :: last ->
        d_step {
            leaving[me] = 0;
            arrived[me] = 0;
            last = false
        }
        if
        :: kind[op] == DISPATCH_BY_RANK || kind[op] == DISPATCH_BY_EXPERT ->
            expect_all(ROWS, op) /* the caller's experts */
        :: else
        fi;
        epoch[me] = op
    :: else
    fi
}

proctype block(byte me; byte b)
{
    byte op, routing, i, j, k;
    bool last;
    do
    :: op == OPS -> break
    :: else ->
        epoch[me] >= op; /* the kernel before has ended */
        op++;            /* operation_begin() */
        if
        :: kind[op] == UPDATE -> update(); routing = op
        :: kind[op] == DISPATCH_BY_RANK -> offer(); dispatch_by_rank()
        :: kind[op] == DISPATCH_BY_EXPERT -> offer(); dispatch_by_expert()
        :: kind[op] == COMBINE -> offer(); combine()
        fi;
        leave()
    od
}

init {
    byte n, m;
    atomic {
        for (n : 2 .. OPS) {
            if
            :: kind[n] = DISPATCH_BY_RANK
            :: kind[n] = DISPATCH_BY_EXPERT
            :: kind[n] = COMBINE
            :: kind[n] = UPDATE
            fi
        }
        for (n : 0 .. (RANKS * BLOCKS - 1)) {
            for (m : 0 .. (RANKS - 1)) {
                if
                :: m != n / BLOCKS -> run link(m, n / BLOCKS, n % BLOCKS)
                :: else
                fi
            }
        }
        for (n : 0 .. (RANKS * BLOCKS - 1)) {
            run block(n / BLOCKS, n % BLOCKS)
        }
    }
}
