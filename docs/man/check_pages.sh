#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every function that the library exports has a page with its name on it.
#
#   check_pages.sh MAP FOLDER
set -eu
missing=0
for name in $(sed -n 's/^ *\(moxie_[a-z0-9_]*\);.*/\1/p' "$1"); do
    page=$2/$name.3
    [ ! -f "$page" ] || page=$2/$(sed -n 's|^\.so man3/||p' "$page")
    if [ ! -f "$page" ] || ! grep -q "$name" "$page"; then
        echo "docs: $name has no page in $2" >&2
        missing=1
    fi
done
exit $missing
