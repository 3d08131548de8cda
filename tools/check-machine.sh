#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks the machine it runs on, from the folder that tools/package.sh made: conformance first, then
# what is particular to GPUs, then the benchmark. Runs everything that works here and goes on after a
# failure. Leaves FOLDER/check.json, which names the commit, and a log of each step.
#
#   check.sh FOLDER [--quick | --figures] [BENCH_FLAG...]
#
# --quick: conformance and one benchmark only. --figures: no tests, and each benchmark of figures.txt.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: check.sh FOLDER [--quick | --figures] [BENCH_FLAG...]}
shift
extent=whole
case ${1-} in
--quick | --figures)
    extent=${1#--}
    shift
    ;;
esac
mkdir -p "$out"
out=$(realpath "$out")
cd "$here" || exit 1
# The seed makes kernels of the builds with fault injection dawdle; the others do not look at it.
export CUDA_DEVICE_MAX_CONNECTIONS=32 CUDA_MODULE_LOADING=EAGER MOXIE_DELAY_SEED=11
failed=0
checks=
benches=

# json NAME COMMAND...: the document that COMMAND prints; null when it fails, and its exit code.
json() {
    local name=$1 code said=FAILED
    shift
    timeout -k 10 300 "$@" >"$out/$name.json" 2>"$out/$name.log"
    code=$?
    if [ $code = 0 ]; then
        cat "$out/$name.json"
        return
    fi
    [ $code != 77 ] || said=skipped
    printf '%-7s %s (exit code %s): %s\n' $said "$name" $code "$(tail -n 1 "$out/$name.log")" >&2
    echo null
    return $code
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

# p50 CALL DOCUMENT: Moxie's own, which comes before the baseline's.
p50() {
    tr -d ' \n' <<<"$2" | grep -oE "\"$1\":\{\"time_us\":\{[^}]*" | head -n 1 |
        sed 's/.*"p50":\([0-9.]*\).*/\1/'
}

# bench NAME DISPATCH_GOAL COMBINE_GOAL [SETTING...] FLAG...: a goal in µs, - where there is none.
bench() {
    local name=$1 goals=("$2" "$3") settings=() document code
    shift 3
    local flags="$*"
    while [[ ${1-} == MOXIE_* ]]; do
        settings+=("$1")
        shift
    done
    document=$(json "bench_$name" env "${settings[@]}" bin/moxie bench --json "$@")
    code=$?
    if [ $code = 0 ]; then
        printf 'done    %-24s dispatch %8.1f us (goal %s)  combine %8.1f us (goal %s)\n' "$name" \
            "$(p50 dispatch "$document")" "${goals[0]}" "$(p50 combine "$document")" "${goals[1]}"
    elif [ $code != 77 ]; then
        failed=$((failed + 1))
    fi
    benches="$benches${benches:+,}
  {\"name\":\"$name\",\"flags\":\"$flags\",\"exit_code\":$code,
   \"goal_us\":{\"dispatch\":${goals[0]/#-/null},\"combine\":${goals[1]/#-/null}},
   \"record\":$document}"
}

# Flags of the command line win over those of the file. The backend is left to the program: what needs
# a GPU is skipped where there is none.
bench_figures() {
    local line words
    echo "p50 of the slowest rank; goals are for 4 H200s"
    while read -r line; do
        read -ra words <<<"$line"
        if [ "${#words[@]}" -gt 0 ] && [ "${words[0]:0:1}" != '#' ]; then
            bench "${words[@]}" "$@" </dev/null
        fi
    done <figures.txt
}

run_checks() {
    local tests=bin/test_ visible=${CUDA_VISIBLE_DEVICES:-0} program
    # Threads share the first GPU: that is a case of its own. Processes have one each.
    CUDA_VISIBLE_DEVICES=${visible%%,*} \
        check conformance_threads 900 "${tests}conformance_processes" threads
    if [ "$backend" = shm ] || [ "$gpu_count" -gt 1 ]; then
        check conformance_processes 900 "${tests}conformance_processes" processes
    fi
    [ "$extent" = whole ] || return
    check soak_threads 300 "${tests}soak_processes" 3000 3 threads 2
    check soak_low_latency 300 "${tests}soak_low_latency" 5000 3 threads 2
    check exchange_group 60 "${tests}exchange_group"
    check exchange_quote 60 "${tests}exchange_quote"
    for program in "${tests}"cuda_*; do
        check "${program#bin/test_}" 600 "$program"
    done
    check faults 300 "${tests}faults"
}

info=$(json info bin/moxie info --json) || failed=1
bin/moxie info
gpu_count=$(grep -o '"compute_capability"' <<<"$info" | wc -l)
backend=shm
if [ "$gpu_count" -gt 0 ]; then
    backend=cuda
fi
export MOXIE_TEST_BACKEND=$backend

if [ "$extent" = figures ]; then
    bench_figures "$@"
else
    run_checks
    bench default - - --backend $backend "$@"
fi
if [ "$extent" = whole ]; then
    bench expert_major - - --backend $backend --layout expert_major "$@"
    bench backward - - --backend $backend --direction backward "$@"
    bench fp8 - - --backend $backend --dtype fp8 "$@"
    bench low_latency - - --backend $backend --mode low_latency "$@"
fi

{
    printf '{"schema":"moxie.check/1","commit":"%s","date":"%s","backend":"%s",\n' \
        "$(cat COMMIT)" "$(date -u +%FT%TZ)" $backend
    printf '"kernels":"%s",\n' "$(head -n 1 kernels.txt | grep '^no kernels' || echo embedded)"
    printf '"checks":[%s],\n"info":%s,\n"bench":[%s]}\n' "$checks" "$info" "$benches"
} >"$out/check.json"
echo "$out/check.json: $failed failed"
[ "$failed" = 0 ]
