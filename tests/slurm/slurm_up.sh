#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Starts a real Slurm on this machine: a controller and NODES nodes, each in namespaces of its own
# (network, host name, IPC, mounts with an own /dev/shm). Nothing of it has a name outside of FOLDER.
#
#   slurm_up.sh FOLDER NODES [CPUS [GPUS]]     CPUS (4) and GPUS (0, made up) of each node
#
# Afterwards FOLDER/on NODE COMMAND... runs a command on a node (n1, n2 ...) or on `head`, where
# srun, sbatch and salloc work. slurm_down.sh FOLDER ends everything. Exits 77, with the reason, where
# this cannot work.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: slurm_up.sh FOLDER NODES [CPUS [GPUS]]" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd -P)
node_count=$2
cpu_count=${3:-4}
gpu_count=${4:-0}
here=$(dirname "$0")
cpu_memory=100000 # MB that a CPU brings a job: only one that asks for less can take too much

cannot() {
    echo "no Slurm here: $1" >&2
    exit 77
}
PATH=$PATH:/usr/sbin:/sbin
for program in slurmctld slurmd srun munged mungekey ip nsenter unshare; do
    command -v $program >/dev/null || cannot "$program is not installed (tools/setup.sh test)"
done
[ "$(id -u)" = 0 ] || cannot "only root can make the nodes' namespaces"
unshare --net --uts --ipc --mount true 2>/dev/null || cannot "namespaces are refused"
setpriv --reuid=munge --regid=munge --clear-groups true 2>/dev/null ||
    cannot "root of this namespace cannot become the user munge"

fail() {
    echo "slurm_up.sh: $1" >&2
    tail -n 20 "$folder"/log/* >&2 || true
    "$here/slurm_down.sh" "$folder"
    exit 1
}

chmod 755 "$folder"
mkdir -p "$folder/pid" "$folder/log" "$folder/state" "$folder/spool" "$folder/munge"

# One process a node keeps its namespaces; it ends by itself should nobody end it.
anchor() { # NAME ADDRESS
    setsid unshare --net --uts --ipc --mount sh -c '
        hostname "$1" && mount -t tmpfs -o mode=1777 shm /dev/shm && ip link set lo up && : >"$2" &&
        exec sleep 7200' anchor "$1" "$folder/pid/$1.ready" >/dev/null 2>"$folder/log/$1.anchor" \
        </dev/null &
    echo $! >"$folder/pid/$1.anchor"
    tries=200
    until [ -e "$folder/pid/$1.ready" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "node $1 has no namespaces: $(cat "$folder/log/$1.anchor")"
        sleep 0.02
    done
    rm "$folder/pid/$1.ready"
}

cat >"$folder/on" <<END
#!/bin/sh
# Runs a command on a node: on NODE COMMAND...
node=\$1
shift
export SLURM_CONF='$folder/slurm.conf'
exec nsenter --target "\$(cat '$folder/pid/'"\$node".anchor)" --net --uts --ipc --mount \\
    --wd="\$PWD" "\$@"
END
chmod 755 "$folder/on"
on="$folder/on"

anchor head
"$on" head ip link add bridge type bridge
"$on" head ip addr add 10.77.0.254/24 dev bridge
"$on" head ip link set bridge mtu 65535 up 2>/dev/null || "$on" head ip link set bridge up
nodes=
for i in $(seq "$node_count"); do
    anchor "n$i"
    nodes="$nodes n$i"
    "$on" head ip link add "v$i" mtu 65535 type veth peer name eth0 mtu 65535 \
        netns "$(cat "$folder/pid/n$i.anchor")"
    "$on" head ip link set "v$i" master bridge up
    "$on" "n$i" ip addr add "10.77.0.$i/24" dev eth0
    "$on" "n$i" ip link set eth0 up
done
for node in head $nodes; do # some kernels' default is slow over veth; not every kernel lets us
    "$on" "$node" sysctl -qw net.ipv4.tcp_congestion_control=reno 2>/dev/null || true
done

gres=
: >"$folder/gres.conf"
if [ "$gpu_count" -gt 0 ]; then
    for i in $(seq 0 $((gpu_count - 1))); do
        mknod "$folder/gpu$i" c 1 3
        echo "Name=gpu File=$folder/gpu$i" >>"$folder/gres.conf"
    done
    gres="Gres=gpu:$gpu_count"
fi
echo "PMIxCliTmpDirBase=/dev/shm" >"$folder/mpi.conf"
cat >"$folder/slurm.conf" <<END
ClusterName=moxie
SlurmctldHost=head(10.77.0.254)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/pid/slurmctld
SlurmdPidFile=$folder/pid/%n.slurmd
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=$cpu_memory
ReturnToService=2
MpiDefault=none
KillWait=5
$([ -z "$gres" ] || echo GresTypes=gpu)
NodeName=DEFAULT CPUs=$cpu_count RealMemory=$((cpu_count * cpu_memory)) $gres
$(for i in $(seq "$node_count"); do echo "NodeName=n$i NodeAddr=10.77.0.$i"; done)
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END

# munged insists on its own user and folder.
chown munge: "$folder/munge"
chmod 755 "$folder/munge"
setpriv --reuid=munge --regid=munge --clear-groups mungekey --create \
    --keyfile="$folder/munge/key" 2>"$folder/log/munge" ||
    fail "no key for munge: its user must be able to enter $folder"
setpriv --reuid=munge --regid=munge --clear-groups munged --key-file="$folder/munge/key" \
    --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" >>"$folder/log/munge" 2>&1 ||
    fail "munged does not start"
"$on" head slurmctld -c >"$folder/log/slurmctld.start" 2>&1 || fail "slurmctld does not start"
for node in $nodes; do
    "$on" "$node" slurmd -c -N "$node" >"$folder/log/$node.start" 2>&1 ||
        fail "slurmd of $node does not start"
done

tries=200
until [ "$("$on" head sinfo -h -N -t idle 2>/dev/null | wc -l)" = "$node_count" ]; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "the nodes do not get ready: $("$on" head sinfo 2>&1)"
    sleep 0.1
done
