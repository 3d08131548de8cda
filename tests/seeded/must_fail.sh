#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Passes when a soak test with a seeded bug says that a rank is wrong, or that there is a data race.
#
#   must_fail.sh PROGRAM [ARGUMENT...]
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
TSAN_OPTIONS="halt_on_error=1 ${TSAN_OPTIONS-}" timeout -k 5 100 "$@" >"$log" 2>&1
code=$?
grep -m 2 -E 'rank [0-9]+ of [0-9]+: |WARNING: ThreadSanitizer: data race' "$log" && [ $code != 0 ] &&
    exit 0
tail -n 20 "$log"
echo "must_fail.sh: exit code $code, and the bug was not named"
exit 1
