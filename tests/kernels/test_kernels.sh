#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# No kernel spills registers or has variables in local memory: shows the report of the build, and that
# kernels which do either do not get through.
#
#   test_kernels.sh REPORT NVCC
set -eu
here=$(cd "$(dirname "$0")" && pwd)
report=$1 nvcc=$2
cat "$report"
if grep -q '^no kernels' "$report"; then
    exit 77
fi
grep -q '^sm_90a .* registers' "$report"
grep -q '^sm_100a .* registers' "$report"
if grep SPILLS "$report"; then
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# refused SEED PATTERN: kernels.sh must refuse $here/seeded.cu with SEED in it.
refused() {
    if "$here/../../tools/kernels.sh" "$work/seeded.fatbin" "$work/seeded.txt" "$nvcc" -O3 \
        -gencode=arch=compute_90a,code=sm_90a "-DSEED_$1" "$here/seeded.cu" 2>"$work/says"; then
        echo "FAILED: seed $1 was accepted"
        exit 1
    fi
    grep -E "^sm_90a +seeded +SPILLS: $2" "$work/says" || { cat "$work/says"; exit 1; }
    [ ! -e "$work/seeded.fatbin" ] || { echo "FAILED: seed $1 left a fatbin"; exit 1; }
}
refused LOCAL '[1-9][0-9]* bytes stack frame, 0 spill stores'
refused SPILL '[1-9][0-9]* bytes stack frame, [1-9][0-9]* spill stores'

# and accepts the same file without a seed
"$here/../../tools/kernels.sh" "$work/seeded.fatbin" "$work/seeded.txt" "$nvcc" -O3 \
    -gencode=arch=compute_90a,code=sm_90a "$here/seeded.cu"
[ -s "$work/seeded.fatbin" ]
