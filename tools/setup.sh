#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that are missing, when it may: as root, or with a sudo that asks for
# no password. Otherwise prints the exact command and exits 2.
#
#   tools/setup.sh PURPOSE...      PURPOSE: build | report | test | package | docs | tidy | checks
set -eu

for purpose in "${@:-build}"; do
    case $purpose in
    build) packages="${packages-} build-essential cmake ninja-build pkg-config help2man
        libcmocka-dev libjansson-dev libtomlplusplus-dev libhwloc-dev zlib1g-dev
        libsqlite3-dev libyaml-dev openmpi-bin libopenmpi-dev" ;;
    report) command -v npm >/dev/null || packages="${packages-} nodejs npm" ;;
    test) packages="${packages-} iproute2 munge slurm-wlm patchelf chromium python3" ;;
    package) packages="${packages-} patchelf" ;;
    docs) packages="${packages-} doxygen" ;;
    tidy) packages="${packages-} clang-format clang-tidy cppcheck" ;;
    checks) packages="${packages-} clang libclang-rt-14-dev spin relacy-dev gcovr" ;;
    *)
        echo "setup.sh: unknown purpose '$purpose' (build, report, test, package, docs, tidy, checks)" >&2
        exit 2
        ;;
    esac
done

[ -n "${packages-}" ] || exit 0
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup.sh: no Debian packages here; going on with what is installed. Needed:" $packages >&2
    exit 0
fi

missing=
for package in $packages; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=env
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo env"
else
    echo "setup.sh: packages are missing and this user may not install them. Run:" >&2
    echo "    sudo apt-get install$missing" >&2
    exit 2
fi

echo "setup: installing$missing"
log=$(mktemp)
policy=
trap 'rm -f "$log"; [ -z "$policy" ] || $as_root rm -f "$policy"' EXIT
# Some packages (munge, slurm-wlm) would start services: the tests start their own.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' | $as_root install -m 755 /dev/stdin "$policy"
fi
if ! { $as_root apt-get -qq update &&
    $as_root DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 \
        install --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    echo "setup.sh: apt-get failed; the packages above are needed" >&2
    exit 2
fi
