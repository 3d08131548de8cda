#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts what was built into a folder that runs on a machine with nothing but glibc and, for GPUs, their
# driver: the program, the library, test programs, the libraries they need, the texts, what stands in
# for CloudAI's benchmark, and a script that checks the machine (docs/gpu-machine.md). Stripped; finds
# its libraries from wherever it lies.
#
#   tools/package.sh FOLDER [BUILD_FOLDER]      FOLDER is made anew; build unless given
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
folder=${1:?usage: tools/package.sh FOLDER [BUILD_FOLDER]}
build=${2:-build}
size_max_kib=52000

# The tests that look at the machine they run on; of tests/cuda all of them.
tests="conformance_processes soak_processes soak_low_latency exchange_group exchange_quote faults fault_resume
    attribution fault_bench"
programs=("$build/moxie" "$build/tests/moxie_faulty")
for test in $tests; do
    programs+=("$build/tests/test_$test")
done
for program in "$build"/tests/test_cuda_*; do
    [ ! -x "$program" ] || programs+=("$program")
done

if [ -e "$folder" ] && [ ! -e "$folder/COMMIT" ]; then
    echo "package.sh: $folder is there and is no package" >&2
    exit 2
fi
rm -rf "$folder"
mkdir -p "$folder"/{bin,lib,share}
cp "${programs[@]}" "$folder/bin"
cp "$build"/libmoxie.so.[0-9] "$folder/lib"

# glibc's own stay behind: they belong to the machine's loader.
mapfile -t libraries < <(ldd "${programs[@]}" | awk '/=> \// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread|libutil|libresolv|ld-linux[^/]*)\.so[.0-9]*$' |
    grep -v '/libmoxie\.so')
cp -L "${libraries[@]}" "$folder/lib"
strip --strip-unneeded "$folder"/bin/* "$folder"/lib/*
# RPATH, not RUNPATH: libraries that only a library needs are found by it, too.
patchelf --force-rpath --set-rpath "\$ORIGIN/../lib" "$folder"/bin/*

cp -r share/texts "$folder/share"
mkdir "$folder/share/cloudai"
cp share/cloudai/*.py "$folder/share/cloudai"
cp tools/check-machine.sh "$folder/check.sh"
cp tools/figures.txt "$build/kernels.txt" LICENSE "$folder"
{ git rev-parse HEAD 2>/dev/null || echo unknown; } | tr -d '\n' >"$folder/COMMIT"
git diff --quiet HEAD 2>/dev/null || printf -- '-dirty' >>"$folder/COMMIT"
echo >>"$folder/COMMIT"

size_kib=$(du -s --apparent-size --block-size=1024 "$folder" | cut -f1)
echo "$folder: $size_kib KiB, commit $(cat "$folder/COMMIT"), kernels: $(head -n 1 "$folder/kernels.txt")"
glibc=$(objdump -T "$folder"/bin/* "$folder"/lib/* | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -n 1)
echo "needs $glibc or newer, on $(uname -m)"
if [ "$size_kib" -gt $size_max_kib ]; then
    echo "package.sh: larger than $size_max_kib KiB" >&2
    exit 1
fi
