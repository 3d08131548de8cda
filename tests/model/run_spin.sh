#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks operation.pml, low_latency.pml, cuda_operation.pml (which includes cuda_dispatch_routing.pml)
# and cuda_low_latency.pml: the protocols hold, and every bug that can be seeded into them is found.
#
#   run_spin.sh [--full | --long]
#
# Without an option: 2 ranks (a minute). --full: 3 ranks and more calls too (1 GB, two minutes). --long: 3 ranks for
# as many operations as use a bank again (3 GB, minutes), and nothing else.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)
model=$folder/operation.pml
for tool in spin cc; do
    command -v $tool >/dev/null || { echo "skipped: there is no $tool here"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failures=0

# search OPTIMISATION DEFINE...: pan.log has what SPIN found; true when every state was visited without
# an error.
search() {
    spin -a "${@:2}" "$model" >spin.log || { cat spin.log; exit 1; }
    cc "$1" -w -DSAFETY -DCOLLAPSE -o pan pan.c
    ./pan -m100000 >pan.log
    if grep -qE 'max search depth too small|out of memory' pan.log; then
        cat pan.log
        exit 1
    fi
    grep -qE 'errors: 0$' pan.log
}

states() {
    sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.log
}

# holds DEFINE...
holds() {
    if search -O1 "$@"; then
        echo "ok: $* ($(states) states)"
    else
        echo "FAILED: $*"
        grep -m 3 '^pan' pan.log || true
        failures=$((failures + 1))
    fi
}

# finds BUG DEFINE...: most are found at once, and compiling takes longer than the search.
finds() {
    if search -O0 "-DSEED_$1" "${@:2}"; then
        echo "FAILED: seeded and not found: $*"
        failures=$((failures + 1))
    else
        echo "ok: found $1: $(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' pan.log)"
    fi
}

if [ "${1-}" = --long ]; then
    holds -DRANKS=3 -DOPS=3
    holds -DRANKS=3 -DOPS=2 -DFAILURES=1
    model=$folder/low_latency.pml
    holds -DRANKS=3 -DOPS=4
    holds -DRANKS=2 -DOPS=8
    model=$folder/cuda_operation.pml
    holds -DRANKS=3 -DBLOCKS=2 -DOPS=2
    holds -DRANKS=2 -DBLOCKS=2 -DOPS=4
    model=$folder/cuda_low_latency.pml
    holds -DRANKS=3 -DOPS=1
    holds -DRANKS=3 -DOPS=2 -DNO_FAULTS
    holds -DRANKS=2 -DOPS=2 -DHALVES
    holds -DRANKS=2 -DOPS=2 -DBLOCKS=2 -DNO_FAULTS
    holds -DTAGGED -DRANKS=3 -DOPS=4 -DNO_FAULTS
    holds -DTAGGED -DRANKS=2 -DOPS=3 -DHALVES
    holds -DTAGGED -DRANKS=2 -DOPS=4 -DBLOCKS=2 -DNO_FAULTS
    [ $failures -eq 0 ]
    exit
fi

holds -DRANKS=2 -DOPS=4
holds -DRANKS=2 -DOPS=4 -DFAILURES=1
if [ "${1-}" = --full ]; then
    holds -DRANKS=3 -DOPS=2
    holds -DRANKS=3 -DOPS=1 -DFAILURES=1
fi

finds SINGLE_BANK -DOPS=3         # one bank for all messages
finds PUBLISH_FIRST -DOPS=3       # `finished` is published before the payload moves
finds NO_FINISH_WAIT -DOPS=3      # nobody waits for `finished`
finds NO_MEET_WAIT -DOPS=3        # nobody waits for `posted`
finds LOOK_BEFORE_STORE -DOPS=3   # publish() looks at the sleepers before it stores the word
finds NO_RECHECK -DOPS=3          # a sleeper does not look at the word again
finds NO_SLICE -DFAILURES=1 -DOPS=2            # a sleep has no limit, and the peer dies
finds NO_SECOND_LOOK -DFAILURES=1 -DOPS=2      # a peer's end counts for more than its last word
finds REVOKE_BEFORE_ERROR -DFAILURES=1 -DOPS=2 # revoked before the error is written

model=$folder/low_latency.pml
holds -DRANKS=2 -DOPS=6
holds -DRANKS=3 -DOPS=3

finds SINGLE_BANK        # one bank for all messages
finds NO_CREDIT          # rows go out without a look at what the receiver has begun
finds CREDIT_TOO_EARLY   # the receiver has begun the call that the rows were for, but no later one
finds PUBLISH_FIRST      # `finished` is published before the rows are written
finds NO_RECEIVE_WAIT    # a dispatch does not wait for its rows
finds NO_MEET_WAIT       # a combine does not wait for `posted`
finds NO_FINISH_WAIT     # a combine does not wait until its y was read

model=$folder/cuda_operation.pml
holds -DRANKS=2 -DBLOCKS=2 -DOPS=3
if [ "${1-}" = --full ]; then
    holds -DRANKS=3 -DBLOCKS=1 -DOPS=4
fi

# Without dispatches that bring their routing.
finds SINGLE_BANK -DNO_ROUTING     # one bank for all words
finds NO_MEET -DNO_ROUTING         # nobody waits for offers
finds PAYLOAD_FIRST -DNO_ROUTING   # a dispatch writes before the offers of its receivers
finds SCALES_FIRST -DNO_ROUTING    # it writes scales into staging memory before them
finds NO_OFFER_FENCE -DNO_ROUTING  # an offer that does not wait for the rows of the update before
finds FLAG_FIRST -DNO_ROUTING      # a flag before its payload
finds NO_RAISE_FENCE -DNO_ROUTING  # a flag that does not wait for its payload
finds NO_SCALE_FENCE -DNO_ROUTING  # a flag that waits for rows, not for their scales
finds NO_AWAIT -DNO_ROUTING        # nobody waits for flags
finds ONE_FLAG -DNO_ROUTING        # only the first block of each rank is waited for
finds NO_FOLLOWED -DNO_ROUTING     # the second pass overwrites what may still be summed
finds SAME_MARK -DNO_ROUTING       # partials of the second pass are told like those of the first
finds NO_GRID_BARRIER -DNO_ROUTING # totals are told before all blocks have counted
finds EARLY_EPOCH -DNO_ROUTING     # the first block to leave ends the kernel, not the last

# In those dispatches: by themselves, or behind updates.
finds_alone() {
    finds "$1" -DBESIDE=DISPATCH_ROUTING
}
finds_alone FLAG_FIRST
finds_alone NO_RAISE_FENCE
finds_alone NO_SCALE_FENCE
finds_alone ONE_FLAG
finds NO_OFFER_FENCE -DBESIDE=UPDATE -DOPS=2
finds TABLES_FIRST -DBESIDE=UPDATE -DOPS=2 # tables are written as soon as counts are there, not offers
finds_alone ROWS_FIRST          # rows go before counts and offers
finds_alone NO_GATHER           # nobody waits for the counts of all blocks of all ranks
finds_alone SINGLE_CHUNK_BANK   # one bank for those counts
finds_alone NO_POOL_FENCE       # a flag that does not wait for rows of tokens out of the pool
finds_alone NO_FIRST_ROWS       # tokens of the pool go before all blocks have noted where
finds_alone ARRIVED_FIRST       # a block says that it has before it does
finds_alone NO_FIRST_ROWS_FENCE # or without a fence between them
finds_alone ARRIVED_KEPT        # how many have is not forgotten
finds_alone POOL_KEPT           # nor what was given out
finds_alone TABLES_FLAG_FIRST   # a flag before its tables
finds_alone NO_TABLES_FENCE     # a flag that does not wait for its tables
finds_alone NO_TABLES_AWAIT     # nobody waits for the flags of tables
finds_alone LATE_NEEDS          # a rank's own counts of rows are noted behind the flag
finds_alone TOLD_FIRST          # a block counts as through before its experts are counted
finds_alone TOLD_KEPT           # how many were through is not forgotten
finds_alone SUMS_KEPT           # nor their sums
finds_alone NO_EXPERTS_AWAIT    # nobody waits for the peers' counts of experts

model=$folder/cuda_low_latency.pml
holds -DRANKS=2 -DOPS=2
holds -DTAGGED -DRANKS=2 -DOPS=2
holds -DTAGGED -DRANKS=2 -DOPS=4 -DNO_FAULTS # as many as use a bank of pieces again
if [ "${1-}" = --full ]; then
    holds -DRANKS=2 -DOPS=3
    holds -DTAGGED -DRANKS=2 -DOPS=3
    holds -DTAGGED -DRANKS=2 -DOPS=4 -DNO_FAULTS -DHALVES
fi

finds NO_CREDIT_OF_ROWS             # rows go out again in the next call without the receiver's offer
finds NO_CREDIT_OF_PARTIALS -DOPS=3 # so do partials
finds NO_CREDIT_OF_ABSENT           # so does the word of a token that goes nowhere
finds ONE_OFFER_BANK                # one bank of offers
finds ONE_COUNT_BANK                # one bank of counts
finds ARRIVED_FIRST                 # "arrived" before the row
finds RETURNED_FIRST                # "returned" before the partial
finds NO_VERDICT                    # blocks that wait do not look for the verdict
finds EARLY_VERDICT                 # a clerk judges by the offers that are there
finds EARLY_OFFER                   # an offer before the blocks of the call before have ended
finds EARLY_PLACE                   # rows are copied before the counts of the ranks before have come
finds ONE_PIECE_BANK -DTAGGED -DNO_FAULTS # one bank of tagged pieces
finds NO_TAG -DTAGGED                     # a piece is taken without a look at its number
finds TORN_PIECE -DTAGGED                 # its number comes before its payload

[ $failures -eq 0 ]
