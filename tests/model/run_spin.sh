#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks operation.pml: the protocol holds, and every bug that can be seeded into it is found.
#
#   run_spin.sh [--full | --long]
#
# Without an option: 2 ranks (seconds). --full: 3 ranks too (1 GB, half a minute). --long: 3 ranks for
# as many operations as use a bank again (3 GB, minutes), and nothing else.
set -eu
model=$(cd "$(dirname "$0")" && pwd)/operation.pml
for tool in spin cc; do
    command -v $tool >/dev/null || { echo "skipped: there is no $tool here"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failures=0

# search DEFINE...: prints what SPIN found; true when every state was visited without an error.
search() {
    spin -a "$@" "$model" >spin.log || { cat spin.log; exit 1; }
    cc -O1 -w -DSAFETY -DCOLLAPSE -o pan pan.c
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
    if search "$@"; then
        echo "ok: $* ($(states) states)"
    else
        echo "FAILED: $*"
        grep -m 3 '^pan' pan.log || true
        failures=$((failures + 1))
    fi
}

# finds BUG DEFINE...
finds() {
    if search "-DSEED_$1" "${@:2}"; then
        echo "FAILED: seeded and not found: $*"
        failures=$((failures + 1))
    else
        echo "ok: found $1: $(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' pan.log)"
    fi
}

if [ "${1-}" = --long ]; then
    holds -DRANKS=3 -DOPS=3
    holds -DRANKS=3 -DOPS=2 -DFAILURES=1
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

[ $failures -eq 0 ]
