#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks the machine it runs on, from the folder that tools/package.sh made: conformance first, then
# what is particular to GPUs, then the benchmark. Runs everything that works here and goes on after a
# failure. Leaves FOLDER/check.json, which names the commit, and a log of each step.
#
#   check.sh FOLDER [--quick] [BENCH_FLAG...]      --quick: conformance and one benchmark only
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: check.sh FOLDER [--quick] [BENCH_FLAG...]}
shift
quick=
if [ "${1-}" = --quick ]; then
    quick=1
    shift
fi
mkdir -p "$out"
# The seed makes kernels of the builds with fault injection dawdle; the others do not look at it.
export CUDA_DEVICE_MAX_CONNECTIONS=32 CUDA_MODULE_LOADING=EAGER MOXIE_DELAY_SEED=11
failed=0
checks=
benches=

# json NAME COMMAND...: the document that COMMAND prints; null when it fails.
json() {
    local name=$1
    shift
    if timeout -k 10 300 "$@" >"$out/$name.json" 2>"$out/$name.log"; then
        cat "$out/$name.json"
    else
        echo "FAILED  $name (exit code $?): $(tail -n 1 "$out/$name.log")" >&2
        echo null
        return 1
    fi
}

# check NAME SECONDS COMMAND...
check() {
    local name=$1 limit=$2 start=$SECONDS code said
    shift 2
    [ -x "$1" ] || return 0
    timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    case $code in
    0) said="passed " ;;
    77) said="skipped" ;;
    *)
        said="FAILED "
        failed=$((failed + 1))
        grep -aE 'FAILED|ERROR|rank [0-9]+ of [0-9]+: |fault' "$out/$name.log" | head -n 20
        ;;
    esac
    echo "$said $name: exit code $code, $((SECONDS - start)) s"
    checks="$checks${checks:+,}
  {\"name\":\"$name\",\"exit_code\":$code,\"seconds\":$((SECONDS - start))}"
}

# bench NAME FLAG...
bench() {
    local name=bench_$1 document
    shift
    if document=$(json "$name" "$here/bin/moxie" bench --json "$@"); then
        echo "done    $name"
    else
        failed=$((failed + 1))
    fi
    benches="$benches${benches:+,}
  {\"flags\":\"$*\",\"record\":$document}"
}

info=$(json info "$here/bin/moxie" info --json) || failed=1
"$here/bin/moxie" info
gpu_count=$(grep -o '"compute_capability"' <<<"$info" | wc -l)
backend=shm
if [ "$gpu_count" -gt 0 ]; then
    backend=cuda
fi
export MOXIE_TEST_BACKEND=$backend
tests=$here/bin/test_

# Threads share the first GPU: that is a case of its own. Processes have one each.
visible=${CUDA_VISIBLE_DEVICES:-0}
CUDA_VISIBLE_DEVICES=${visible%%,*} \
    check conformance_threads 900 "${tests}conformance_processes" threads
if [ "$backend" = shm ] || [ "$gpu_count" -gt 1 ]; then
    check conformance_processes 900 "${tests}conformance_processes" processes
fi
if [ -z "$quick" ]; then
    check soak_threads 300 "${tests}soak_processes" 3000 3 threads 2
    check soak_low_latency 300 "${tests}soak_low_latency" 5000 3 threads 2
    check exchange_group 60 "${tests}exchange_group"
    check exchange_quote 60 "${tests}exchange_quote"
    for program in "${tests}"cuda_*; do
        check "$(basename "${program#"$here"/bin/test_}")" 600 "$program"
    done
    check faults 300 "${tests}faults"
fi

bench default --backend $backend "$@"
if [ -z "$quick" ]; then
    bench expert_major --backend $backend --layout expert_major "$@"
    bench backward --backend $backend --direction backward "$@"
    bench fp8 --backend $backend --dtype fp8 "$@"
    bench low_latency --backend $backend --mode low_latency "$@"
fi

{
    printf '{"schema":"moxie.check/1","commit":"%s","date":"%s","backend":"%s",\n' \
        "$(cat "$here/COMMIT")" "$(date -u +%FT%TZ)" $backend
    printf '"kernels":"%s",\n' "$(head -n 1 "$here/kernels.txt" | grep '^no kernels' || echo embedded)"
    printf '"checks":[%s],\n"info":%s,\n"bench":[%s]}\n' "$checks" "$info" "$benches"
} >"$out/check.json"
echo "$out/check.json: $failed failed"
[ "$failed" = 0 ]
