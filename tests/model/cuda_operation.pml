/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One channel of the part about GPUs of docs/protocol.md as a SPIN model: 2 or 3 RANKS, on each a
 * kernel of 1 or 2 BLOCKS an operation, OPS operations: one that brings a routing, then any sequence
 * of updates, dispatches of both layouts, combines in two passes, and dispatches that bring their
 * routing (cuda_dispatch_routing.pml), some of which are refused. Every step names the function of
 * src/exchange/cuda that makes it. What is checked:
 *
 *   - no word or flag is overwritten before its reader took it (he would wait for ever)
 *   - a table row, payload row, partial or scale that is read is that of this routing, operation
 *     and pass; scales of a dispatch and partials lie in the same staging memory
 *   - received rows stay until the caller, whose work follows the kernel, has read them
 *   - what a rank notes of a routing for itself is there when it is read, in this kernel and later
 *   - nobody waits for ever
 *
 * Rows, scales, partials and tables are on their way from the earliest moment that allows to store
 * them until a fence waits for them: a fence is here what it is for. They may arrive at any time in
 * between, whatever else has arrived, so that nobody may read there meanwhile, or write. Words and
 * flags go to all ranks at once: a rank that would get one later is here one that looks later. Steps
 * that nobody else can tell apart are one. Deadlines and residency are not modelled. SEED_... puts a
 * known bug in; run_spin.sh has the list and expects each to be found.
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

/* Kinds of operations. NO_ROUTING: without those that dispatch along a routing of their own; BESIDE:
 * these, and only that other kind. */
#define UPDATE             0
#define DISPATCH_BY_RANK   1
#define DISPATCH_BY_EXPERT 2
#define COMBINE            3
#define DISPATCH_ROUTING   4
#define CALL_REFUSED       5 /* its buffer is too small, say: tables are written, and no rows */
#define ROUTING_REFUSED    6 /* it has a bad slot: nothing is written */

/* Flags of a block, exchange.cuh. */
#define PAYLOAD  0
#define FOLLOWED 1
#define TABLES   2
#define PHASES   3

/* What a rank writes at a rank, each block its own. */
#define PAIR(to, from, i, count)     (((to) * RANKS + (from)) * (count) + (i))
#define FLAG(to, from, block, phase) (PAIR(to, from, block, BLOCKS) * PHASES + (phase))

/* Words: the offer, by one block of a rank; counts of an update, a share by each block, or of the
 * experts of a routing that came with its dispatch, by one; rows of that routing, by each block. */
#define OFFER_WORD 0
#define COUNT_WORD 1
#define CHUNK_WORD (1 + BLOCKS)
#define WORDS      (1 + 2 * BLOCKS)
#ifdef SEED_SINGLE_BANK
#define BANK(i) 0
#elif defined(SEED_SINGLE_CHUNK_BANK)
#define BANK(i) ((i) >= CHUNK_WORD -> 0 : op % 2)
#else
#define BANK(i) (op % 2)
#endif
#define WORD(to, from, i) (PAIR(to, from, i, WORDS) * 2 + BANK(i))

/* Cells of memory: what each block of each rank writes at all ranks, of one token say. */
#define TABLE      0 /* what they receive, by the routing */
#define ROWS       1 /* recv_x, written by dispatches */
#define STAGING    2 /* partials of combines, scales of dispatches: twice the operation, and the pass */
#define POOLED     3 /* recv_x: a token of each rank that any of its blocks may send */
#define FIRST_ROWS 4 /* at its own rank: where the rows of the block's tokens go */
#define KINDS      5
#define CELL(what, rank, block) (((what) * RANKS + (rank)) * BLOCKS + (block))

/* Where a block's store goes. Who writes a row of a table changes with the routing. */
#define PLACE(what, rank, block, value)                                         \
    CELL(what, ((what) == TABLE -> ((rank) + (value)) % RANKS : (rank)),        \
         ((what) == POOLED -> 0 : (block)))

/* Whether all ranks have done something. */
#if RANKS == 2
#define ALL_RANKS(what, which) (what(0, which) && what(1, which))
#else
#define ALL_RANKS(what, which) (what(0, which) && what(1, which) && what(2, which))
#endif

byte kind[OPS + 1];

