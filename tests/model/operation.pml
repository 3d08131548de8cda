/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of docs/protocol.md as a SPIN model: RANKS ranks run OPS operations of any kinds.
 * Every step names the function of src/transport/shm/signal.c that makes it. What is checked:
 *
 *   - a message is not overwritten before all have read it, nor read before it was written
 *   - a payload is neither read before it was written nor overwritten before it was read
 *   - nobody sleeps for ever: without a failure, even if a sleep had no time limit
 *   - with FAILURES > 0 (ranks that die, or give the group up): every survivor comes back, and
 *     nobody gives up on a peer when none has failed
 *
 * SPIN is sequentially consistent: memory orders are for relacy_orders.cpp. Deadlines are not
 * modelled. SEED_... puts a known bug in; run.sh has the list and expects each to be found.
 */
#ifndef RANKS
#define RANKS 2
#endif
#ifndef OPS
#define OPS 4
#endif
#ifndef FAILURES
#define FAILURES 0
#endif

/* Kinds of operations. */
#define MEETING  0 /* barrier, allgather, route update: ends with the meeting */
#define DISPATCH 1 /* rows go into the peers' windows */
#define COMBINE  2 /* rows are read out of the peers' windows */

#define POSTED        0
#define FINISHED      1
#define AWAKE         255
#define WORD(which, rank) ((which) * RANKS + (rank))
#ifdef SEED_SINGLE_BANK
#define BANK(rank) (2 * (rank))
#else
#define BANK(rank) (2 * (rank) + op % 2)
#endif
#define ROW(to, from) (RANKS * (to) + (from))

byte kind[OPS + 1];

/* shm_control_t of each rank. A message, row or time holds the number of its operation. */
byte word[2 * RANKS];
bool sleeping[RANKS];
bool revoked[RANKS];
bool error[RANKS];
byte message[2 * RANKS];
byte work[2 * RANKS];

/* The callers' memory. */
byte rows[RANKS * RANKS]; /* received from each peer */
byte y[RANKS];            /* offered to the peers */

/* The kernel. */
byte asleep_on[RANKS];
bool ended[RANKS];

byte failures_left = FAILURES;
bool has_failed;

/* fault_point(): the places where a test build kills a rank. */
inline fault_point()
{
#if FAILURES > 0
    if
    :: atomic { failures_left > 0 -> failures_left--; has_failed = true; goto gone }
    :: true
    fi
#else
    skip
#endif
}

/* futex_wake_all() */
inline futex_wake_all(which)
{
    atomic {
        k = 0;
        do
        :: k == RANKS -> break
        :: else ->
            if
            :: asleep_on[k] == WORD(which, me) -> asleep_on[k] = AWAKE
            :: else
            fi;
            k++
        od;
        k = 0
    }
}

inline look_at_sleepers(which)
{
    k = 0;
    do
    :: k == RANKS -> k = 0; break
    :: k < RANKS && (k == me || !sleeping[k]) -> k++
    :: k < RANKS && k != me && sleeping[k] -> futex_wake_all(which); break
    od
}

/* publish() */
inline publish(which)
{
#ifdef SEED_LOOK_BEFORE_STORE
    k = 0;
    do
    :: k == RANKS -> found = false; break
    :: k < RANKS && (k == me || !sleeping[k]) -> k++
    :: k < RANKS && k != me && sleeping[k] -> found = true; break
    od;
    k = 0;
    word[WORD(which, me)] = op;
    if
    :: found -> futex_wake_all(which)
    :: else
    fi
#else
    word[WORD(which, me)] = op;
    fault_point();
    look_at_sleepers(which)
#endif
}

/* look_for_revokers(); signal_begin() calls it too. */
inline look_for_revokers()
{
#if FAILURES > 0
    k = 0;
    do
    :: k == RANKS -> k = 0; break
    :: k < RANKS && !revoked[k] -> k++
    :: k < RANKS && revoked[k] -> assert(error[k]); goto revoke
    od
#else
    skip
#endif
}

/* look_after_peers() */
inline look_after_peers(which)
{
    look_for_revokers();
    k = 0;
    do
    :: k == RANKS -> k = 0; break
    :: k < RANKS && (k == me || word[WORD(which, k)] >= op) -> k++
    :: k < RANKS && k != me && word[WORD(which, k)] < op ->
        if
        :: !ended[k] -> k++ /* has_ended() */
        :: else ->
            if
#ifndef SEED_NO_SECOND_LOOK
            :: word[WORD(which, k)] >= op -> k++
#endif
            :: else -> assert(has_failed); goto revoke /* give_up_on() */
            fi
        fi
    od
}

