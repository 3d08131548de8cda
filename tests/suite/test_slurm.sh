#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# moxie suite run on a real Slurm of four nodes: what passes, and every way in which a job does not.
slurm="$(cd "$(dirname "$0")/../slurm" && pwd)"
. "$(dirname "$0")/../launchers/common.sh"
end_cluster() {
    "$slurm/slurm_down.sh" "$work/slurm"
    end_test
}
trap end_cluster EXIT
chmod 711 "$work" # munge, which is another user, has its socket further down
"$slurm/slurm_up.sh" "$work/slurm" 4 4 2 || exit $?
head="$work/slurm/on head"
$head scontrol create PartitionName=short Nodes=n1 MaxTime=1 State=UP

cat >system.toml <<'END'
name = "cluster"
scheduler = "slurm"
install_path = "./install"
output_path = "./results"
default_partition = "all"
monitor_interval = 2
[[partitions]]
name = "all"
[[partitions.groups]]
name = "group"
nodes = ["n[1-4]"]
[[partitions]]
name = "short"
[[partitions.groups]]
name = "group"
nodes = ["n1"]
END

# file NAME ITERATIONS HIDDEN: a test file.
file() {
    cat >"$1.toml" <<END
name = "$1"
description = "d"
test_template_name = "DeepEPBenchmark"
[cmd_args]
tokens = 24
num_experts = 8
num_topk = 2
hidden_size = $3
num_warmups = 1
num_iterations = $2
END
}
file small 3 70
file endless 1000000 65536
# Its ranks run until they are ended, some for a minute: on what others leave of the processors.
cat >yield <<'END'
#!/bin/sh
renice -n 19 -p $PPID >&2
END
chmod +x yield

# scenario NAME: a scenario of standard input, in which a line "ID TEST KEYS" is a test.
scenario() {
    echo "name = \"$1\"" >"$1.toml"
    while read -r id test keys; do
        printf '[[Tests]]\nid = "%s"\ntest_name = "%s"\n%s\n' "$id" "$test" \
            "$(echo "$keys" | sed 's/ ; /\n/g')" >>"$1.toml"
        [ "$test" != endless ] || echo "extra_srun_args = '--task-prolog=$PWD/yield'" >>"$1.toml"
    done
}

# suite NAME: what follows a launcher.
suite() {
    echo $head "$moxie" suite run --test-scenario "$1.toml" --system-config system.toml \
        --output-dir "$1.out"
}

# file_of SCENARIO ID FILE; value SCENARIO ID KEY: of slurm-job.toml, without quotes.
file_of() {
    echo "$1.out/$1_"*/"$2/0/$3"
}
value() {
    sed -n "s/^$3 = \"\{0,1\}\([^\"]*\)\"\{0,1\}$/\1/p" "$(file_of "$1" "$2" slurm-job.toml)"
}

# ends SCENARIO ID STATUS STATE [TEXT]: what became of a test, and what its reason says.
ends() {
    local record
    record=$(file_of "$1" "$2" record.json)
    grep -q "^  \"status\": \"$3\"" "$record" || fail "$2 is not $3: $(grep -A1 '"status"' "$record")"
    [ "$(value "$1" "$2" state)" = "$4" ] || fail "$2: $(value "$1" "$2" state), not $4"
    grep '^  "reason"' "$record" | grep -qF -- "${5-}" ||
        fail "$2: the reason does not say '$5': $(grep '^  "reason"' "$record")"
}

# until_it_runs NAME: a job with that name runs.
until_it_runs() {
    local tries=100
    until $head squeue -h -t RUNNING -n "$1" | grep -q .; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "$1 does not start: $($head squeue)"
        sleep 0.1
    done
}

echo "a time limit, which passes in the background"
scenario slow <<'END'
slow endless nodes = "n4" ; time_limit = "1s"
END
$(suite slow) >slow.log 2>&1 &
slow=$!
until_it_runs slow

echo "what passes, what fails, and what waits for what"
scenario jobs <<'END'
two small num_nodes = 2 ; exclude_nodes = ["n3"] ; time_limit = "10m"
after small nodes = "all:group:1" ; iterations = 2 ; dependencies = [{ type = "start_post_comp", id = "two" }]
refused small nodes = "n1" ; extra_env_vars = { NUM_SMS = "none" }
broken small nodes = "n2" ; extra_srun_args = "--no-such-option"
nowhere small nodes = "n9"
never small nodes = "short:group:1" ; time_limit = "10m"
many small num_nodes = 400
noise endless nodes = "n3" ; dependencies = [{ type = "end_post_comp", id = "after" }]
beside small nodes = "n2" ; dependencies = [{ type = "start_post_init", id = "noise" }]
END
expect 1 $(suite jobs)
ends jobs two passed COMPLETED
tr -d ' \n' <"$(file_of jobs two record.json)" | grep -qF '"names":["n1","n2"],"simulated":false' ||
    fail "the record names other nodes"
