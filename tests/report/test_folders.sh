#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# moxie report: which folders it takes, what it collects of them, and what it says of bad ones. Needs no
# browser; where the page was not built it says so, and the data can still be had.
#
#   test_folders.sh MOXIE
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
moxie=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}

# expect EXIT_CODE TEXT ARGUMENT...: how `moxie report ARGUMENT...` ends, and what it prints
expect() {
    local code=$1 text=$2 result=0
    shift 2
    "$moxie" report "$@" >out.txt 2>&1 || result=$?
    [ "$result" = "$code" ] || fail "report $*: exit code $result, not $code: $(head -c 500 out.txt)"
    grep -qF -- "$text" out.txt || fail "report $*: does not say '$text': $(head -c 500 out.txt)"
}

"$here/records.sh" "$moxie" "$work" || exit 1
cd "$work" || exit 1

# kinds ARGUMENT...: the sources, one a line
kinds() {
    "$moxie" report --json "$@" | sed -n 's/^      "kind": "\(.*\)",$/\1/p' | tr '\n' ' '
}
[ "$(kinds tuning bench later)" = "tune bench suite " ] || fail "the kinds: $(kinds tuning bench later)"

# A folder of folders stands for them, in the order of their times; it may hold anything else.
mkdir -p all/empty
cp -r bench all/bench_z_2026-01-01_00-00-00
cp -r later all/small_2026-01-02_00-00-00
cp -r bench all/bench_a_2026-01-03_00-00-00
cp log.txt all
[ "$(kinds all)" = "bench suite bench " ] || fail "a folder of folders: $(kinds all)"

# A name with two dots is a name.
cp -r later dots
mv dots/sweep dots/a..b
sed 's|"sweep/|"a..b/|' later/suite.json >dots/suite.json
[ "$("$moxie" report --json dots | grep -c '"moxie.suite.run/1"')" = 5 ] || fail "the runs of a..b"

# Numbers are those of the record, digit by digit.
"$moxie" report --json bench >data.json
grep -o '"p50": [0-9.]*' bench/bench.json >expected.txt
grep -o '"p50": [0-9.]*' data.json | cmp -s - expected.txt || fail "other numbers than in bench.json"

# Bad input is named, and nothing is left behind.
mkdir -p bad/damaged bad/other bad/escaping bad/nothing
printf '{\n  "schema": "moxie.bench/1",\n' >bad/damaged/bench.json
echo '{"schema":"moxie.suite/1"}' >bad/other/bench.json
echo '{"schema":"moxie.suite/1","tests":[{"folder":"../../bench"}]}' >bad/escaping/suite.json
expect 2 "DIR is missing"
expect 2 "nowhere: No such file or directory" nowhere
expect 2 "bad/nothing: no results are there" bad/nothing
expect 2 "bad/damaged/bench.json:" bench bad/damaged
expect 2 "schema: 'moxie.bench/1' is expected, not 'moxie.suite/1'" bad/other
expect 2 "bad/escaping/suite.json: tests: 0: 'folder' is no path below" bad/escaping
[ ! -e report.html ] || fail "a refused report was written"

if "$moxie" report bench -o page.html >/dev/null 2>&1; then
    expect 0 "report    is page.html" later -o page.html
    expect 2 "cannot be written" bench -o nowhere/page.html
    ! grep -qF "<img src=x" page.html || fail "markup of a name stands in the page"
    ! grep -qE '(src|href)="?https?:' page.html || fail "the page asks for something"
    [ -s later/small.html ] || fail "moxie suite run left no report"
    grep -qF "report    is" log.txt || fail "moxie suite run does not name its report"
else
    expect 77 "npm" bench -o page.html
    grep -qF "report    none:" log.txt || fail "moxie suite run does not say why it left no report"
fi
[ "$failures" = 0 ] || exit 1
echo "folders of all kinds, as they should be"
