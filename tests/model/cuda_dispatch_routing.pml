/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part of cuda_operation.pml: a dispatch that brings its routing (dispatch_routing.cuh and what it
 * includes). A block is two processes here: block() is its warps that send rows, others() those that
 * do not: they make the offer, in the first block, and write tables, in all.
 */

/* gather_counts() */
#ifdef SEED_NO_GATHER
#define HAVE_GATHERED true
#else
#define HAVE_GATHERED ALL_RANKS(BLOCK_WORDS_ARE_THERE, CHUNK_WORD)
#endif

/* take_chunk_count(): the counts are those of this routing. */
inline expect_counts()
{
    d_step {
        for (k : 0 .. (RANKS * BLOCKS - 1)) {
            assert(word[WORD(me, k / BLOCKS, CHUNK_WORD + k % BLOCKS)] == op)
        }
        k = 0
    }
}

/* begin_routing(): a block's counts, and at the same time, by other warps, the first block's offer */
inline begin_routing()
{
    d_step {
        if
        :: b == 0 -> duty[me * BLOCKS + b] = MAKE_OFFER
        :: else
        fi;
        store_words(CHUNK_WORD + b) /* publish_counts() */
    }
#ifdef SEED_ROWS_FIRST
    if
    :: kind[op] == DISPATCH_ROUTING -> store(ROWS, op)
    :: else
    fi;
#endif
#ifdef SEED_TABLES_FIRST
    HAVE_GATHERED;
    if
    :: kind[op] != ROUTING_REFUSED -> store_all(TABLE, op)
    :: else
    fi;
#endif
}

/* write_tables(), by the other warps: what note_rows() and tell_rank() store is on its way now. */
inline begin_tables()
{
    d_step {
        duty[me * BLOCKS + b] = WRITE_TABLES;
#ifdef SEED_ARRIVED_FIRST
        arrived[me]++;
#endif
        store_all(FIRST_ROWS, op);
#ifndef SEED_TABLES_FIRST
        store_all(TABLE, op)
#endif
    }
}

/* send_fresh_rows(): own tokens; then that of the pool, if no other block has drawn it. */
inline begin_rows()
{
    d_step {
#ifndef SEED_ROWS_FIRST
        store(ROWS, op);
#endif
        if
        :: pool[me] == 0 ->
            pool[me] = 1; /* draw() */
            draws = true
        :: else
        fi
    }
}

#ifdef SEED_NO_FIRST_ROWS
#define HAVE_FIRST_ROWS true
#else
#define HAVE_FIRST_ROWS (arrived[me] >= BLOCKS)
#endif

/* advance_any() */
inline send_pooled()
{
    if
    :: draws ->
        d_step {
            HAVE_FIRST_ROWS; /* await_first_rows() */
            expect_own(FIRST_ROWS, op);
            store_all(POOLED, op);
            draws = false
        }
    :: else
    fi
}

/* operation_raise(), for which all warps of the block meet */
inline raise_rows()
{
#ifdef SEED_FLAG_FIRST
    store_flags(PAYLOAD);
#endif
    d_step {
        duty[me * BLOCKS + b] == NOTHING;
#ifndef SEED_NO_POOL_FENCE
        arrive(POOLED, b);
#endif
        raise(ROWS, PAYLOAD)
    }
}

/* dispatch_routing() */
inline dispatch_routing()
{
    begin_routing();
    d_step {
        HAVE_GATHERED && HAVE_MET && duty[me * BLOCKS + b] == NOTHING; /* all warps meet */
        expect_counts();
        if
        :: kind[op] == ROUTING_REFUSED -> routing = 0 /* agree_on_routing() */
        :: else ->
            routing = op;
            begin_tables();
            if
            :: kind[op] == DISPATCH_ROUTING -> begin_rows()
            :: else
            fi
        fi
    }
    if
    :: routing == op ->
        send_pooled();
        raise_rows();
        d_step {
            HAVE_RAISED(PAYLOAD);
            if
            :: kind[op] == DISPATCH_ROUTING -> expect_all(STAGING, 2 * op) /* turn_received_scales() */
            :: else
            fi
        }
    :: else
    fi
}

/* note_rows() is done, and says so. */
inline note_first_rows()
{
    d_step {
#ifndef SEED_NO_FIRST_ROWS_FENCE
        arrive(FIRST_ROWS, b);
#endif
#ifndef SEED_ARRIVED_FIRST
        arrived[me]++;
#endif
#ifdef SEED_TABLES_FLAG_FIRST
        store_flags(TABLES)
#endif
    }
}

/* note_row_counts() */
inline note_row_counts()
{
    if
    :: b == 0 -> needs[me] = op
    :: else
    fi
}

/* exchange_expert_counts(), by the last block to come here: those of this rank ... */
inline begin_expert_counts()
{
    told[me]++;
    if
    :: told[me] == BLOCKS ->
        last = true;
        assert(expert_sums[me] == BLOCKS);
#ifndef SEED_SUMS_KEPT
        expert_sums[me] = 0;
#endif
        store_words(COUNT_WORD)
    :: else
    fi
}

/* note_row_counts() and tell_group() are done: raise_flag() */
inline tell_tables()
{
    d_step {
#ifndef SEED_LATE_NEEDS
        note_row_counts();
#endif
#ifndef SEED_TOLD_FIRST
        expert_sums[me]++; /* note_slots() */
#endif
#ifndef SEED_NO_TABLES_FENCE
        arrive(TABLE, b);
#endif
#ifndef SEED_TABLES_FLAG_FIRST
        store_flags(TABLES);
#endif
        begin_expert_counts()
    }
#ifdef SEED_LATE_NEEDS
    note_row_counts();
#endif
#ifdef SEED_TOLD_FIRST
    expert_sums[me]++;
#endif
}

#ifdef SEED_NO_EXPERTS_AWAIT
#define HAVE_EXPERTS true
#else
#define HAVE_EXPERTS (!last || ALL_RANKS(WORD_IS_THERE, COUNT_WORD))
#endif

/* ... and those of all ranks, and count_local_experts() */
inline end_expert_counts()
{
    d_step {
        HAVE_EXPERTS;
        if
        :: last ->
            assert(ALL_RANKS(WORD_IS_THERE, COUNT_WORD));
            expert_counts[me] = op;
            last = false
        :: else
        fi
    }
}

#ifdef SEED_NO_TABLES_AWAIT
#define HAVE_TABLES true
#else
#define HAVE_TABLES HAVE_RAISED(TABLES)
#endif

/* await_flags(), write_slots() */
inline write_slots()
{
    d_step {
        HAVE_TABLES;
        if
        :: kind[op] == DISPATCH_ROUTING ->
            assert(needs[me] == op);
            expect_all(TABLE, op)
        :: else
        fi;
        op = 0;
        duty[me * BLOCKS + b] = NOTHING
    }
}

/* The warps of a block that send no rows: store_offer(), write_tables() */
proctype others(byte me; byte b)
{
    byte op, i, k;
    bool last;
end:
    do
    :: d_step {
            duty[me * BLOCKS + b] == MAKE_OFFER ->
            op = epoch[me] + 1;
            offer();
            op = 0;
            duty[me * BLOCKS + b] = NOTHING
        }
    :: d_step {
            duty[me * BLOCKS + b] == WRITE_TABLES ->
            op = epoch[me] + 1;
            note_first_rows()
        }
        tell_tables();
        end_expert_counts();
        write_slots()
    od
}

