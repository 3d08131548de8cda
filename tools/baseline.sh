#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures Moxie beside both MPI baselines in expert_major on the default shape, 2 and 4 ranks, five
# runs a case in turns, and writes medians, all runs, the commands and the commit as one JSON document to
# docs/results/DATE-MACHINE-mpi-baseline.json. Only on a quiet machine: it says how loaded it was.
#
#   tools/baseline.sh MACHINE [RUNS [ITERATIONS]]   MACHINE: a word for the file's name, "2-core-spr"
set -euo pipefail
machine=${1:?usage: tools/baseline.sh MACHINE [RUNS [ITERATIONS]]}
runs=${2:-5}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="--layout expert_major --iterations ${3:-50} --json"

# Which way Open MPI copies between processes is the better one depends on machine and moment, so
# both are measured; the one that is harder on Moxie counts.
for run in $(seq "$runs"); do
    for ranks in 2 4; do
        for baseline in mpi mpi-dedup; do
            for copy in none cma; do
                stem=$work/$baseline-$ranks-$copy-$run
                cut -d' ' -f1 /proc/loadavg >"$stem.load"
                echo "run $run of $runs: $baseline, $ranks ranks, $copy (load $(cat "$stem.load"))" >&2
                # shellcheck disable=SC2086 # the flags are several words
                OMPI_MCA_btl_vader_single_copy_mechanism=$copy build/moxie bench \
                    --ranks "$ranks" --baseline "$baseline" $flags >"$stem.json"
            done
        done
    done
done

out=docs/results/$(date +%F)-$machine-mpi-baseline.json
mkdir -p docs/results
COMMIT=$(git rev-parse HEAD)$(git diff --quiet HEAD || echo -dirty) FLAGS=$flags RUNS=$runs \
    python3 - "$work" >"$work/out" <<'PYTHON'
import itertools, json, os, statistics, sys

work, runs = sys.argv[1], int(os.environ["RUNS"])
goals = {"mpi": 3.0, "mpi-dedup": 1.5}
cases = []
for ranks, name, copy in itertools.product((2, 4), goals, ("none", "cma")):
    case = {"baseline": name, "ranks": ranks, "single_copy": copy, "goal": goals[name], "runs": []}
    case["command"] = (f"OMPI_MCA_btl_vader_single_copy_mechanism={copy} "
                       f"moxie bench --ranks {ranks} --baseline {name} {os.environ['FLAGS']}")
    for run in range(1, runs + 1):
        stem = os.path.join(work, f"{name}-{ranks}-{copy}-{run}")
        record = json.load(open(stem + ".json"))
        other = record["baseline"]
        one = {"load_before": float(open(stem + ".load").read()), "verified": record["verified"]}
        for call in ("dispatch", "combine"):
            one[call] = {
                "moxie_us": record[call]["time_us"]["p50"],
                "baseline_us": other[call]["time_us"]["p50"],
                "alltoallv_share": other[call]["alltoallv_share"],
                "speedup": other[call]["speedup"],
            }
        one["speedup"] = sum(one[c]["baseline_us"] for c in ("dispatch", "combine")) / sum(
            one[c]["moxie_us"] for c in ("dispatch", "combine"))
        case["runs"].append(one)
    median = lambda pick: statistics.median(pick(one) for one in case["runs"])
    case["median"] = {
        "dispatch_speedup": median(lambda one: one["dispatch"]["speedup"]),
        "combine_speedup": median(lambda one: one["combine"]["speedup"]),
        "speedup": median(lambda one: one["speedup"]),
    }
    cases.append(case)
document = {"commit": os.environ["COMMIT"], "tool": "tools/baseline.sh",
            "library": other["library"], "machine": record["machine"],
            "version": record["version"], "cases": cases}
json.dump(document, sys.stdout, indent=2)
print()
for case in cases:
    print(f"{case['baseline']:9} {case['ranks']} ranks, {case['single_copy']:4}: dispatch {case['median']['dispatch_speedup']:.2f}x, "
          f"combine {case['median']['combine_speedup']:.2f}x, both {case['median']['speedup']:.2f}x, "
          f"goal {case['goal']}x", file=sys.stderr)
PYTHON
mv "$work/out" "$out"
echo "results are in $out" >&2
