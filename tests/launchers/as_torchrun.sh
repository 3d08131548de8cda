#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Starts ranks with the environment that torchrun gives them. torchrun itself is not needed: what a
# rank sees of it are these variables, and that MASTER_PORT is taken.
#
#   as_torchrun.sh FOLDER RANK_COUNT RANKS COMMAND...
#
# RANKS are those that are started: "0 1 2", a rank missing or twice to see what happens then. The
# exit code of rank R goes to FOLDER/code.R. Ends with the largest of them, and ends the ranks when it
# is ended itself. LOCAL_WORLD_SIZE and WORLD_SIZE_OF_RANK_1 may be given.
folder=$1
rank_count=$2
ranks=$3
shift 3

# The port is held for as long as the ranks run, by torchrun's own store.
mkfifo "$folder/port"
perl -MIO::Socket::INET -e '$| = 1; my $socket = IO::Socket::INET->new(Listen => 1,
    LocalAddr => "127.0.0.1") or die; print $socket->sockport, "\n"; sleep 600' >"$folder/port" &
store=$!
read -r port <"$folder/port"
rm "$folder/port"

pids=
trap 'kill -TERM $pids 2>/dev/null' INT TERM
for rank in $ranks; do
    size=$rank_count
    [ "$rank" != 1 ] || size=${WORLD_SIZE_OF_RANK_1:-$size}
    (
        trap - INT TERM
        RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$size LOCAL_WORLD_SIZE=${LOCAL_WORLD_SIZE:-$size} \
            GROUP_RANK=0 ROLE_RANK=$rank ROLE_NAME=default TORCHELASTIC_RUN_ID=none \
            TORCHELASTIC_RESTART_COUNT=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port
        export RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK ROLE_RANK ROLE_NAME \
            TORCHELASTIC_RUN_ID TORCHELASTIC_RESTART_COUNT MASTER_ADDR MASTER_PORT
        exec "$@"
    ) &
    pids="$pids $!"
    sleep 0.02
done

largest=0
set -- $ranks
for pid in $pids; do
    wait "$pid"
    code=$?
    while kill -0 "$pid" 2>/dev/null; do # a signal interrupted the wait
        wait "$pid"
        code=$?
    done
    echo "$code" >"$folder/code.$1"
    shift
    [ "$code" -le "$largest" ] || largest=$code
done
kill "$store"
exit "$largest"
