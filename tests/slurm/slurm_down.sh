#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Ends what slurm_up.sh started, jobs that still run included. The folder stays, for its logs.
#
#   slurm_down.sh FOLDER
set -eu

[ -d "$1" ] || exit 0
folder=$(cd "$1" && pwd -P)

# Processes in the namespaces of the nodes: daemons, jobs, and last what keeps the namespaces.
namespaces=
for file in "$folder"/pid/*.anchor; do
    [ -e "$file" ] || continue
    space=$(readlink "/proc/$(cat "$file")/ns/net" || true)
    # The name of the anchor's namespace is ours only if it is not this shell's.
    [ "$space" = "$(readlink /proc/self/ns/net)" ] || namespaces="$namespaces $space"
done
inside() {
    for process in /proc/[0-9]*; do
        space=$(readlink "$process/ns/net" 2>/dev/null) || continue
        case " $namespaces " in
        *" $space "*) echo "${process#/proc/}" ;;
        esac
    done
}
if [ -e "$folder/munge/pid" ]; then
    kill "$(cat "$folder/munge/pid")" 2>/dev/null || true
fi
tries=100
pids=$([ -z "$namespaces" ] || inside)
while [ -n "$pids" ] && [ $tries -gt 0 ]; do
    kill -9 $pids 2>/dev/null || true
    sleep 0.05
    pids=$(inside)
    tries=$((tries - 1))
done
if [ -n "$pids" ]; then
    echo "slurm_down.sh: still there:" $pids >&2
    exit 1
fi
while [ -e "$folder/munge/pid" ] && [ $tries -gt 0 ]; do
    sleep 0.05
    tries=$((tries - 1))
done
rm -f "$folder"/pid/*
