#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests of a build with coverage and reports which lines and branches of src/ they ran. A
# process that is killed, or ends by _exit(), writes no counts: what only such processes run counts as
# not run. Counting makes everything slower, so deadlines are judged elsewhere: a test that fails here
# is reported and no more. Tests of time alone, and soak tests, are left out.
#
#   tools/coverage.sh FOLDER      FOLDER: of the build, configured from the preset coverage
set -eu
cd "$(dirname "$0")/.."
folder=$1
find "$folder" -name '*.gcda' -delete
ctest --test-dir "$folder" --no-tests=error --output-on-failure --parallel "$((4 * $(nproc)))" \
    --exclude-regex '^(soak_|attribution)' >"$folder/tests.log" 2>&1 ||
    sed -n '/tests passed/,$p' "$folder/tests.log"
gcovr --root . --filter src/ --gcov-ignore-parse-errors --exclude-throw-branches \
    --txt "$folder/coverage.txt" --html-details "$folder/coverage.html" --print-summary \
    "$folder" 2>"$folder/gcovr.log" | grep -E '^(lines|functions|branches)' ||
    { cat "$folder/gcovr.log"; exit 1; }
echo "coverage: details in $folder/coverage.txt and $folder/coverage.html"