[ "$(ls -d jobs.out/jobs_*/two/0/benchmark_4_ranks_*_standard | wc -l)" = 2 ] ||
    fail "the two nodes did not leave a folder each: $(ls jobs.out/jobs_*/two/0)"
grep -q '"rows_to_rank"' "$(file_of jobs two record.json)" || fail "nobody knows what was sent"
grep -q '"note": "the ranks of each node are a group of their own' "$(file_of jobs two record.json)" ||
    fail "the record does not say that nodes do not exchange"
grep -q '^jobs,two,0,0,small,passed,true,dispatch,shm,standard,bfloat16,4,2,' jobs.out/jobs_*/suite.csv ||
    fail "suite.csv: $(cat jobs.out/jobs_*/suite.csv)"
[ -s "$(file_of jobs two metadata/node-n1.toml)" ] && [ -s "$(file_of jobs two metadata/node-n2.toml)" ] ||
    fail "a node is not described"
grep -q '^task 1 node 1 local_task 0 host n2$' "$(file_of jobs two mapping-stdout.txt)" || fail "mapping"
grep -q '^Global BW (GB/s): ' "$(file_of jobs two stdout.txt)" || fail "no figures on standard output"
grep -q '^full_cmd = "sbatch ' "$(file_of jobs two test-run.toml)" || fail "test-run.toml"
for file in config.yaml env_vars.sh cloudai_sbatch_script.sh report.csv; do
    [ -s "$(file_of jobs two $file)" ] || fail "there is no $file"
done
[ "$(cat "$(file_of jobs after hostfile.txt)")" = n1 ] || fail "the group gave another node"
ends jobs after passed COMPLETED
[ -s jobs.out/jobs_*/after/1/slurm-job.toml ] || fail "there is no second iteration"
[[ ! "$(value jobs after start_time)" < "$(value jobs two end_time)" ]] || fail "after came before"
ends jobs refused refused FAILED "NUM_SMS"
ends jobs broken failed FAILED "no-such-option"
ends jobs nowhere not_started null "Invalid node name"
ends jobs never not_started CANCELLED "could never start (PartitionTimeLimit)"
ends jobs many not_started CANCELLED "could never start (PartitionConfig)"
ends jobs noise ended_early CANCELLED "it was ended with after"
ends jobs beside passed COMPLETED
[[ ! "$(value jobs beside start_time)" < "$(value jobs noise start_time)" ]] || fail "beside came before"
says "5 of 10 runs failed"

echo "an option that sbatch does not have"
sed '/^monitor/a extra_sbatch_args = ["--no-such-option"]' system.toml >option_system.toml
scenario option <<'END'
option small nodes = "n1"
END
expect 1 $(suite option | sed 's/system.toml/option_system.toml/')
ends option option not_started null "no-such-option"

echo "a job takes more memory than it asked for"
sed '/^monitor/a extra_sbatch_args = ["--mem=500M"]' system.toml >memory_system.toml
scenario memory <<'END'
greedy endless nodes = "n1" ; time_limit = "1m"
modest small nodes = "n2" ; time_limit = "1m"
END
expect 1 $(suite memory | sed 's/system.toml/memory_system.toml/')
ends memory greedy out_of_memory FAILED "took more memory than it was given: StepId="
grep -q '^greedy.* out_of_memory' "$work/out" || fail "the table does not say it: $(cat "$work/out")"
ends memory modest passed COMPLETED

echo "tasks are ranks, and nodes have GPUs"
sed '/^monitor/a gpus_per_node = 2\nntasks_per_node = 2' system.toml >tasks_system.toml
scenario tasks <<'END'
tasks small num_nodes = 2
END
expect 0 $(suite tasks | sed 's/system.toml/tasks_system.toml/')
ends tasks tasks passed COMPLETED
[ "$(ls -d tasks.out/tasks_*/tasks/0/benchmark_2_ranks_*_standard | wc -l)" = 2 ] || fail "two ranks a node"
grep -q '^task 3 node 1 local_task 1 host ' "$(file_of tasks tasks mapping-stdout.txt)" || fail "mapping"
grep -qx '#SBATCH --gpus-per-node=2' "$(file_of tasks tasks cloudai_sbatch_script.sh)" || fail "no GPUs"