/* Memory of all ranks. A word, flag, table row or received row holds the number of its operation. */
byte word[RANKS * RANKS * WORDS * 2];
byte flag[RANKS * RANKS * BLOCKS * PHASES];
byte progress[RANKS * RANKS * BLOCKS]; /* of a token: twice the operation, and the pass */
byte memory[RANKS * BLOCKS * KINDS];
byte on_way[RANKS * BLOCKS * KINDS]; /* may not have arrived; by who stored it */

/* A rank's own tables, more of them. */
byte needs[RANKS];         /* and row_counts */
byte expert_counts[RANKS]; /* and local_counts */
byte expert_sums[RANKS];   /* how many blocks have added theirs */

/* cuda_counters_t, and block_counts of an update. */
byte epoch[RANKS];
byte leaving[RANKS];
byte arrived[RANKS];
byte told[RANKS];
byte pool[RANKS];
byte counted[RANKS * BLOCKS];

/* What the warps of a block that send no rows have to do; meanwhile the others go on. */
#define NOTHING      0
#define MAKE_OFFER   1
#define WRITE_TABLES 2
byte duty[RANKS * BLOCKS];

/* This block's stores of some kind to every rank. None of before are on their way, and nobody
 * else's to the same place. */
inline store_all(what, value)
{
    d_step {
        assert(on_way[CELL(what, me, b)] == 0);
        for (k : 0 .. (RANKS * BLOCKS - 1)) {
            assert(on_way[CELL(what, 0, k)] == 0 ||
                   PLACE(what, k / BLOCKS, k % BLOCKS, on_way[CELL(what, 0, k)]) !=
                       PLACE(what, me, b, value))
        }
        k = 0;
        on_way[CELL(what, me, b)] = value
    }
}

/* A fence over a block's stores of some kind: they have arrived. */
inline arrive(what, block)
{
    d_step {
        if
        :: on_way[CELL(what, me, block)] != 0 ->
            memory[PLACE(what, me, block, on_way[CELL(what, me, block)])] =
                on_way[CELL(what, me, block)];
            on_way[CELL(what, me, block)] = 0
        :: else
        fi
    }
}

/* What is in this rank's memory from some block, and not on its way. */
#define EXPECT(what, rank, block, value)                                        \
    assert(memory[CELL(what, rank, block)] == (value) && on_way[CELL(what, rank, block)] == 0)

/* From every block of every rank. */
inline expect_all(what, value)
{
    d_step {
        for (k : 0 .. (RANKS * BLOCKS - 1)) {
            EXPECT(what, 0, k, value)
        }
        k = 0
    }
}

/* The same of this block's share: one token of each rank. */
inline expect_share(what, value)
{
    d_step {
        for (k : 0 .. (RANKS - 1)) {
            EXPECT(what, k, b, value)
        }
        k = 0
    }
}

/* The same of all blocks of this rank. */
inline expect_own(what, value)
{
    d_step {
        for (k : 0 .. (BLOCKS - 1)) {
            EXPECT(what, me, k, value)
        }
        k = 0
    }
}

/* What came out of the pool of each rank, whichever block sent it. */
inline expect_pooled()
{
    d_step {
        for (k : 0 .. (RANKS * BLOCKS - 1)) {
            assert(memory[CELL(POOLED, k / BLOCKS, 0)] == op && on_way[CELL(POOLED, 0, k)] == 0)
        }
        k = 0
    }
}

/* This block's word at every rank. */
inline store_words(which)
{
    d_step {
        for (k : 0 .. (RANKS - 1)) {
            word[WORD(k, me, which)] = op
        }
        k = 0
    }
}

inline store_flags(phase)
{
    d_step {
        for (k : 0 .. (RANKS - 1)) {
            flag[FLAG(k, me, b, phase)] = op
        }
        k = 0
    }
}

inline store_progress(mark)
{
    d_step {
        for (k : 0 .. (RANKS - 1)) {
            progress[PAIR(k, me, b, BLOCKS)] = mark
        }
        k = 0
    }
}

/* What is waited for: await_word() */
#define WORD_IS_THERE(rank, which) (word[WORD(me, rank, which)] == op)
#define BLOCK_WORDS_ARE_THERE(rank, first)                                      \
    (WORD_IS_THERE(rank, first) && WORD_IS_THERE(rank, (first) + BLOCKS - 1))

