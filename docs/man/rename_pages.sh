#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# doxygen names a header's man page after the file alone (version.h.3). Gives each the prefix moxie_,
# so that it can be installed beside other projects' pages, and removes the pages of struct fields.
#
#   rename_pages.sh FOLDER
set -eu
cd "$1"
sed -i 's|^\.so man3/\([a-z]*\.h\.3\)$|.so man3/moxie_\1|; s|man3/moxie_moxie\.h|man3/moxie.h|' [mM]*.3
for page in *.h.3; do
    [ "$page" = moxie.h.3 ] || mv "$page" "moxie_$page"
done
find . -type f ! -iname 'moxie*' -delete
