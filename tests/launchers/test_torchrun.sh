#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Ranks with torchrun's environment, as as_torchrun.sh makes it: whole jobs, and jobs with a rank
# that is missing, there twice, strange, killed or stopped.
. "$(dirname "$0")/common.sh"
torchrun="$(cd "$OLDPWD" && cd "$(dirname "$0")" && pwd)/as_torchrun.sh"

# codes CODE...: of ranks 0, 1 ...; "-": not started
codes() {
    rank=0
    for wanted in "$@"; do
        [ "$wanted" = - ] || [ "$(cat "$work/code.$rank")" = "$wanted" ] ||
            fail "rank $rank: exit code $(cat "$work/code.$rank"), not $wanted"
        rank=$((rank + 1))
    done
}
run() { # CODE RANK_COUNT RANKS OPTION...
    wanted=$1
    shift
    rm -f "$work"/code.*
    count=$1
    ranks=$2
    shift 2
    expect "$wanted" "$torchrun" "$work" "$count" "$ranks" "$moxie" bench "$@"
}

echo "a whole job"
run 0 3 "0 1 2" $quick --json --output-dir res
one_document schema '"ranks": 3'
grep -qF '"verified": true' "$work/out" || fail "not verified"
one_result
clean
run 0 2 "1 0" $quick --layout expert_major --direction backward
grep -q "on 2 ranks" "$work/out" || fail "no table"
clean
run 0 1 0 $quick --json
one_document schema '"ranks": 1'

echo "two jobs at once"
mkdir "$work/other"
"$torchrun" "$work/other" 2 "0 1" "$moxie" bench $quick --json >"$work/other/out" 2>&1 &
other=$!
run 0 3 "0 1 2" $quick --json
one_document schema '"ranks": 3'
wait $other || fail "the other job: $(cat "$work/other/out")"
grep -qF '"ranks": 2' "$work/other/out" || fail "the other job: $(cat "$work/other/out")"
clean

echo "what a rank refuses is said once, and all end alike"
run 2 3 "0 1 2" $quick --ranks 2
says "--ranks: 2 contradicts torchrun, whose WORLD_SIZE is 3"
codes 2 2 2
run 2 3 "0 1 2" $quick --capacity 1 --json
says "rows are too few"
codes 2 2 2
run 2 3 "0 1 2" $quick --output-dir /proc/none
says "no folder can be made"
codes 2 2 2
no_output
clean

echo "several hosts"
LOCAL_WORLD_SIZE=2 run 77 4 "0 1 2 3" $quick
says "exchange across hosts comes later: torchrun started 4 ranks, only 2 of them on this host"
codes 77 77 77 77
clean

echo "a rank is missing"
run 3 3 "0 1" $quick --timeout 1 --json
one_document error '"rank": 2'
says "rank 2 did not join in time"
codes 3 3 -
clean
run 3 3 "1 2" $quick --timeout 1 --json
one_document error '"rank": 0'
codes - 3 3
clean

echo "a rank is there twice"
run 1 3 "0 1 1" $quick --timeout 1
grep -qF "rank 1 is there twice" "$work/err" || fail "nothing about rank 1"
clean
run 3 3 "0 0 1" $quick --timeout 1
says "rank 0 is there twice"
clean

echo "a rank is strange"
WORLD_SIZE_OF_RANK_1=4 run 1 3 "0 1" $quick --timeout 1
grep -qF "rank 1 says there are 4 ranks, rank 0 says 3" "$work/err" || fail "nothing about rank 1"
clean

# lose RANK SIGNAL STATUS SPEAKER: the others name it, and one of them speaks
lose() {
    start "$torchrun" "$work" 3 "0 1 2" "$moxie" bench $endless --json --output-dir res
    pid=$(rank_process RANK "$1") || exit 1
    at_work "$pid"
    kill "-$2" "$pid"
    [ "$2" != STOP ] || (sleep 4 && kill -CONT "$pid" 2>/dev/null) &
    finish
    one_document error "\"status\": \"$3\""
    one_document pid "\"pid\": $pid"
    one_document rank "\"rank\": $1"
    says "moxie bench: rank $4: "
}
echo "a rank is killed or stopped"
lose 1 KILL MOXIE_ERR_PEER_LOST 0
codes 3 137 3
clean
lose 0 KILL MOXIE_ERR_PEER_LOST 1
codes 137 3 3
clean
lose 2 STOP MOXIE_ERR_TIMEOUT 0
codes 3 3 3
clean

echo "ended from outside"
start "$torchrun" "$work" 3 "0 1 2" "$moxie" bench $endless --output-dir res --record-routing rec
rank_process RANK 2 >/dev/null
sleep 0.5
kill -TERM "$job"
finish
codes 143 143 143
no_output
! grep -q moxie "$work/err" || fail "a rank spoke"
clean
start "$torchrun" "$work" 3 "0 1" "$moxie" bench $quick
rank_process RANK 1 >/dev/null
sleep 0.2
kill -TERM "$job"
finish
codes 143 143
clean

echo "a folder that others could use"
chmod 755 "$work/run/moxie"
run 1 2 "0 1" $quick
grep -qF "has mode 0755, not 0700" "$work/err" || fail "mode 0755 was accepted"
rmdir "$work/run/moxie"
mkdir -m 700 "$work/elsewhere"
ln -s ../elsewhere "$work/run/moxie"
run 1 2 "0 1" $quick
grep -qF "is not a folder" "$work/err" || fail "a link was accepted"
rm "$work/run/moxie"
if [ "$(id -u)" = 0 ]; then
    mkdir -m 700 "$work/run/moxie"
    chown 65534 "$work/run/moxie"
    run 1 2 "0 1" $quick
    grep -qF "belongs to user 65534, not to 0" "$work/err" || fail "another's folder was accepted"
    rmdir "$work/run/moxie"
fi
no_output