/* operation_offer(): the fence is cumulative, it covers earlier kernels of this rank. */
inline offer()
{
    d_step {
        if
        :: b == 0 ->
#ifndef SEED_NO_OFFER_FENCE
            for (i : 0 .. (BLOCKS - 1)) {
                arrive(TABLE, i)
            }
            i = 0;
#endif
            store_words(OFFER_WORD)
        :: else
        fi
    }
}

/* operation_meet() */
#ifdef SEED_NO_MEET
#define HAVE_MET true
#else
#define HAVE_MET ALL_RANKS(WORD_IS_THERE, OFFER_WORD)
#endif

/* A fence over payload, and over the scales that went with it. */
inline fence(what)
{
#ifdef SEED_NO_RAISE_FENCE
    skip
#else
    d_step {
        arrive(what, b);
#ifndef SEED_NO_SCALE_FENCE
        arrive(STAGING, b)
#endif
    }
#endif
}

/* operation_raise() */
inline raise(what, phase)
{
    d_step {
        fence(what);
        store_flags(phase)
    }
}

/* operation_await(), await_flags() */
#ifdef SEED_ONE_FLAG
#define FLAGS_ARE_THERE(rank, phase) (flag[FLAG(me, rank, 0, phase)] == op)
#else
#define FLAGS_ARE_THERE(rank, phase)                                            \
    (flag[FLAG(me, rank, 0, phase)] == op && flag[FLAG(me, rank, BLOCKS - 1, phase)] == op)
#endif
#ifdef SEED_NO_AWAIT
#define HAVE_RAISED(phase) true
#else
#define HAVE_RAISED(phase) ALL_RANKS(FLAGS_ARE_THERE, phase)
#endif

/* grid_barrier() */
#ifdef SEED_NO_GRID_BARRIER
#define HAVE_COUNTED true
#else
#define HAVE_COUNTED (arrived[me] >= BLOCKS)
#endif

/* tell_totals(): a share of the columns by each block. */
inline tell_totals()
{
    d_step {
        for (k : 0 .. (BLOCKS - 1)) {
            assert(counted[me * BLOCKS + k] == op)
        }
        k = 0;
        store_words(COUNT_WORD + b)
    }
}

/* What a rank notes for itself: take_count(), report_update(), place_chunk() */
inline note_update()
{
    d_step {
        if
        :: b == 0 ->
            needs[me] = op;
            expert_counts[me] = op
        :: else
        fi;
        store_all(FIRST_ROWS, op)
    }
}

/* moxie_update(); the table is written without a flag. */
inline update()
{
    d_step {
        counted[me * BLOCKS + b] = op; /* publish_block() */
        arrived[me]++
    }
    d_step {
        HAVE_COUNTED;
        tell_totals();
        offer()
    }
    d_step {
        HAVE_MET && ALL_RANKS(BLOCK_WORDS_ARE_THERE, COUNT_WORD); /* gather_totals() */
        note_update();
        store_all(TABLE, op) /* place_chunk() */
    }
}

