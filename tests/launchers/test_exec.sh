#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# moxie suite exec as CloudAI's scripts start it, by the scripts that stand in for its benchmark: alone,
# and with torchrun's environment.
#
#   test_exec.sh MOXIE [CORRUPT.so]
torchrun="$(cd "$(dirname "$0")" && pwd)/as_torchrun.sh"
share="$(cd "$(dirname "$0")/../../share/cloudai" && pwd)"
corrupt=${2:+$(realpath "$2")}
. "$(dirname "$0")/common.sh"
. "$(dirname "$torchrun")/exec.sh"
benchmark="$root/benchmark/benchmark.py"

# failed CODE SENTENCE: as the last command should have; with no results, and no word of success
failed() {
    says "$1"
    results ""
    ! grep -q "BW (GB/s)" "$work/out" || fail "a failed run has figures"
}

echo "both scripts, files without a mode"
expect 0 python3 "$benchmark" "$work/a.yaml"
has_lines "^config .*: DeepEPBenchmark, standard$" "^Global BW \(GB/s\): [0-9.]+$" "^deepep_time: " \
    "^operation: dispatch$" "^operation: combine$" "verified: every output"
results "4 standard dispatch combine"
expect 0 python3 "$root/benchmark/benchmark_ll.py" "$work/a.yaml"
has_lines ", low_latency$"
results "4 low_latency dispatch combine"

echo "a file with a mode, a backend each, one after the other"
LOCAL_WORLD_SIZE=2 NUM_SMS=24 expect 0 sh -c "python3 '$benchmark' '$work/c.yaml' legacy &&
    python3 '$benchmark' '$work/c.yaml' elastic && python3 '$benchmark' '$work/c.yaml' shm"
has_lines "^config .*: MoEBenchmark, low_latency$" "^backend +legacy is .*, auto$" \
    "^backend +elastic is .*, auto$"
results "2 low_latency dispatch
2 low_latency dispatch
2 low_latency dispatch"
expect 2 python3 "$root/benchmark/benchmark_ll.py" "$work/c.yaml" nccl-ep
failed "moxie suite exec: BACKEND: 'nccl-ep' is none of auto, shm and cuda, and no library that CloudAI's benchmark measures; is it 'nccl_ep'?"
write_config "$work/standard.yaml" 'benchmark_type: "standard"'
expect 2 python3 "$root/benchmark/benchmark_ll.py" "$work/standard.yaml"
failed "$work/standard.yaml:4:1: error: benchmark_type: 'standard' contradicts --mode low_latency"

echo "torchrun: a process a rank, and one a node"
expect 0 "$torchrun" "$work" 3 "0 1 2" python3 "$benchmark" "$work/a.yaml"
has_lines "on 3 ranks"
[ "$(grep -c '^results   are in' "$work/out")" = 1 ] || fail "more than one rank spoke"
results "3 standard dispatch combine"
expect 0 "$torchrun" "$work" 1 0 python3 "$benchmark" "$work/a.yaml"
results "4 standard dispatch combine"

echo "what is wrong is said once, and all ranks end alike"
write_config "$work/bad.yaml" 'hiden_size: 3' 'tokens: 8'
expect 2 "$torchrun" "$work" 3 "0 1 2" python3 "$benchmark" "$work/bad.yaml"
[ "$(cat "$work"/code.[012] | sort -u)" = 2 ] || fail "exit codes $(cat "$work"/code.[012])"
says "$work/bad.yaml:4:1: error: hiden_size: there is no such key, is it 'hidden_size'?"
says "$work/bad.yaml:17:1: error: tokens: it has been given in line 5"
failed "moxie suite exec: 2 errors in $work/bad.yaml; nothing was run"
expect 2 "$torchrun" "$work" 3 "0 1 2" "$moxie" suite exec --ranks 2 "$work/a.yaml"
says "moxie suite exec: --ranks: 2 contradicts torchrun, which started 3 tasks here"
LOCAL_WORLD_SIZE=0 expect 2 python3 "$benchmark" "$work/a.yaml"
failed "environment variable LOCAL_WORLD_SIZE: '0' is not a number from 1 to 512"
NUM_SMS=many expect 2 python3 "$benchmark" "$work/a.yaml"
failed "environment: error: NUM_SMS: must be a whole number, not 'many'"
expect 2 "$moxie" suite exec --output-dir /proc/none "$work/a.yaml"
failed "moxie suite exec: --output-dir: no folder can be made in /proc/none"
MOXIE_RESULTS_DIR=/none expect 2 python3 "$benchmark" "$work/a.yaml"
failed "benchmark.py: /none is no folder: set MOXIE_RESULTS_DIR"
MOXIE_PROGRAM=/none expect 77 python3 "$benchmark" "$work/a.yaml"
failed "benchmark.py: /none: No such file or directory"

if [ -n "$corrupt" ]; then
    echo "an output that differs from the reference"
    LD_PRELOAD="$corrupt" CORRUPT=out expect 1 "$moxie" suite exec --output-dir "$work/wrong" "$work/a.yaml"
    failed "moxie suite exec: NOT VERIFIED: "
    grep -q '"status": "mismatch"' "$work"/wrong/*/record.json || fail "no record"
    [ ! -e "$work"/wrong/*/results.json ] || fail "there are results"
fi

echo "ended from outside"
write_config "$work/endless.yaml"
sed -i 's/^num_iterations: 3/num_iterations: 1000000/' "$work/endless.yaml"
start python3 "$benchmark" "$work/endless.yaml"
sleep 1
kill -TERM "$job"
finish
[ "$code" = 143 ] || fail "exit code $code"
results ""
clean
