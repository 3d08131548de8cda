#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The folder of tools/package.sh runs from wherever it is moved to, with its own libraries and no
# others than glibc's, and its check leaves a record.
#
#   test_package.sh BUILD_FOLDER
set -eu
build=$(realpath "$1")
command -v patchelf >/dev/null || { echo "patchelf is not installed"; exit 77; }
tools=$(cd "$(dirname "$0")/../../tools" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$tools/package.sh" "$work/first" "$build"
mv "$work/first" "$work/second"
cd "$work"
for program in second/bin/*; do
    strange=$(ldd "$program" | awk '/not found/ { print } /=> \// { print $3 }' |
        grep -vE "^$work/second/|/(libc|libm)\.so\.6$" || true)
    [ -z "$strange" ] || { echo "$program needs $strange"; exit 1; }
done

second/check.sh out --quick --backend shm --ranks 2 --tokens 64 --hidden 64 --iterations 2
grep -q '"schema":"moxie.check/1"' out/check.json
grep -q '"schema": *"moxie.bench/1"' out/check.json
grep -qF "\"commit\":\"$(cat second/COMMIT)\"" out/check.json

second/check.sh out --figures --ranks 2 --tokens 64 --hidden 64 --experts 8 --topk 2 --iterations 2 --warmups 1
records=$(grep -c '"schema": *"moxie.bench/1"' out/check.json)
figures=$(grep -c '^[a-z]' second/figures.txt)
skipped=$(grep -c '"exit_code":77' out/check.json || true)
if [ "$records" -lt 10 ] || [ $((records + skipped)) -ne "$figures" ]; then
    echo "of $figures figures $records were measured and $skipped skipped"
    exit 1
fi

if command -v python3 >/dev/null; then # what stands in for CloudAI's benchmark finds the program
    MOXIE_RESULTS_DIR=. python3 second/share/cloudai/benchmark.py --help | grep -F "moxie suite exec"
fi

mkdir not_a_package
if "$tools/package.sh" "$work/not_a_package" "$build" 2>says; then
    echo "package.sh removed a folder that is no package"
    exit 1
fi
grep -q "is no package" says
