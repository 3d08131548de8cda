#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is shipped has no fault injection in it; the variant for tests has.
#
#   test_hooks.sh FAULTY_PROGRAM SHIPPED_FILE...
set -eu
has_hooks() {
    grep -qa 'MOXIE_FAULT' "$1" || nm "$1" | grep -qw 'fault_point'
}
faulty=$1
shift
has_hooks "$faulty" || { echo "$faulty has no hooks"; exit 1; }
for shipped; do
    if has_hooks "$shipped"; then
        echo "$shipped has hooks"
        exit 1
    fi
done
echo "no hooks in $*"
