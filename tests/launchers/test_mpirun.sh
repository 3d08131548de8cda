#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Open MPI's real mpirun starts the ranks.
. "$(dirname "$0")/common.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 TMPDIR="$work"
if ! command -v mpirun >/dev/null || ! mpirun --version | grep -q "Open MPI"; then
    echo "no Open MPI here (tools/setup.sh test)" >&2
    exit 77
fi
# mpirun tells of itself what it likes on standard error; the ranks' words are in there too.
mpirun="mpirun --oversubscribe --mca pml ob1 --mca btl self,vader"

echo "a whole job"
expect 0 $mpirun -n 4 "$moxie" bench $quick --json --output-dir res
one_document schema '"ranks": 4'
grep -qF '"verified": true' "$work/out" || fail "not verified"
one_result
clean

echo "two jobs at once"
$mpirun -n 2 "$moxie" bench $quick --json >"$work/other" 2>&1 &
other=$!
expect 0 $mpirun -n 3 "$moxie" bench $quick --json
one_document schema '"ranks": 3'
wait $other || fail "the other job: $(cat "$work/other")"
grep -qF '"ranks": 2' "$work/other" || fail "the other job: $(cat "$work/other")"
clean

echo "one job after the other in one start"
expect 0 $mpirun -n 2 sh -c "'$moxie' bench $quick && '$moxie' bench $quick"
[ "$(grep -c verified "$work/out")" = 2 ] || fail "not two tables"
clean

echo "what a rank refuses is said once"
expect 2 $mpirun -n 3 "$moxie" bench $quick --ranks 2
says "--ranks: 2 contradicts mpirun, whose OMPI_COMM_WORLD_SIZE is 3"
expect 2 $mpirun -n 3 "$moxie" bench $quick --capacity 1
says "rows are too few"
no_output
clean

echo "a rank is stopped"
start $mpirun -n 3 "$moxie" bench $endless --json
pid=$(rank_process OMPI_COMM_WORLD_RANK 1) || exit 1
at_work "$pid"
kill -STOP "$pid"
finish
[ "$code" = 3 ] || fail "exit code $code"
one_document error '"status": "MOXIE_ERR_TIMEOUT"'
one_document pid "\"pid\": $pid"
clean

echo "a rank is killed: mpirun itself ends the others"
start $mpirun -n 3 "$moxie" bench $endless --output-dir res
pid=$(rank_process OMPI_COMM_WORLD_RANK 1) || exit 1
at_work "$pid"
kill -KILL "$pid"
finish
[ "$code" = 137 ] || fail "exit code $code"
clean

echo "ended from outside"
for signal in INT TERM; do
    start $mpirun -n 3 "$moxie" bench $endless --output-dir res --record-routing rec
    rank_process OMPI_COMM_WORLD_RANK 2 >/dev/null
    sleep 0.5
    kill -$signal "$job"
    finish
    [ "$code" != 0 ] || fail "exit code 0"
    no_output
    clean
done
start $mpirun -n 3 "$moxie" bench $endless
rank_process OMPI_COMM_WORLD_RANK 2 >/dev/null
sleep 0.5
kill -KILL "$job"
finish
clean 5
