#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What moxie suite says of the files in the folders beside this script, and what a dry run writes for
# them, against expected.txt in each folder.
#
#   test_golden.sh MOXIE              compare
#   MOXIE_GOLDEN=rewrite test_golden.sh MOXIE
#                                     write expected.txt anew; look at the difference before you commit
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
moxie=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# What differs from machine to machine and from run to run.
plain() {
    sed -e "s|$work|WORK|g" -e "s|$moxie|MOXIE|g" \
        -e "s|host $(hostname)\$|host HOST|" \
        -e "s|run on $(hostname)\$|run on HOST|" \
        -e 's|_20[0-9-]*_[0-9-]*|_TIME|g' \
        -e 's|"started": "[^"]*"|"started": "TIME"|' -e 's|"elapsed_s": [0-9.e-]*|"elapsed_s": 0|'
}

# Every file of a dry run, with its name before it; without the ones that describe the machine, and
# of each test with the record of its first run only. With arguments: files of these names.
print_tree() {
    cd "$work/out" || return
    find . -type f ! -name 'node-*.toml' ! -name suite.json "$@" | sort | while read -r file; do
        case $file in
        */[1-9]*/record.json) [[ $file == */0/1/record.json ]] || continue ;;
        esac
        echo "=== $file"
        cat "$file"
    done
}

describe() {
    local folder=$1 strict=
    cd "$folder" || return
    [ "$(basename "$folder")" = strict ] && strict=--strict
    echo "=== moxie suite verify $strict"
    "$moxie" suite verify $strict . 2>&1 >"$work/counts"
    echo "exit code $?"
    cat "$work/counts"
    if [ -f system.toml ] && "$moxie" suite verify . >/dev/null 2>&1; then
        echo "=== moxie suite run --local --dry-run"
        "$moxie" suite run --test-scenario scenario.toml --system-config system.toml \
            --backend shm --local --dry-run --output-dir "$work/out" 2>&1
        echo "exit code $?"
        (print_tree)
        rm -r "$work/out"
        echo "=== moxie suite run --dry-run"
        PATH=/nonexistent "$moxie" suite run --test-scenario scenario.toml \
            --system-config system.toml --dry-run --output-dir "$work/out" 2>&1
        echo "exit code $?"
        (print_tree '(' -name '*.sh' -o -name hostfile.txt -o -name record.json ')')
    fi
}

for folder in "$here"/*/; do
    folder=${folder%/}
    expected=$folder/expected.txt
    rm -rf "$work/out"
    (describe "$folder") | plain >"$work/got"
    if [ "${MOXIE_GOLDEN:-}" = rewrite ]; then
        cp "$work/got" "$expected"
    elif ! diff -u "$expected" "$work/got"; then
        echo "FAILED: $(basename "$folder") is not as expected"
        failures=$((failures + 1))
    fi
done
[ -e "$here/deepep/pwned" ] && echo "FAILED: a value was run by a shell" && failures=1
[ $failures -eq 0 ]
