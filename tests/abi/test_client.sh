#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A client of an earlier version asks the library for symbols of that version and no other, and works.
#
#   test_client.sh CLIENT VERSION
set -eu
symbols=$(nm -D --undefined-only --with-symbol-versions "$1" | sed -n 's/.* \(moxie_.*\)/\1/p')
echo "$(echo "$symbols" | wc -l) functions of $2"
if echo "$symbols" | grep -v "@$2\$"; then
    echo "these are not of $2"
    exit 1
fi
exec "$1"
