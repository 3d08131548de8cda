#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A copy of a source file with one bug put in by sed; fails when the expression fits no longer.
#
#   mutate.sh EXPRESSION SOURCE MUTANT
set -eu
mkdir -p "$(dirname "$3")"
sed -E "$1" "$2" >"$3.new"
if cmp -s "$2" "$3.new"; then
    echo "mutate.sh: $1 changes nothing in $2" >&2
    exit 1
fi
mv "$3.new" "$3"