echo "a job is cancelled, a node is lost, and what is idle is taken"
scenario lost <<'END'
cancelled endless nodes = "n1"
down endless nodes = "n2"
END
$(suite lost) >lost.log 2>&1 &
lost=$!
until_it_runs cancelled
until_it_runs down
scenario idle <<'END'
all small nodes = "all:group:max_avail"
same small nodes = "all:group:max_avail"
END
expect 0 $(suite idle)
for id in all same; do
    [ "$(cat "$(file_of idle $id hostfile.txt)")" = n3 ] || fail "n3 alone is idle"
done
scenario busy <<'END'
three small nodes = "all:group:3"
END
expect 0 $(suite busy) --dry-run
[ "$(echo $(cat "$(file_of busy three hostfile.txt)"))" = "n3 n1 n2" ] || fail "idle nodes come first"
[ -z "$($head squeue -h -n three)" ] || fail "a dry run was submitted"
sed '/^monitor/a [[partitions]]\nname = "gone"\n[[partitions.groups]]\nname = "group"\nnodes = ["n1"]' \
    system.toml >gone_system.toml
scenario gone <<'END'
gone small nodes = "gone:group:1"
END
expect 2 $(suite gone | sed 's/system.toml/gone_system.toml/') --dry-run
says "Slurm has no node in a partition 'gone'"
$head scancel -n cancelled
$head scontrol update nodename=n2 state=down reason=test
wait $lost
[ $? = 1 ] || fail "lost: $(cat lost.log)"
ends lost cancelled cancelled CANCELLED
ends lost down node_lost NODE_FAIL "n2"

echo "a stop signal without a terminal cancels the suite's own jobs, and no other"
$head sbatch -Q -n1 -w n3 -J stranger --wrap "sleep 600" -o /dev/null
scenario stopped <<'END'
running endless nodes = "n1"
waiting endless nodes = "n1"
END
setsid $(suite stopped) >stopped.log 2>&1 </dev/null &
stopped=$!
until_it_runs running
kill -TERM $stopped
wait $stopped
[ $? = 143 ] || fail "stopped: $(cat stopped.log)"
ends stopped running cancelled CANCELLED
ends stopped waiting cancelled CANCELLED "before it started"
[ "$($head squeue -h -n stranger -t RUNNING | wc -l)" = 1 ] || fail "the stranger is gone"

echo "Ctrl-C at a terminal asks first"
(
    until_it_runs running
    printf '\003'
    sleep 1
    printf 'n\n'
) | script -qec "$(suite stopped)" /dev/null >asked.log 2>&1
grep -q '2 jobs are not over. Cancel them?' asked.log || fail "nobody asked: $(cat asked.log)"
[ "$($head squeue -h -n running,waiting | wc -l)" = 2 ] || fail "they were cancelled all the same"
$head scancel -n running,waiting,stranger

echo "texts that a shell would run arrive as they are, whatever sbatch finds in its environment"
nasty='a b "$(touch pwned)" `touch pwned` %j \ JobState=FAILED NodeList=n9 #'
mkdir "out $nasty"
cat >prolog <<END
#!/bin/sh
printf '%s' "\$VALUE" >$PWD/value
END
chmod +x prolog
cat >nasty.toml <<END
name = '$nasty'
[[Tests]]
id = 'id $nasty'
test_name = "small"
nodes = "n2"
time_limit = "10m"
extra_srun_args = '--task-prolog=$PWD/prolog "--comment=\$(touch pwned)"'
extra_env_vars = { VALUE = '''$nasty
touch pwned''' }
END
sed '/^monitor/a account = "a $(touch pwned) b"\nextra_sbatch_args = ["--comment=\\"c `touch pwned` d\\""]' \
    system.toml >nasty_system.toml
expect 0 $head env SBATCH_EXPORT=NONE SBATCH_PARTITION=short SBATCH_TIMELIMIT=1 SBATCH_ACCOUNT=other \
    SBATCH_JOB_NAME=other SBATCH_ARRAY_INX=0-1 "$moxie" suite run --test-scenario nasty.toml \
    --system-config nasty_system.toml --output-dir "out $nasty"
[ "$(cat value)" = "$nasty
touch pwned" ] || fail "the variable is another one"
$head scontrol show job --oneliner | grep -F "JobName=id $nasty " |
    grep -F 'Account=a $(touch pwned) b ' | grep -F ' TimeLimit=00:10:00 ' | grep -F ' Partition=all ' |
    grep -qF 'Comment=c `touch pwned` d ' ||
    fail "Slurm was told something else: $($head scontrol show job --oneliner | tail -n 1)"
[ -z "$(find "$work" -name pwned)" ] && [ ! -e /pwned ] || fail "a text was run"

echo "the time limit"
wait $slow
[ $? = 1 ] || fail "slow: $(cat slow.log)"
ends slow slow timed_out TIMEOUT "passed its time limit"
