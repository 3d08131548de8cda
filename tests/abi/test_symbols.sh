#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# libmoxie.so exports the functions of src/libmoxie.map, with their version, and nothing else; and
# needs no library but libc (libm included).
#
#   test_symbols.sh LIBRARY MAP
set -eu
export LC_ALL=C
library=$1 map=$2
mapped=$(awk '/^MOXIE_[0-9.]+ \{/ { version = $1 }
    /^ *moxie_[a-z0-9_]+;/ { sub(/^ */, ""); sub(/;.*/, ""); print $0 "@@" version }' "$map" | sort)
exported=$(nm -D --defined-only --with-symbol-versions "$library" | awk '$2 != "A" { print $3 }' | sort)
if [ "$mapped" != "$exported" ]; then
    echo "the exports differ from $map (< map, > library):"
    diff <(echo "$mapped") <(echo "$exported")
    exit 1
fi
echo "$(wc -l <<<"$exported") symbols, as in the map"

needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
for name in $needed; do
    case $name in
    libc.so.6 | libm.so.6 | libpthread.so.0 | ld-linux-*) ;;
    libasan.so.* | libubsan.so.* | libtsan.so.* | libgcc_s.so.*) ;; # in builds with sanitizers
    *)
        echo "$library needs $name"
        exit 1
        ;;
    esac
done
readelf -d "$library" | grep -q 'SONAME.*\[libmoxie.so.0\]'
