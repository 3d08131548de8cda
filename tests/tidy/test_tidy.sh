#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tools/tidy/tidy accepts a good tree and refuses each bad one, naming what is wrong.
set -eu
tidy=$(cd "$(dirname "$0")/../../tools/tidy" && pwd)/tidy
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
spdx='SPDX-License-Identifier: Apache-2.0'
failures=0

# A small tree without violations, in $work/tree.
good_tree() {
    rm -rf "$work/tree"
    mkdir -p "$work"/tree/{src/core,src/exchange/shm,src/exchange/cuda,src/bench,tests,include/moxie}
    cd "$work/tree"
    echo 1.2.3 >VERSION
    printf '# Changes\n\n## 1.2.3\n' >CHANGELOG.md
    printf '# %s\nset(sources core/a.c bench/b.c)\n' "$spdx" >src/CMakeLists.txt
    printf 'MOXIE_1 {\nglobal:\n    moxie_a;\nlocal:\n    *;\n};\n' >src/libmoxie.map
    printf '/* %s */\n#include "moxie/a.h"\nint moxie_a(void)\n{\n    return 1;\n}\n' "$spdx" >src/core/a.c
    printf '/* %s */\n' "$spdx" | tee src/core/a.h src/exchange/e.h src/exchange/shm/s.h \
        src/exchange/cuda/c.h src/bench/b.c >/dev/null
    printf '/* %s */\n/** One. */\nMOXIE_API int moxie_a(void);\n' "$spdx" >include/moxie/a.h
    printf '/* %s */\n#define MOXIE_VERSION_MAJOR 1\n#define MOXIE_VERSION_MINOR 2\n#define MOXIE_VERSION_PATCH 3\n' \
        "$spdx" >include/moxie/version.h
    printf '/* %s */\n/* moxie_a */\n' "$spdx" >tests/a.h
}

# refused NAME EXPECTED: the tree must be refused with a line that has EXPECTED in it.
refused() {
    if output=$("$tidy" "$work/tree"); then
        echo "FAILED: $1: accepted"
        failures=$((failures + 1))
    elif ! grep -qF -- "$2" <<<"$output"; then
        printf 'FAILED: %s: expected "%s", got:\n%s\n' "$1" "$2" "$output"
        failures=$((failures + 1))
    else
        echo "ok: $1"
    fi
    good_tree
}

good_tree
"$tidy" "$work/tree"

echo '/* no licence */' >src/core/a.h
refused "no licence line" "src/core/a.h:1: the licence line"
yes ';' | head -n 801 >>src/core/a.c || true
refused "a long file" "src/core/a.c:807: a file of 807 lines"
{ printf 'int moxie_b(void)\n{\n'; yes '    f();' | head -n 71; echo '}'; } >>src/core/a.c || true
refused "a long function" "src/core/a.c:8: a function of 71 lines, at most 70: int moxie_b(void)"
echo '/* the Endpoint */' >>src/core/a.h
refused "a forbidden word" "src/core/a.h:2: a word or path"
echo 'See ../shared/x' >README.md
refused "a forbidden path" "README.md:1: a word or path"
echo '#include "exchange/e.h"' >>src/core/a.h
refused "core includes exchange" "src/core/a.h:2: core may not include exchange/e.h"
echo '#include "core/a.h"' >>src/bench/b.c
refused "a tool includes the inside" "src/bench/b.c:2: bench may not include core/a.h"
echo '#include "exchange/cuda/c.h"' >>src/exchange/shm/s.h
refused "a backend includes another" "src/exchange/shm/s.h:2: the backend shm may not include"
mkdir src/odd && printf '/* %s */\n#include "core/a.h"\n' "$spdx" >src/odd/o.h
refused "an unknown folder" "src/odd/o.h:2: the folder odd is not in"
printf '/* %s */\n' "$spdx" >src/core/unused.c
refused "a source that is not built" "src/core/unused.c:1: not built"
sed -i '/\/\*\* One/d' include/moxie/a.h
refused "an undocumented function" "moxie_a has no documentation"
sed -i '/MOXIE_API/d' include/moxie/a.h
refused "an undeclared symbol" "moxie_a is declared in no public header"
sed -i '/moxie_a/d' src/libmoxie.map
refused "a function that is not exported" "src/libmoxie.map: moxie_a is missing"
sed -i '/moxie_a/d' tests/a.h
printf '/* %s */\nint moxie_a(void);\n' "$spdx" >tests/moxie_0_1.h
refused "a function without a test" "no test names moxie_a"
echo 1.2.4 >VERSION
refused "the headers' version" "include/moxie/version.h: says 1.2.3, but VERSION says 1.2.4"
sed -i 's/1.2.3/1.2.2/' CHANGELOG.md
refused "the changelog's version" "CHANGELOG.md: its newest entry is 1.2.2"

[ $failures -eq 0 ]
