/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One low-latency route on GPUs of docs/protocol.md as a SPIN model: RANKS ranks make OPS calls of
 * any kinds, the same or others in a row, each one kernel of a clerk and BLOCKS blocks that move
 * rows; or, with HALVES, one or two kernels, as each rank likes. With TAGGED the layout is
 * rank_major and partials come in tagged pieces, else it is either and they come with a flag.
 * Without NO_FAULTS any call may be refused, as one rank's arguments or its routing are bad. Every
 * step names the function of src/exchange/cuda (slots*.cuh) that makes it. What is checked:
 *
 *   - no slot, partial, piece, offer or line of counts is read before it was written, nor
 *     overwritten before its reader has read it; where the call is refused nobody cares for its
 *     rows, but what is taken for one of its pieces is one
 *   - no word is overtaken by that of a later call: who waits for it would wait for ever
 *   - all ranks come to the same verdict, and no bad call goes through
 *   - nobody waits for ever, in a refused call neither
 *
 * A block has one token, which goes to every rank or nowhere, so with two blocks a slot is now one's
 * and now the other's. Rows and partials are under way from their first store to the fence; who
 * reads them then finds no call's number. In which order stores arrive without a fence is
 * cuda_operation.pml's. A partial's tagged pieces come one by one, and each is read by itself: number
 * and payload are one store, and nothing is read because of it. Deadlines, revoking and residency
 * are not modelled. SEED_... puts a known bug in; run_spin.sh has the list and expects each to be
 * found.
 */
#ifndef RANKS
#define RANKS 2
#endif
#ifndef BLOCKS
#define BLOCKS 1
#endif
#ifndef OPS
#define OPS 3
#endif

/* Kinds of calls. */
#define DISPATCH 1
#define COMBINE  2

/* What is wrong with a call. */
#define NOTHING             0
#define BAD_ARGUMENTS(rank) (1 + (rank))
#define BAD_ROUTING(rank)   (1 + RANKS + (rank))

/* What a rank writes at a rank: lines of its clerk, and cells of its other blocks, one a token or
 * row. */
#define LINES            (RANKS * RANKS * 2)
#define LINE(to, from)   (((to) * RANKS + (from)) * 2 + op % 2)
#define CELLS            (RANKS * RANKS * BLOCKS)
#define CELL(to, from, i) (((to) * RANKS + (from)) * BLOCKS + (i))

/* A partial's pieces, in the bank of the call. */
#define PIECES              2
#define PIECE_CELL(cell, n) ((cell) * PIECES + (n))
#ifdef SEED_ONE_PIECE_BANK
#define PIECE(to, from, i, n) piece[PIECE_CELL(CELL(to, from, i), n)]
#else
#define PIECE(to, from, i, n) piece[op % 2 * CELLS * PIECES + PIECE_CELL(CELL(to, from, i), n)]
#endif

#ifdef SEED_ONE_OFFER_BANK
#define OFFER(to, from) offer[LINE(to, from) - op % 2]
#else
#define OFFER(to, from) offer[LINE(to, from)]
#endif
#ifdef SEED_ONE_COUNT_BANK
#define COUNT(to, from) count[LINE(to, from) - op % 2]
#else
#define COUNT(to, from) count[LINE(to, from)]
#endif

/* Words hold the number of their call, and what they say. */
#define OFFER_WORD(is_bad)       (2 * op + (is_bad))
#define COUNT_WORD(rows, is_bad) (8 * op + 2 * (rows) + (is_bad))
#define ARRIVED_WORD(rows)       (4 * op + (rows)) /* 0, or 1 + the row */
#define PIECE_WORD(payload)      (8 * op + (payload)) /* of which call the partial is */

/* Words that peers have written here. */
#define HAS_OFFERED(from)  (OFFER(me, from) / 2 == op)
#define HAS_COUNTED(from)  (COUNT(me, from) / 8 == op)
#define HAS_ARRIVED(from)  (ARRIVED(me, from) / 4 == op)
#define HAS_RETURNED(from) (returned[CELL(me, from, row - 1)] == op)
#define HAS_COME(from)     (PIECE(me, from, row - 1, number) / 8 == op)
#define HAS_ENDED(rank)    (ended[rank] >= op)
#define ARRIVED(to, from)  arrived[CELL(to, from, b)]