/* Payload; with rows, which are fp8, their scales into the peers' staging memory (scales.cuh). */
inline store(what, value)
{
    d_step {
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
    d_step {
        fence(what);
        store_progress(mark)
    }
#endif
}

/* progress_await() of this block's tokens */
#ifdef SEED_NO_AWAIT
#define TOKENS_ARE_THERE(mark) true
#else
#define TOKEN_IS_THERE(rank, mark) (progress[PAIR(me, rank, b, BLOCKS)] == (mark))
#define TOKENS_ARE_THERE(mark)     ALL_RANKS(TOKEN_IS_THERE, mark)
#endif

/* What an exchange reads of that: expect_of_lane(), token_pool, find_ranges(), write_counts() */
inline expect_notes()
{
    d_step {
        expect_own(FIRST_ROWS, routing);
        assert(needs[me] == routing && expert_counts[me] == routing)
    }
}

/* exchange_by_rank() */
inline dispatch_by_rank()
{
#ifdef SEED_SCALES_FIRST
    store_all(STAGING, 2 * op);
#endif
#ifdef SEED_PAYLOAD_FIRST
    store(ROWS, op);
    HAVE_MET;
#else
    HAVE_MET;
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
    HAVE_RAISED(PAYLOAD);
    expect_all(TABLE, routing);
    expect_all(STAGING, 2 * op) /* turn_scales() */
}

/* exchange_by_expert(): nobody waits for what other blocks wait for. */
inline dispatch_by_expert()
{
#ifdef SEED_SCALES_FIRST
    store_all(STAGING, 2 * op);
#endif
    HAVE_MET;
    send_tokens(ROWS, op, 2 * op);
    expect_share(TABLE, routing); /* find_token() */
    TOKENS_ARE_THERE(2 * op);
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
    HAVE_MET;
    expect_all(TABLE, routing); /* arrival_work */
    send_tokens(STAGING, 2 * op, 2 * op);
    TOKENS_ARE_THERE(2 * op);
    expect_share(STAGING, 2 * op); /* sum_token() */
    expect_share(STAGING, 2 * op); /* still at it */
#ifndef SEED_NO_FOLLOWED
    raise(STAGING, FOLLOWED);
    HAVE_RAISED(FOLLOWED);
#endif
    send_tokens(STAGING, 2 * op + 1, 2 * op + SECOND);
    TOKENS_ARE_THERE(2 * op + SECOND);
    expect_share(STAGING, 2 * op + 1)
}

#include "cuda_dispatch_routing.pml"

/* The last block to leave: what follows in the stream, the caller's experts. */
inline read_received()
{
    if
    :: routing != 0 && (kind[op] == DISPATCH_BY_RANK || kind[op] == DISPATCH_BY_EXPERT) ->
        expect_all(ROWS, op)
    :: kind[op] == DISPATCH_ROUTING ->
        d_step {
            expect_all(ROWS, op);
            expect_pooled();
            assert(expert_counts[me] == op)
        }
    :: else
    fi
}

/* operation_leave(); then what follows in the stream, and the next kernel. */
inline leave()
{
    d_step {
        arrive(FIRST_ROWS, b);
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
#ifndef SEED_ARRIVED_KEPT
            arrived[me] = 0;
#endif
#ifndef SEED_TOLD_KEPT
            told[me] = 0;
#endif
#ifndef SEED_POOL_KEPT
            pool[me] = 0;
#endif
            last = false
        }
        read_received();
        epoch[me] = op
    :: else
    fi
}

/* Whatever goes along the routing at hand; without one all ranks refuse: exchange_agree(). */
inline exchange()
{
    offer();
    if
    :: routing == 0 -> HAVE_MET
    :: else ->
        expect_notes();
        if
        :: kind[op] == DISPATCH_BY_RANK -> dispatch_by_rank()
        :: kind[op] == DISPATCH_BY_EXPERT -> dispatch_by_expert()
        :: kind[op] == COMBINE -> combine()
        fi
    fi
}

proctype block(byte me; byte b)
{
    byte op, routing, i, k;
    bool last, draws;
    do
    :: op == OPS -> break
    :: else ->
        atomic {
            epoch[me] >= op; /* the kernel before has ended */
            op++             /* operation_begin() */
        }
        if
        :: kind[op] == UPDATE -> update(); routing = op
        :: kind[op] >= DISPATCH_ROUTING -> dispatch_routing()
        :: else -> exchange()
        fi;
        leave()
    od
}

init {
    byte n;
    atomic {
        for (n : 1 .. OPS) {
            if
#ifndef NO_ROUTING
            :: kind[n] = DISPATCH_ROUTING
            :: n > 1 -> kind[n] = CALL_REFUSED
            :: n > 1 -> kind[n] = ROUTING_REFUSED
#endif
#ifdef BESIDE
            :: n > 1 || BESIDE == UPDATE -> kind[n] = BESIDE
#else
            :: kind[n] = UPDATE
            :: n > 1 -> kind[n] = DISPATCH_BY_RANK
            :: n > 1 -> kind[n] = DISPATCH_BY_EXPERT
            :: n > 1 -> kind[n] = COMBINE
#endif
            fi
        }
        for (n : 0 .. (RANKS * BLOCKS - 1)) {
            run block(n / BLOCKS, n % BLOCKS);
#ifndef NO_ROUTING
            run others(n / BLOCKS, n % BLOCKS)
#endif
        }
    }
}
