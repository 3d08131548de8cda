#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the CUDA kernels of one source file into a fatbin and writes what they cost: a line for each
# kernel and target, with its registers and shared memory. Fails, and leaves no fatbin, when any of them
# keeps variables in local memory or spills registers: both go through memory, behind the source's back.
#
#   tools/kernels.sh FATBIN REPORT NVCC [NVCC_ARGUMENT...]
set -euo pipefail
export LC_ALL=C
fatbin=$1 report=$2
shift 2
log=$report.log
failed() {
    rm -f "$fatbin"
    exit 1
}

if ! "$@" -Xptxas -v -fatbin -o "$fatbin" 2>"$log"; then
    cat "$log" >&2
    failed
fi

# Of a function, ptxas prints its frame and spills; of a kernel also a line "Used ...". Functions that
# are called and not inlined have properties only.
awk '
    function finish() {
        if (name != "")
            printf "%-8s %-40s %s\n", target, name, used == "" ? "a function" : used
        if (frame > 0 || stores > 0 || loads > 0)
            printf "%-8s %-40s SPILLS: %d bytes stack frame, %d spill stores, %d spill loads\n",
                target, name, frame, stores, loads
        name = used = ""
        frame = stores = loads = 0
    }
    /Compiling entry function/ { finish(); split($0, quoted, "\047"); target = quoted[4] }
    /Function properties for/ { finish(); name = $NF }
    /bytes stack frame/ { frame = $1; stores = $5; loads = $9 }
    /: Used [0-9]+ registers/ { used = $0; sub(/.*: Used /, "", used) }
    END { finish() }' "$log" | c++filt | sort >"$report"

grep -v '^ptxas info\|^    [0-9]* bytes stack frame\|^$' "$log" >&2 || true
if ! grep -q ' registers' "$report"; then
    echo "kernels.sh: ptxas named no kernel; what it wrote is in $log" >&2
    failed
fi
if grep SPILLS "$report" >&2; then
    echo "kernels.sh: kernels must keep their variables in registers" >&2
    failed
fi
