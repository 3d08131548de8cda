#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Records for the tests of moxie report, measured now by the same build: a suite with a sweep over tokens
# and ranks and a test that cannot run here, the same again against it, a benchmark, and a tuning. What
# names may be has markup in it.
#
#   records.sh MOXIE FOLDER      makes FOLDER/earlier, FOLDER/later (suites), FOLDER/bench, FOLDER/tuning
set -eu
moxie=$(realpath "$1")
mkdir -p "$2"
cd "$2"

cat >system.toml <<'END'
name = "two ranks a node"
scheduler = "slurm"
gpus_per_node = 2
install_path = "."
output_path = "."
default_partition = "p"
[[partitions]]
name = "p"
END

cat >scenario.toml <<'END'
name = "small"
[[Tests]]
id = "sweep"
name = "sweep </script><script>window.wasHacked = 1</script>"
description = "<img src=x onerror='window.wasHacked = 1'> & \"quotes\" <!-- <script>"
test_template_name = "DeepEPBenchmark"
num_nodes = [1, 2]
[Tests.cmd_args]
mode = "standard"
tokens = [128, 512]
num_experts = 16
num_topk = 4
hidden_size = 512
num_warmups = 2
num_iterations = 20

[[Tests]]
id = "<img src=x onerror='window.wasHacked = 1'>"
name = "too much"
description = "more than the memory of any machine"
test_template_name = "DeepEPBenchmark"
num_nodes = 1
[Tests.cmd_args]
mode = "standard"
tokens = 16777216
num_experts = 16
num_topk = 4
hidden_size = 65536
END

# The test that cannot run fails the suite, as it should.
suite() {
    local result=0
    "$moxie" suite run --backend shm --local --test-scenario scenario.toml \
        --system-config system.toml "$@" >>log.txt 2>&1 || result=$?
    [ "$result" = 1 ] || { cat log.txt && exit 1; }
}

suite --output-dir .
mv small_* earlier
suite --output-dir . --baseline earlier
mv small_* later
"$moxie" bench --backend shm --tokens 256 --hidden 512 --experts 16 --topk 4 --iterations 20 \
    --output-dir . >>log.txt
mv bench_* bench
"$moxie" tune --backend shm --mode quick --ranks 2 --tokens 64 --hidden 256 --experts 8 --topk 2 \
    --warmups 1 --iterations 5 --time-limit 4 --store store --output-dir tuning >>log.txt 2>&1
