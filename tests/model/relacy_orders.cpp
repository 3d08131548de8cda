/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory orders of src/transport/shm/signal.c under Relacy, which runs every thread schedule it
 * tries with every value that the C++ memory model lets a load return. Each exchange of the
 * protocol stands here once with its real orders, which must hold, and once for each order that is
 * weakened, which must be caught. The function whose access it is stands beside each access.
 */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include <relacy/relacy.hpp>
#pragma GCC diagnostic pop

namespace
{

using order_t = rl::memory_order;

constexpr order_t relaxed = rl::mo_relaxed;
constexpr order_t acquire = rl::mo_acquire;
constexpr order_t release = rl::mo_release;
constexpr order_t seq_cst = rl::mo_seq_cst;

/* What a test is to end with. */
constexpr rl::test_result_e holds = rl::test_result_success;
constexpr rl::test_result_e race = rl::test_result_data_race;
constexpr rl::test_result_e broken = rl::test_result_user_assert_failed;

/* Spins until the word has reached `op`. */
void wait_for(rl::atomic<unsigned> &word, unsigned op, order_t order)
{
    rl::linear_backoff backoff;
    while (word.load(order, $) < op) { /* read_word() */
        backoff.yield($);
    }
}

/*
 * A rank writes memory and publishes a word; its peer waits for the word and reads the memory. So
 * do messages and `posted`, pushed rows and `finished`, an error and `revoked`; and, with reading
 * and writing changed about, rows that combine has read and that their owner overwrites next.
 */
template <order_t store, order_t load, bool reads_first, rl::test_result_e result>
struct Handover : rl::test_suite<Handover<store, load, reads_first, result>, 2, result> {
    rl::atomic<unsigned> word;
    rl::var<int> memory;

    void before()
    {
        word.store(0, rl::mo_relaxed, $);
        VAR(memory) = 0;
    }

    void touch(bool reads)
    {
        if (reads) {
            const int value = VAR(memory); /* pull_rows(), judge_messages(), the caller */
            (void)value;
        } else {
            VAR(memory) = 1; /* push_row(), write_body(), the caller */
        }
    }

    void thread(unsigned index)
    {
        if (index == 0) {
            touch(reads_first);
            word.store(1, store, $); /* publish(), signal_revoke() */
        } else {
            wait_for(word, 1, load); /* read_word(), look_for_revokers() */
            touch(!reads_first);
        }
    }
};

/* Falling asleep and waking up. Whoever goes to sleep must have been seen, or have seen the word.
 */
template <order_t word_store, order_t mark_load, order_t mark_store, order_t word_load,
          rl::test_result_e result>
struct Sleeper
    : rl::test_suite<Sleeper<word_store, mark_load, mark_store, word_load, result>, 2, result> {
    rl::atomic<unsigned> word;
    rl::atomic<unsigned> sleeping;
    bool sleeps;
    bool wakes;

    void before()
    {
        word.store(0, rl::mo_relaxed, $);
        sleeping.store(0, rl::mo_relaxed, $);
        sleeps = false;
        wakes = false;
    }

    void thread(unsigned index)
    {
        if (index == 0) {
            word.store(1, word_store, $);             /* publish() */
            wakes = sleeping.load(mark_load, $) != 0; /* publish() */
        } else {
            sleeping.store(1, mark_store, $);     /* wait_asleep() */
            sleeps = word.load(word_load, $) < 1; /* wait_asleep() */
        }
    }

    void after()
    {
        RL_ASSERT(wakes || !sleeps);
    }
};

/* Messages of three meetings in a row, each rank reading its peer's: the banks are used again. */
template <unsigned bank_count, order_t store, rl::test_result_e result>
struct Banks : rl::test_suite<Banks<bank_count, store, result>, 2, result> {
    rl::atomic<unsigned> posted[2];
    rl::var<unsigned> banks[2][2];

    void before()
    {
        for (unsigned rank = 0; rank < 2; rank++) {
            posted[rank].store(0, rl::mo_relaxed, $);
            VAR(banks[rank][0]) = 0;
            VAR(banks[rank][1]) = 0;
        }
    }

    void thread(unsigned rank)
    {
        for (unsigned op = 1; op <= 3; op++) {
            VAR(banks[rank][op % bank_count]) = op; /* signal_begin() */
            posted[rank].store(op, store, $);       /* signal_meet(), publish() */
            wait_for(posted[1 - rank], op, acquire);
            const unsigned message = VAR(banks[1 - rank][op % bank_count]); /* judge_messages() */
            RL_ASSERT(message == op);
        }
    }
};

bool failed = false;

/*
 * Runs one test: every schedule there is, or many random ones. Relacy replaces the global operator
 * new, so its reports go to the console or nowhere, never into a string.
 */
template <typename test_t> void check(const char *name, rl::scheduler_type_e search)
{
    std::ostream nowhere(nullptr);
    rl::test_params params;
    params.search_type = search;
    params.iteration_count = 20000;
    params.progress_stream = &nowhere;
    params.output_stream = &nowhere;
    const bool is_seeded = test_t::params::expected_result != rl::test_result_success;
    const bool passed = rl::simulate<test_t>(params);
    std::printf("%s: %s%s\n", passed ? "ok" : "FAILED", is_seeded ? "found: " : "", name);
    if (!passed) {
        failed = true;
        params.output_stream = &std::cout;
        (void)rl::simulate<test_t>(params);
    }
}

} // namespace

int main()
{
    check<Handover<seq_cst, acquire, false, holds>>("written, published, read", rl::sched_full);
    check<Handover<seq_cst, acquire, true, holds>>("read, published, overwritten", rl::sched_full);
    check<Handover<release, acquire, false, holds>>("an error, then revoked", rl::sched_full);
    check<Handover<relaxed, acquire, false, race>>("publishing relaxed", rl::sched_full);
    check<Handover<relaxed, acquire, true, race>>("publishing relaxed after reading",
                                                  rl::sched_full);
    check<Handover<seq_cst, relaxed, false, race>>("waiting relaxed", rl::sched_full);
    check<Handover<seq_cst, relaxed, true, race>>("waiting relaxed before overwriting",
                                                  rl::sched_full);

    check<Sleeper<seq_cst, seq_cst, seq_cst, seq_cst, holds>>("a sleeper is woken", rl::sched_full);
    check<Sleeper<release, acquire, release, acquire, broken>>("sleeping with release, acquire",
                                                               rl::sched_full);
    check<Sleeper<release, seq_cst, seq_cst, seq_cst, broken>>("storing the word with release",
                                                               rl::sched_full);
    check<Sleeper<seq_cst, seq_cst, release, seq_cst, broken>>("marking with release",
                                                               rl::sched_full);

    check<Banks<2, seq_cst, holds>>("two banks", rl::sched_random);
    check<Banks<1, seq_cst, race>>("one bank", rl::sched_random);
    check<Banks<2, relaxed, race>>("two banks, posted relaxed", rl::sched_random);
    return failed ? 1 : 0;
}