/* wait_asleep() */
inline wait_asleep(which)
{
    sleeping[me] = true;
#ifdef SEED_NO_RECHECK
    asleep_on[me] = WORD(which, peer);
#else
    seen = word[WORD(which, peer)];
    if
    :: seen < op -> /* futex_sleep(): the kernel compares the word again */
        atomic {
            if
            :: word[WORD(which, peer)] == seen -> asleep_on[me] = WORD(which, peer)
            :: else
            fi
        }
    :: else
    fi;
    seen = 0;
#endif
    if
    :: asleep_on[me] == AWAKE
#ifndef SEED_NO_SLICE
    :: has_failed -> asleep_on[me] = AWAKE /* SLEEP_SLICE_NS */
#endif
    fi;
    sleeping[me] = false
}

/* wait_for_all(), wait_for_word() */
inline wait_for_all(which)
{
    i = 1;
    do
    :: i == RANKS -> i = 0; peer = 0; break
    :: else ->
        peer = (me + i) % RANKS;
        do
        :: word[WORD(which, peer)] >= op -> break
        :: else -> look_after_peers(which); wait_asleep(which)
        od;
        i++
    od
}

/* judge_messages(), read_counts(), offer_map(): the messages are those of this operation. */
inline read_messages()
{
    atomic {
        k = 0;
        do
        :: k == RANKS -> break
        :: else -> assert(message[BANK(k)] == op); k++
        od;
        k = 0
    }
}

inline read_messages_again()
{
#ifdef SEED_NO_MEET_WAIT
    skip
#else
    read_messages()
#endif
}

inline dispatch_rows()
{
    k = 0;
    do
    :: k == RANKS -> k = 0; break
    :: else -> rows[ROW(k, me)] = op; k++
    od
}

inline combine_rows()
{
    k = 0;
    do
    :: k == RANKS -> k = 0; break
    :: else -> assert(y[k] == op); k++
    od
}

inline read_rows()
{
    k = 0;
    do
    :: k == RANKS -> k = 0; break
    :: else -> assert(rows[ROW(me, k)] == op); k++
    od
}

/* dispatch.c: push; combine.c: pull_rows() */
inline move_payload()
{
    if
    :: kind[op] == DISPATCH -> dispatch_rows()
    :: kind[op] == COMBINE -> combine_rows()
    fi
}

/* signal_finish() */
inline finish()
{
    fault_point();
    work[2 * me + op % 2] = op;
    publish(FINISHED);
    fault_point();
#ifdef SEED_NO_FINISH_WAIT
    skip
#else
    wait_for_all(FINISHED);
    atomic {
        k = 0;
        do
        :: k == RANKS -> break
        :: else -> assert(work[2 * k + op % 2] == op); k++
        od;
        k = 0
    }
#endif
}

proctype rank(byte me)
{
    byte op, i, k, peer, seen;
#ifdef SEED_LOOK_BEFORE_STORE
    bool found;
#endif
    do
    :: op == OPS -> goto gone
    :: else ->
        if /* the caller prepares its buffers */
        :: kind[op + 1] == COMBINE -> y[me] = op + 1
        :: else
        fi;
        look_for_revokers();
        op++; /* signal_begin() */
        fault_point();
        message[BANK(me)] = 0; /* half written */
        message[BANK(me)] = op;
        word[WORD(FINISHED, me)] = op - 1; /* signal_meet() */
        publish(POSTED);
        fault_point();
#ifndef SEED_NO_MEET_WAIT
        wait_for_all(POSTED);
        read_messages();
#endif
        if
        :: kind[op] == MEETING -> read_messages_again()
        :: else ->
#if FAILURES > 0
            if /* offer_map() refuses a buffer */
            :: atomic { failures_left > 0 -> failures_left--; has_failed = true; goto revoke }
            :: true
            fi;
#endif
#ifdef SEED_PUBLISH_FIRST
            finish();
            move_payload();
#else
            move_payload();
            read_messages_again();
            finish();
#endif
            if /* the caller uses what it got, and its buffers again */
            :: kind[op] == DISPATCH -> read_rows()
            :: kind[op] == COMBINE -> y[me] = 0
            fi
        fi;
    od;

revoke: /* signal_revoke() */
#ifdef SEED_REVOKE_BEFORE_ERROR
    revoked[me] = true;
    error[me] = true;
#else
    error[me] = true;
    revoked[me] = true;
#endif
    futex_wake_all(POSTED);
    futex_wake_all(FINISHED);

gone: /* the process ends */
    ended[me] = true
}

init {
    byte n;
    atomic {
        for (n : 1 .. OPS) {
            if
            :: kind[n] = MEETING
            :: kind[n] = DISPATCH
            :: kind[n] = COMBINE
            fi
        }
        for (n : 0 .. (RANKS - 1)) {
            asleep_on[n] = AWAKE
        }
        for (n : 0 .. (RANKS - 1)) {
            run rank(n)
        }
    }
}
