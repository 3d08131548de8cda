/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One low-latency route of docs/protocol.md as a SPIN model: RANKS ranks make OPS calls of any kinds,
 * two dispatches or two combines in a row among them. Every step names the function that makes it
 * (src/transport/shm/signal.c, src/exchange/shm/low_latency.c, combine.c). What is checked:
 *
 *   - a message is not overwritten before all have read it, nor read before it was written
 *   - a slot is not read before it was written, nor overwritten before its rank's next call
 *   - y is not read before it was offered, nor changed before all have read it
 *   - nobody waits for ever
 *
 * A dispatch's two halves are the same steps with anything between them, which SPIN tries. Sleeping
 * and failures are those of operation.pml and left out here. What a GPU pushes in combine, partials
 * into staging rows at home, follows the rules of a dispatch's slots. SEED_... puts a known bug in;
 * run_spin.sh expects each to be found.
 */
#ifndef RANKS
#define RANKS 2
#endif
#ifndef OPS
#define OPS 4
#endif

/* Kinds of calls. */
#define DISPATCH 1 /* rows go into the peers' slots */
#define COMBINE  2 /* rows are read out of the peers' windows */

#ifdef SEED_SINGLE_BANK
#define BANK(rank) (2 * (rank))
#else
#define BANK(rank) (2 * (rank) + op % 2)
#endif
#define SLOT(to, from) (RANKS * (to) + (from))

#define POSTED            0
#define FINISHED          1
#define WORD(which, rank) ((which) * RANKS + (rank))

byte kind[OPS + 1];

/* shm_line_t of each rank. A message or row holds the number of its call, 0 while it is written. */
byte word[2 * RANKS];
byte message[2 * RANKS];

byte slot[RANKS * RANKS];
byte y[RANKS];

/* wait_for_all(): every peer has come to `wanted`. */
inline wait_for_all(which, wanted)
{
    i = 0;
    do
    :: i == RANKS -> i = 0; break
    :: i < RANKS && (i == me || word[WORD(which, i)] >= wanted) -> i++
    od
}

/* read_messages(), read_bodies(), offer_map() */
inline read_messages()
{
    i = 0;
    do
    :: i == RANKS -> i = 0; break
    :: else -> assert(message[BANK(i)] == op); i++
    od
}

/* push_rows() */
inline push_rows()
{
    i = 0;
    do
    :: i == RANKS -> i = 0; break
    :: else ->
        slot[SLOT(i, me)] = 0;
        slot[SLOT(i, me)] = op;
        i++
    od;
    written = op
}

/* spread_rows(), or the caller's experts, at the last moment before the next call */
inline read_slots()
{
    i = 0;
    do
    :: i == RANKS -> i = 0; break
    :: else -> assert(slot[SLOT(me, i)] == op); i++
    od
}

/* send_rows(), receive_rows() */
inline dispatch()
{
#ifdef SEED_NO_CREDIT
    skip;
#else
    if /* signal_await_credit() */
#ifdef SEED_CREDIT_TOO_EARLY
    :: written > 0 -> wait_for_all(POSTED, written)
#else
    :: written > 0 -> wait_for_all(POSTED, written + 1)
#endif
    :: else
    fi;
#endif
#ifdef SEED_PUBLISH_FIRST
    word[WORD(FINISHED, me)] = op;
    push_rows();
#else
    push_rows();
    word[WORD(FINISHED, me)] = op; /* signal_say_finished() */
#endif
#ifndef SEED_NO_RECEIVE_WAIT
    wait_for_all(FINISHED, op); /* signal_receive() */
#endif
    read_messages();
    read_slots()
}

/* shm_combine() */
inline combine()
{
#ifndef SEED_NO_MEET_WAIT
    wait_for_all(POSTED, op);
#endif
    read_messages();
    i = 0;
    do
    :: i == RANKS -> i = 0; break
    :: else -> assert(y[i] == op); i++
    od;
    word[WORD(FINISHED, me)] = op;
#ifndef SEED_NO_FINISH_WAIT
    wait_for_all(FINISHED, op);
#endif
    y[me] = 0 /* the caller's again */
}

proctype rank(byte me)
{
    byte op, i, written;
    do
    :: op == OPS -> break
    :: else ->
        if /* the experts have run */
        :: kind[op + 1] == COMBINE -> y[me] = op + 1
        :: else
        fi;
        op++; /* signal_begin() */
        message[BANK(me)] = 0;
        message[BANK(me)] = op;
        word[WORD(FINISHED, me)] = op - 1; /* signal_post() */
        word[WORD(POSTED, me)] = op;
        if
        :: kind[op] == DISPATCH -> dispatch()
        :: kind[op] == COMBINE -> combine()
        fi
    od
}

init {
    byte n;
    atomic {
        for (n : 1 .. OPS) {
            if
            :: kind[n] = DISPATCH
            :: kind[n] = COMBINE
            fi
        }
        for (n : 0 .. (RANKS - 1)) {
            run rank(n)
        }
    }
}
