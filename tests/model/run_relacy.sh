#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles and runs relacy_orders.cpp; 77 where Relacy (Debian's relacy-dev) is not installed.
set -eu
source=$(cd "$(dirname "$0")" && pwd)/relacy_orders.cpp
if ! echo '#include <relacy/relacy.hpp>' | c++ -w -E -x c++ - >/dev/null 2>&1; then
    echo "skipped: relacy-dev is not installed"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
c++ -std=c++17 -O1 -w -o "$work/orders" "$source"
"$work/orders"
