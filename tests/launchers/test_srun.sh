#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A real Slurm on two nodes starts the ranks: srun with and without PMIx, sbatch, salloc, mpirun.
slurm="$(cd "$(dirname "$0")/../slurm" && pwd)"
. "$(dirname "$0")/common.sh"
end_cluster() {
    "$slurm/slurm_down.sh" "$work/slurm"
    end_test
}
trap end_cluster EXIT
chmod 711 "$work" # munge, which is another user, has its socket further down
"$slurm/slurm_up.sh" "$work/slurm" 2 || exit $?
head="$work/slurm/on head"

echo "srun, plain and with PMIx"
for mpi in none pmix; do
    expect 0 $head srun --mpi=$mpi -N 1 -n 4 "$moxie" bench $quick --json --output-dir res
    one_document schema '"ranks": 4'
    grep -qF '"verified": true' "$work/out" || fail "not verified"
    one_result
    clean
done

echo "two steps at once, on one node"
$head srun -N 1 -w n1 -n 2 "$moxie" bench $quick --json >"$work/other" 2>&1 &
other=$!
expect 0 $head srun -N 1 -w n1 -n 2 "$moxie" bench $quick --json
one_document schema '"ranks": 2'
wait $other || fail "the other job: $(cat "$work/other")"
grep -qF '"ranks": 2' "$work/other" || fail "the other job: $(cat "$work/other")"
clean

echo "a batch script, and its steps"
cat >"$work/batch" <<END
#!/bin/sh
'$moxie' bench $quick --ranks 2 --json >'$work/own' &&
srun --overlap -n 3 '$moxie' bench $quick --json >'$work/step'
END
expect 0 $head sbatch --wait -N 1 -n 3 --output="$work/batch.log" "$work/batch"
# The script itself is no rank: what it starts starts its own ranks.
grep -qF '"ranks": 2' "$work/own" || fail "in the script: $(cat "$work/batch.log")"
grep -qF '"ranks": 3' "$work/step" || fail "in a step: $(cat "$work/batch.log")"
expect 0 $head salloc -Q -N 1 -n 2 srun "$moxie" bench $quick --json
one_document schema '"ranks": 2'
clean

echo "one rank a node"
expect 77 $head srun -N 2 -n 2 "$moxie" bench $quick
says "exchange across hosts comes later: srun started 2 ranks on 2 hosts"
no_output
clean

echo "mpirun in an allocation"
if command -v mpirun >/dev/null && mpirun --version | grep -q "Open MPI"; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_pml=ob1 \
        OMPI_MCA_btl=self,vader
    expect 0 $head salloc -Q -N 1 -n 3 mpirun "$moxie" bench $quick --json
    one_document schema '"ranks": 3'
    expect 77 $head salloc -Q -N 2 --ntasks-per-node=2 mpirun "$moxie" bench $quick
    says "exchange across hosts comes later: mpirun started 4 ranks, only 2 of them on this host"
    clean
fi

echo "a rank is killed or stopped"
for signal in KILL STOP; do
    start $head srun -N 1 -n 3 "$moxie" bench $endless --json
    pid=$(rank_process SLURM_PROCID 1) || exit 1
    at_work "$pid"
    kill -$signal "$pid"
    [ $signal = KILL ] || (sleep 4 && kill -CONT "$pid" 2>/dev/null) &
    finish
    [ "$code" = 3 ] || [ "$code" = 137 ] || fail "exit code $code"
    one_document error
    one_document pid "\"pid\": $pid"
    says "moxie bench: rank 0: "
    clean
done

echo "ended from outside"
start $head srun -N 1 -n 3 "$moxie" bench $endless --output-dir res
rank_process SLURM_PROCID 2 >/dev/null
sleep 0.5
kill -TERM "$job"
finish
no_output
clean 7
start $head srun -N 1 -n 3 -J ended "$moxie" bench $endless --output-dir res
rank_process SLURM_PROCID 2 >/dev/null
sleep 0.5
$head scancel -n ended
finish
no_output
clean 7