/* A word is written at one rank after the other. Here all get it together, which is no less strict:
 * who is told later may as well look later. */
#if RANKS > 2
#define OF_ALL(has)             (has(0) && has(1) && has(2))
#define EVERYWHERE(word, value) word(0, me) = value; word(1, me) = value; word(2, me) = value
#else
#define OF_ALL(has)             (has(0) && has(1))
#define EVERYWHERE(word, value) word(0, me) = value; word(1, me) = value
#endif

byte kind[OPS + 1];  /* 0: nobody has come to it */
byte fault[OPS + 1];
byte verdict[OPS + 1]; /* of the first clerk: 0: none yet, else 1 + is_refused */
bool by_expert;        /* the layout */

/* Memory of all ranks that peers write. */
byte offer[LINES];
byte count[LINES];
byte slot[CELLS];
byte arrived[CELLS];
byte partial[CELLS];
byte returned[CELLS];
byte piece[2 * CELLS * PIECES];

/* Memory of each rank for itself. */
byte refused_epoch[RANKS];
byte dispatched[RANKS]; /* the dispatch whose rows are there, 0: none */
byte row_counts[RANKS * RANKS];
byte routing[RANKS]; /* a bit a token: it goes to every rank */
bool is_halved[RANKS];
byte left[RANKS];  /* blocks that have left the kernel */
byte ended[RANKS]; /* the last call whose kernel has ended */

/* Whether a call is refused for what is wrong with it; sends(); what this rank's clerk finds. */
#define IS_BAD(op)      (fault[op] != NOTHING)
#define IS_SENDER       (fault[op] != BAD_ARGUMENTS(me))
#define HAS_BAD_ROUTING (fault[op] == BAD_ROUTING(me))
#define ROWS_OF(mask)   ((mask) % 2 + (mask) / 2)

/* The next call: what it is the ranks have in common, the rest each has for itself. */
inline choose_call(rank, next)
{
    if
    :: next <= OPS && kind[next] == 0 ->
        if
        :: kind[next] = DISPATCH
        :: kind[next] = COMBINE
        fi;
        if
        :: fault[next] = NOTHING
#ifndef NO_FAULTS
        :: fault[next] = BAD_ARGUMENTS(0)
        :: fault[next] = BAD_ARGUMENTS(RANKS - 1)
        :: kind[next] == DISPATCH -> fault[next] = BAD_ROUTING(0)
        :: kind[next] == DISPATCH -> fault[next] = BAD_ROUTING(RANKS - 1)
#endif
        fi
    :: else
    fi;
    if
    :: next <= OPS && kind[next] == DISPATCH ->
        if
        :: routing[rank] = 1
#if BLOCKS > 1
        :: routing[rank] = 2
        :: routing[rank] = 3
#else
        :: routing[rank] = 0
#endif
        fi
    :: else
    fi;
#ifdef HALVES
    if
    :: next <= OPS ->
        if
        :: is_halved[rank] = true
        :: is_halved[rank] = false
        fi
    :: else
    fi
#endif
}

/* The end of a first half's kernel, and the beginning of the second's. */
inline pass_half()
{
#ifdef HALVES
    atomic {
        if
        :: is_halved[me] -> left[me]++; left[me] > BLOCKS
        :: else
        fi
    }
#else
    skip
#endif
}

/* SPIN need not tell apart what nobody can: words of this call and earlier ones, for which nobody
 * waits any more, and rows and partials that nobody reads. */
#define FORGET(cell, of_word) \
    if :: (cell) != 0 && (cell) / (of_word) <= op -> cell = 0 :: else fi

inline forget_pieces(cell)
{
    for (n : 0 .. (PIECES - 1)) {
        FORGET(piece[PIECE_CELL(cell, n)], 8);
        FORGET(piece[PIECE_CELL(CELLS + cell, n)], 8)
    }
    n = 0
}

