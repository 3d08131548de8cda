#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Lets every fuzz target of a build look for new inputs, starting from the corpus. What fails is left
# in FOLDER/findings; fix it and move it, minimised, to the target's corpus.
#
#   run.sh FOLDER SECONDS      FOLDER: of the build, configured from the preset fuzz
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1 seconds=$2
failures=0
mkdir -p "$folder/findings"
for target in "$folder"/tests/fuzz_*; do
    name=${target##*/fuzz_}
    found=$folder/corpus/$name # new inputs of this machine; nothing in the repository changes
    log=$folder/findings/$name.log
    mkdir -p "$found"
    dictionary=()
    [ ! -f "$here/$name.dict" ] || dictionary=("-dict=$here/$name.dict")
    if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$folder/findings/$name-" "${dictionary[@]}" \
        "$found" "$here/corpus/$name" >"$log" 2>&1; then
        echo "ok: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
            "$(sed -n 's/.*DONE *cov: \([0-9]*\).*/\1/p' "$log") edges"
    else
        echo "FAILED: $name; all of it: $log"
        grep -E 'not so|runtime error|^SUMMARY|ERROR|Test unit written' "$log" || tail -n 20 "$log"
        failures=$((failures + 1))
    fi
done
[ $failures -eq 0 ]
