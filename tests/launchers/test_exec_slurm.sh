#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# moxie suite exec on two nodes of a real Slurm, started by batch scripts as CloudAI generates them: one
# task a node and one a rank, with torchrun and without. As in its containers, the scripts lie over those
# of the original, and the program is in /opt/moxie.
slurm="$(cd "$(dirname "$0")/../slurm" && pwd)"
share="$(cd "$(dirname "$0")/../../share/cloudai" && pwd)"
here="$(cd "$(dirname "$0")" && pwd)"
. "$(dirname "$0")/common.sh"
. "$here/exec.sh"
unset MOXIE_PROGRAM
end_cluster() {
    "$slurm/slurm_down.sh" "$work/slurm"
    end_test
}
trap end_cluster EXIT
chmod 711 "$work" # munge, which is another user, has its socket further down
"$slurm/slurm_up.sh" "$work/slurm" 2 || exit $?
head="$work/slurm/on head"
rm "$root"/benchmark/*
for node in n1 n2; do
    on="$work/slurm/on $node"
    $on mount --bind "$share" "$root/benchmark" && $on mount -t tmpfs opt /opt &&
        $on mkdir -p /opt/moxie/bin && $on ln -s "$moxie" /opt/moxie/bin/moxie ||
        fail "node $node has no container"
done

# batch CODE SBATCH_FLAGS MPI COMMAND: a script as it is generated, and the exit code of its srun.
# `sbatch --wait` looks every few seconds only.
batch() {
    {
        printf '#!/bin/bash\n#SBATCH %s\n#SBATCH --output=%s\n#SBATCH --error=%s\n\n' "$2" \
            "$work/out" "$work/err"
        printf 'export NUM_SMS="24"\nexport NUM_QPS_PER_RANK="12"\n'
        # shellcheck disable=SC2016 # the job expands it
        printf 'nodes=( $( scontrol show hostnames $SLURM_JOB_NODELIST ) )\n'
        # shellcheck disable=SC2016
        printf 'export MASTER_ADDR=${nodes[0]}\nexport MASTER_PORT=29500\n'
        printf "srun --export=ALL --mpi=%s bash -c '%s'\n" "$3" "$4"
        printf 'echo $? >%s.part && mv %s.part %s\n' "$work/code" "$work/code" "$work/code"
    } >"$work/batch.sh"
    rm -f "$work/code"
    $head sbatch "$work/batch.sh" >"$work/sbatch" 2>&1 || fail "sbatch: $(cat "$work/sbatch")"
    tries=1200
    until [ -e "$work/code" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "the job does not end: $4"
        sleep 0.05
    done
    [ "$(cat "$work/code")" = "$1" ] || fail "exit code $(cat "$work/code"), not $1: $4"
}
benchmark="python3 $root/benchmark/benchmark.py"
low_latency="python3 $root/benchmark/benchmark_ll.py"
apart="the ranks of each node are a group of their own: exchange across hosts comes later"

echo "one task a node"
batch 0 "-N 2 --ntasks-per-node=1" none "$benchmark $work/a.yaml"
has_lines "^node +n1: $apart$" "^node +n2: $apart$" "^Global BW \(GB/s\): "
results "4 n1 standard dispatch combine
4 n2 standard dispatch combine"
batch 0 "-N 1 --ntasks-per-node=1" pmix "LOCAL_WORLD_SIZE=2 $benchmark $work/c.yaml deepep"
results "2 low_latency dispatch"
clean

echo "one task a rank, two backends one after the other"
for mpi in none pmix; do
    batch 0 "-N 2 --ntasks-per-node=3" $mpi \
        "$benchmark $work/c.yaml legacy && $benchmark $work/c.yaml elastic"
    results "3 n1 low_latency dispatch
3 n1 low_latency dispatch
3 n2 low_latency dispatch
3 n2 low_latency dispatch"
done
batch 0 "-N 1 --ntasks-per-node=2" none "$benchmark $work/a.yaml"
results "2 standard dispatch combine"
batch 0 "-N 2 -n 3" none "$benchmark $work/a.yaml"
results "1 n2 standard dispatch combine
2 n1 standard dispatch combine"
clean

echo "torchrun on each node"
# shellcheck disable=SC2016 # the task expands it
batch 0 "-N 2 --ntasks-per-node=1" none "RANK=\$SLURM_NODEID LOCAL_RANK=0 WORLD_SIZE=2 \
LOCAL_WORLD_SIZE=1 GROUP_RANK=\$SLURM_NODEID GROUP_WORLD_SIZE=2 TORCHELASTIC_RUN_ID=7 \
$low_latency $work/a.yaml"
results "4 n1 low_latency dispatch combine
4 n2 low_latency dispatch combine"
clean

echo "a mistake ends the job"
write_config "$work/bad.yaml" 'tokens: -5'
batch 2 "-N 1 --ntasks-per-node=3" none "$benchmark $work/bad.yaml"
says "$work/bad.yaml:4:1: error: tokens: -5 is out of range, it can be 1 to 16777216"
results ""
! has_lines || fail "it looks like a success"
clean