inline forget()
{
    d_step {
        refused_epoch[me] = 0;
        for (i : 0 .. (RANKS - 1)) {
            FORGET(offer[LINE(me, i)], 2);
            FORGET(count[LINE(me, i)], 8);
            row_counts[me * RANKS + i] = (dispatched[me] == 0 -> 0 : row_counts[me * RANKS + i]);
            for (k : 0 .. (BLOCKS - 1)) {
                FORGET(arrived[CELL(me, i, k)], 4);
                FORGET(returned[CELL(me, i, k)], 1);
                FORGET(partial[CELL(me, i, k)], 1);
                forget_pieces(CELL(me, i, k));
                if
                :: slot[CELL(me, i, k)] != dispatched[me] -> FORGET(slot[CELL(me, i, k)], 1)
                :: else
                fi
            }
        }
        i = 0;
        k = 0
    }
}

/* slots_end() */
inline leave()
{
    left[me]++;
    if
    :: left[me] == (is_halved[me] -> 2 : 1) * (BLOCKS + 1) ->
        left[me] = 0;
        forget();
        choose_call(me, op + 1);
        ended[me] = op;
        if
        :: OF_ALL(HAS_ENDED) -> kind[op] = 0; fault[op] = 0; verdict[op] = 0
        :: else
        fi
    :: else
    fi
}

/* rank_major: the experts have read what came in the last call, at the last moment. */
inline experts_read()
{
    d_step {
        if
        :: dispatched[me] != 0 && dispatched[me] == op - 1 ->
            for (i : 0 .. (RANKS - 1)) {
                for (k : 0 .. (BLOCKS - 1)) {
                    assert(k >= row_counts[me * RANKS + i] || slot[CELL(me, i, k)] == op - 1)
                }
            }
        :: else
        fi;
        i = 0;
        k = 0
    }
}

/* operation_offer() */
inline give_offer()
{
    EVERYWHERE(OFFER, OFFER_WORD(!IS_SENDER))
}

/* send_counts() */
inline send_counts()
{
    EVERYWHERE(COUNT, COUNT_WORD(ROWS_OF(routing[me]), HAS_BAD_ROUTING))
}

/* operation_meet(), judge_calls() */
inline judge_offers()
{
#ifndef SEED_EARLY_VERDICT
    OF_ALL(HAS_OFFERED);
#endif
    for (i : 0 .. (RANKS - 1)) {
        is_refused = is_refused || OFFER(me, i) == OFFER_WORD(1)
    }
    i = 0
}

/* receive_counts() */
inline receive_counts()
{
    OF_ALL(HAS_COUNTED);
    for (i : 0 .. (RANKS - 1)) {
        row_counts[me * RANKS + i] = COUNT(me, i) % 8 / 2;
        is_refused = is_refused || COUNT(me, i) % 2
    }
    i = 0
}

/* clerk_report() */
inline report_verdict()
{
    assert(is_refused || !IS_BAD(op));
    assert(verdict[op] == 0 || verdict[op] == 1 + is_refused);
    verdict[op] = 1 + is_refused;
    if
    :: is_refused -> refused_epoch[me] = op
    :: !is_refused && kind[op] == DISPATCH -> dispatched[me] = op
    :: else
    fi;
    is_refused = false
}

/* clerk_dispatch(), clerk_combine() */
proctype clerk(byte me)
{
    byte op, i, k, n;
    bool is_refused, counts;
    do
    :: op == OPS -> break
    :: op < OPS ->
        atomic {
            ended[me] == op;
            op++; /* slots_begin() */
            experts_read();
            counts = kind[op] == DISPATCH && IS_SENDER;
            if
            :: kind[op] == DISPATCH -> dispatched[me] = 0
            :: else
            fi;
            give_offer()
        }
        if
        :: counts -> atomic { send_counts() }
        :: else
        fi;
        pass_half();
        atomic {
            judge_offers();
            if
            :: kind[op] == DISPATCH && !is_refused -> receive_counts()
            :: kind[op] == COMBINE && dispatched[me] == 0 -> is_refused = true
            :: else
            fi;
            report_verdict();
#ifdef SEED_EARLY_OFFER
            op++;
            EVERYWHERE(OFFER, OFFER_WORD(0));
            op--;
#endif
            leave()
        }
    od
}

