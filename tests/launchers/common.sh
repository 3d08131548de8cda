# SPDX-License-Identifier: Apache-2.0
# For the tests of launchers: runs a command, keeps what it said, and finds the ranks it started.
# Sourced with the program to test as $1.
set -u

moxie=$(realpath "$1")
work=$(mktemp -d /tmp/moxie-job-XXXXXX)
mkdir -m 700 "$work/run" "$work/in"
cd "$work/in" || exit 1
export XDG_RUNTIME_DIR="$work/run" MOXIE_TEST_JOB="$work"
quick="--tokens 64 --hidden 64 --iterations 20"
endless="--tokens 64 --hidden 64 --iterations 1000000 --timeout 2"

# The processes of the program that this test has started and that are still there.
list_ranks() {
    grep -lszxF "MOXIE_TEST_JOB=$work" /proc/[0-9]*/environ | while IFS=/ read -r _ _ pid _; do
        [ "$(readlink "/proc/$pid/exe")" != "$moxie" ] || echo "$pid"
    done
}

end_test() {
    for pid in $(list_ranks); do
        kill -9 "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
trap end_test EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $*" >&2
    for file in "$work"/out "$work"/err; do
        sed "s|^|${file##*/}: |" "$file" >&2
    done
    exit 1
}

# start COMMAND...: in the background. finish: waits for it, sets $code.
start() {
    "$@" >"$work/out" 2>"$work/err" &
    job=$!
}
finish() {
    wait "$job"
    code=$?
}

# expect CODE COMMAND...
expect() {
    wanted=$1
    shift
    start "$@"
    finish
    [ "$code" = "$wanted" ] || fail "exit code $code, not $wanted: $*"
}

# says TEXT: once, on standard error.
says() {
    count=$(grep -cF -- "$1" "$work/err")
    [ "$count" = 1 ] || fail "'$1' is said $count times"
}

# one_document KEY [TEXT]: standard output is one JSON document that has the key, and the text.
one_document() {
    [ "$(grep -c '^{' "$work/out")" = 1 ] && [ "$(head -c 1 "$work/out")" = '{' ] &&
        [ "$(tail -n 1 "$work/out")" = '}' ] || fail "standard output is not one document"
    [ "$(grep -cF "\"$1\":" "$work/out")" = 1 ] || fail "the document has no '$1'"
    grep -qF -- "${2-}" "$work/out" || fail "the document does not have '$2'"
}

# no_output: nothing on standard output.
no_output() {
    [ ! -s "$work/out" ] || fail "there is something on standard output"
}

# rank_process VARIABLE RANK: the process of a rank, once it is there.
rank_process() {
    tries=200
    while [ $tries -gt 0 ]; do
        for pid in $(list_ranks); do
            if grep -qszxF "$1=$2" "/proc/$pid/environ"; then
                echo "$pid"
                return
            fi
        done
        tries=$((tries - 1))
        sleep 0.05
    done
    fail "rank $2 does not start"
}

# at_work PID: that rank, one of three, has joined the others and has their windows; it goes about its
# calls, behind the first, which may wait for longer.
at_work() {
    tries=200
    until [ "$(grep -c 'memfd:moxie ' "/proc/$1/maps")" -ge 6 ]; do # a control segment and a window each
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "process $1 does not get to work"
        sleep 0.05
    done
    sleep 0.5
}

# clean [SECONDS]: soon there are no ranks, and nothing where they met or where they ran.
clean() {
    tries=$((${1:-2} * 20))
    while [ -n "$(list_ranks)" ] && [ $tries -gt 0 ]; do
        tries=$((tries - 1))
        sleep 0.05
    done
    [ -z "$(list_ranks)" ] || fail "a rank is still there"
    [ -z "$(ls -A "$work/run/moxie" 2>/dev/null)" ] || fail "left: $(ls "$work/run/moxie")"
    [ -z "$(ls -A "$work/in")" ] || fail "left: $(ls "$work/in")"
}

# one_result: --output-dir res got one folder; removes it.
one_result() {
    [ "$(ls -A res | wc -l)" = 1 ] && [ -s res/*/bench.json ] || fail "results: $(ls -A res)"
    rm -r res
}
