#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a memory limit does to the program and the library. The limit is the one of the control group
# that this test is in, with other figures: they are mounted over the group's files, in a namespace
# that nobody else sees, and the group itself stays as it is.
#
#   test_memory_limit.sh MOXIE TEST_OF_QUOTES
set -u

cannot() {
    echo "SKIPPED: $1"
    exit 77
}
if [ "${3-}" != inside ]; then
    as_root=$([ "$(id -u)" = 0 ] || echo --map-root-user)
    unshare $as_root --mount true 2>/dev/null || cannot "mount namespaces are refused"
    exec unshare $as_root --mount "$0" "$1" "$2" inside
fi
quote=$(realpath "$2")
. "$(dirname "$0")/../launchers/common.sh"

# mounted TYPE OPTION: where a hierarchy is mounted.
mounted() {
    awk -v type="$1" -v option="$2" '
        $(NF - 2) == type && index("," $NF ",", option) { print $5; exit }' /proc/self/mountinfo
}
group=$(sed -nE 's/^[0-9]+:([^:]+,)?memory(,[^:]+)?:(.*)/\3/p' /proc/self/cgroup)
if [ -n "$group" ]; then
    point=$(mounted cgroup ,memory,) limit=limit_in_bytes usage=usage_in_bytes total=total_
else
    group=$(sed -n 's/^0:://p' /proc/self/cgroup)
    point=$(mounted cgroup2 ,) limit=max usage=current total=
fi
folder=$point${group%/}
[ -e "$folder/memory.$limit" ] || folder=$point # a container that sees the host's path
[ -e "$folder/memory.$limit" ] || cannot "this process is in no control group with a memory limit"
mkdir "$work/group"
for file in $limit $usage stat; do
    : >"$work/group/$file"
    mount --bind "$work/group/$file" "$folder/memory.$file" || cannot "mounts are refused"
done

# group_has LIMIT USAGE CACHE
group_has() {
    echo "$1" >"$work/group/$limit"
    echo "$2" >"$work/group/$usage"
    printf '%sinactive_file %s\n%sactive_file 5000000\n' "$total" "$3" "$total" >"$work/group/stat"
}

echo "what is left of the limit is what is available"
group_has 300000000 100000000 15000000
expect 0 "$moxie" info --json
one_document memory_limit '"bytes": 300000000'
one_document memory_available_bytes '"memory_available_bytes": 220000000'
expect 0 "$moxie" info
grep -qF ", 0.2 GB available of the 0.3 GB that $folder/memory.$limit allows" "$work/out" ||
    fail "info does not say it"
expect 0 "$moxie" bench $quick --ranks 2 --json
one_document schema '"ranks": 2'

echo "a larger run is refused, and so is a larger window"
expect 2 "$moxie" bench --ranks 2 --tokens 16384
says "0.2 GB are available of the 0.3 GB that $folder/memory.$limit allows: take fewer --tokens"
no_output
expect 0 "$quote" "$folder/memory.$limit"
clean

echo "in a suite it is a run that is refused"
cat >test.toml <<'END'
name = "large"
description = "d"
test_template_name = "DeepEPBenchmark"
[cmd_args]
tokens = 16384
num_experts = 8
num_topk = 2
hidden_size = 4096
END
printf 'name = "limits"\n[[Tests]]\nid = "large"\ntest_name = "large"\n' >scenario.toml
expect 1 "$moxie" suite run --test-scenario scenario.toml --backend shm --output-dir res
grep -q '^  "status": "refused"' res/limits_*/large/0/record.json || fail "it is not refused"
grep '^  "reason"' res/limits_*/large/0/record.json | grep -qF "that $folder/memory.$limit allows" ||
    fail "the reason does not name the limit"
rm -r res ./*.toml

echo "nothing is left"
group_has 300000000 320000000 15000000
expect 2 "$moxie" bench $quick --ranks 2
says "0.0 MB are available of the 0.3 GB"
no_output

echo "a limit that does not count"
group_has 9223372036854771712 100000000 0
expect 0 "$moxie" info --json
one_document memory_limit '"memory_limit": null'