/* slots_await() of a word of each rank, unless the call is refused. */
inline await_words(are_there)
{
    if
    :: are_there
#ifndef SEED_NO_VERDICT
    :: !(are_there) && refused_epoch[me] == op -> gives_up = true
#endif
    fi
}

/* await_credit() */
inline await_credit(epoch)
{
    if
    :: epoch != 0 && epoch == op - 1 -> await_words(OF_ALL(HAS_OFFERED))
    :: else
    fi
}

/* A row, or none of a token that goes nowhere, at every rank. */
inline store_rows(value)
{
    for (k : 0 .. (RANKS - 1)) {
        if
        :: row > 0 -> slot[CELL(k, me, row - 1)] = value
        :: else
        fi
    }
    k = 0
}

/* raise_token() */
inline raise_token()
{
    EVERYWHERE(ARRIVED, ARRIVED_WORD(row))
}

/* send_tokens(), until the first store */
inline begin_token()
{
    /* place_token() */
    row = (routing[me] >> b & 1) * (1 + (b == 1 && routing[me] % 2 == 1));
#ifndef SEED_NO_CREDIT_OF_ROWS
#ifdef SEED_NO_CREDIT_OF_ABSENT
    if
    :: row > 0 -> await_credit(rows_epoch)
    :: else
    fi;
#else
    await_credit(rows_epoch);
#endif
#endif
    if
    :: !gives_up ->
#ifdef SEED_ARRIVED_FIRST
        raise_token();
#endif
        store_rows(0)
    :: else
    fi
}

inline finish_token()
{
    store_rows(op);
#ifndef SEED_ARRIVED_FIRST
    raise_token();
#endif
    rows_epoch = op
}

/* receive_tokens(), until the rows are there, and in expert_major the counts for rows_before() */
inline await_token()
{
    await_words(OF_ALL(HAS_ARRIVED));
    if
    :: !gives_up ->
        for (k : 0 .. (RANKS - 1)) {
            came[k] = arrived[CELL(me, k, b)] % 4
        }
        k = 0
    :: else
    fi;
#ifndef SEED_EARLY_PLACE
    if
    :: by_expert && !gives_up && came[1] > 0 -> await_words(HAS_COUNTED(0))
    :: else
    fi;
#if RANKS > 2
    if
    :: by_expert && !gives_up && came[2] > 0 -> await_words(HAS_COUNTED(0) && HAS_COUNTED(1))
    :: else
    fi;
#endif
#endif
    skip
}

/* copy_arrived() */
inline copy_rows()
{
    for (k : 0 .. (RANKS - 1)) {
        if
        :: by_expert && !gives_up && came[k] > 0 ->
            assert(k == 0 || HAS_COUNTED(k - 1) || IS_BAD(op));
            assert(slot[CELL(me, k, came[k] - 1)] == op || IS_BAD(op))
        :: else
        fi;
        came[k] = 0
    }
    k = 0
}

/* homeward(): row k of those that rank i sent here is this block's, and there is one. */
#define IS_MINE(i, k) ((k) < row_counts[me * RANKS + (i)] && \
                       ((k) * RANKS + ((i) + RANKS - 1 - me) % RANKS) % BLOCKS == b)

#ifdef TAGGED
/* One piece of each of this block's partials, to its home. */
inline store_pieces(number, payload)
{
    for (i : 0 .. (RANKS - 1)) {
        for (k : 0 .. (BLOCKS - 1)) {
            if
            :: IS_MINE(i, k) -> PIECE(i, me, k, number) = PIECE_WORD(payload)
            :: else
            fi
        }
    }
    i = 0;
    k = 0
}

/* push_tagged(): the one piece and then the other, and nothing behind them. */
inline begin_partials()
{
#ifdef SEED_TORN_PIECE
    store_pieces(0, 0)
#else
    store_pieces(0, op)
#endif
}

inline finish_partials()
{
#ifdef SEED_TORN_PIECE
    store_pieces(0, op);
#endif
    store_pieces(1, op)
}

/* sum_piece() */
inline take_pieces(number)
{
    if
    :: row > 0 && !gives_up ->
#ifndef SEED_NO_TAG
        await_words(OF_ALL(HAS_COME));
#endif
        for (k : 0 .. (RANKS - 1)) {
            assert(gives_up || PIECE(me, k, row - 1, number) == PIECE_WORD(op))
        }
        k = 0
    :: else
    fi
}

