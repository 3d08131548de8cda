#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `make install` into an empty prefix, also below DESTDIR: what a user needs is there, the program
# finds its library, and an example builds and runs with nothing but pkg-config's answer.
#
#   test_install.sh BUILD_FOLDER EXAMPLE.c VERSION
set -eu
build=$1 example=$2 version=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR="$work/stage" cmake --install "$build" --prefix /opt/moxie >/dev/null
staged="$work/stage/opt/moxie"
for file in bin/moxie lib/libmoxie.so lib/libmoxie.so.0 "lib/libmoxie.so.$version" \
    include/moxie/moxie.h include/moxie/reference.h lib/pkgconfig/moxie.pc \
    share/moxie/cloudai/benchmark.py share/moxie/cloudai/benchmark_ll.py; do
    [ -e "$staged/$file" ] || { echo "not installed: $file" && exit 1; }
done
if [ -d "$build/docs/man/man1" ] && [ -n "$(ls "$build/docs/man/man1")" ]; then
    for page in moxie moxie-bench moxie-info moxie-report moxie-suite; do
        [ -s "$staged/share/man/man1/$page.1" ] || { echo "no page $page(1)" && exit 1; }
    done
fi

# The tree may be moved, so use it from where it is now and not from /opt/moxie.
mv "$staged" "$work/prefix"
"$work/prefix/bin/moxie" --version | grep -F "$version"
if command -v python3 >/dev/null; then # what stands in for CloudAI's benchmark finds the program
    MOXIE_RESULTS_DIR=$work python3 "$work/prefix/share/moxie/cloudai/benchmark_ll.py" --help |
        grep -F "moxie suite exec"
fi
export PKG_CONFIG_PATH="$work/prefix/lib/pkgconfig"
[ "$(pkg-config --modversion moxie)" = "$version" ]
cd "$work"
# shellcheck disable=SC2046 # the flags are several words
cc -std=gnu11 -Wall -Werror "$example" -o example $(pkg-config --cflags --libs moxie)
LD_LIBRARY_PATH="$work/prefix/lib" ./example | tail -n 1 | grep -x "every token is right"