/* sum_tagged() */
inline await_partials()
{
    take_pieces(0)
}

inline sum_partials()
{
    take_pieces(1)
}
#else
/* To the homes of this block's rows; what partials are made of it reads until the last piece. */
inline store_partials(value)
{
    for (i : 0 .. (RANKS - 1)) {
        for (k : 0 .. (BLOCKS - 1)) {
            if
            :: IS_MINE(i, k) ->
                assert(!by_expert || slot[CELL(me, i, k)] == dispatched[me] || IS_BAD(op));
                partial[CELL(i, me, k)] = value
            :: else
            fi
        }
    }
    i = 0;
    k = 0
}

inline raise_partials()
{
    for (i : 0 .. (RANKS - 1)) {
        for (k : 0 .. (BLOCKS - 1)) {
            if
            :: IS_MINE(i, k) -> returned[CELL(i, me, k)] = op
            :: else
            fi
        }
    }
    i = 0;
    k = 0
}

/* push_partials(), until the first store */
inline begin_partials()
{
#ifndef SEED_NO_CREDIT_OF_PARTIALS
    await_credit(partials_epoch);
#endif
    if
    :: !gives_up ->
#ifdef SEED_RETURNED_FIRST
        raise_partials();
#endif
        store_partials(0)
    :: else
    fi
}

/* send_partials() */
inline finish_partials()
{
    store_partials(op);
#ifndef SEED_RETURNED_FIRST
    raise_partials();
#endif
    partials_epoch = op
}

/* await_partials() */
inline await_partials()
{
    if
    :: row > 0 && !gives_up -> await_words(OF_ALL(HAS_RETURNED))
    :: else
    fi
}

/* sum_token() */
inline sum_partials()
{
    if
    :: row > 0 && !gives_up ->
        for (k : 0 .. (RANKS - 1)) {
            assert(partial[CELL(me, k, row - 1)] == op || IS_BAD(op))
        }
        k = 0
    :: else
    fi
}
#endif

/* A block that moves rows; `row`: 1 + that of its token at every rank, 0: none. What is between the
 * first store and the last is under way. */
proctype mover(byte me; byte b)
{
    byte op, i, k, n, row, rows_epoch, partials_epoch;
    byte came[RANKS];
    bool dispatches, combines, sends, gives_up;
    do
    :: op == OPS -> break
    :: op < OPS ->
        atomic {
            ended[me] == op;
            op++; /* slots_begin() */
            dispatches = kind[op] == DISPATCH;
            combines = kind[op] == COMBINE && dispatched[me] != 0;
            sends = IS_SENDER;
            if
            :: dispatches && sends -> begin_token()
            :: combines && sends -> begin_partials()
            :: else
            fi;
            d_step {
                row = (dispatches && sends || combines -> row : 0);
                rows_epoch = (rows_epoch == op - 1 -> 0 : rows_epoch);
                partials_epoch = (partials_epoch == op - 1 -> 0 : partials_epoch)
            }
        }
        if
        :: dispatches && sends && !gives_up -> atomic { finish_token() }
        :: combines && sends && !gives_up -> atomic { finish_partials() }
        :: else
        fi;
        pass_half();
        atomic {
            if
            :: dispatches && !gives_up -> await_token()
            :: combines && sends -> await_partials()
            :: else
            fi
        }
        atomic {
            if
            :: dispatches -> copy_rows()
            :: combines && sends -> sum_partials()
            :: else
            fi;
            gives_up = false;
            leave()
        }
    od
}

init {
    byte n;
    atomic {
        if
#ifndef TAGGED
        :: by_expert = true
#endif
        :: by_expert = false
        fi;
        for (n : 0 .. (RANKS - 1)) {
            choose_call(n, 1)
        }
        for (n : 0 .. (RANKS - 1)) {
            run clerk(n)
        }
        for (n : 0 .. (RANKS * BLOCKS - 1)) {
            run mover(n / BLOCKS, n % BLOCKS)
        }
    }
}
