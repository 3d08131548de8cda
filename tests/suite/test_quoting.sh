#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every text of a suite's files, one after the other, is something that a shell would run: the batch
# script that is made of it, executed by a real bash, runs nothing of it, or the text is refused.
#
#   test_quoting.sh MOXIE
set -u
moxie=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

# All that the program and the scripts find: no Slurm, and what the texts would run.
mkdir bin
ln -s "$(command -v touch)" "$(command -v bash)" bin

line="a\"b'c \$(touch pwned) \`touch pwned\` \\ ; touch pwned # & | > * \${HOME}"
lines="$line
touch pwned
#SBATCH --comment=pwned"

# A text as TOML's "…".
toml() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    printf '"%s"' "${text//$'\n'/\\n}"
}

# text KEY DEFAULT: what stands in the files for a key, nasty when it is this key's turn.
text() {
    if [ "$1" = "$turn" ]; then toml "$nasty"; else toml "$2"; fi
}

# path KEY DEFAULT: the same of a place in a container, which begins with a slash.
path() {
    if [ "$1" = "$turn" ]; then toml "/$nasty"; else toml "$2"; fi
}

write_files() {
    cat >test.toml <<END
name = $(text name small)
description = $(text description d)
test_template_name = $(text test_template_name MoEBenchmark)
git_repos = [{ url = $(text git_repos.url https://localhost) }]
nsys = { output = $(text nsys.output x) }
extra_container_mounts = [$(text extra_container_mounts /a:/b)]
extra_cmd_args = { "--x" = $(text extra_cmd_args y) }
extra_env_vars = { VALUE = $(text extra_env_vars 1) }
[cmd_args]
docker_image_url = $(text docker_image_url registry.example/image)
config_file_path = $(path config_file_path /tmp/config.yaml)
results_dir = $(path results_dir /results)
benchmark_root = $(text benchmark_root /root)
deepep_versions = [$(text deepep_versions v1)]
mode = $(text mode standard)
data_type = $(text data_type bfloat16)
END
    cat >scenario.toml <<END
name = $(text scenario.name s)
[[Tests]]
id = "first"
test_name = $(text name small)
[[Tests]]
id = $(text id second)
test_name = $(text name small)
nodes = [$(text nodes "$(if [ "$turn" = partitions.name ]; then printf '%s:g:1' "$nasty"
    elif [ "$turn" = groups.name ]; then printf 'p:%s:1' "$nasty"
    else echo p:g:1; fi)")]
exclude_nodes = [$(text exclude_nodes n9)]
time_limit = $(text time_limit 30m)
extra_srun_args = $(text Tests.extra_srun_args --overlap)
dependencies = [{ type = $(text dependencies.type start_post_comp), id = $(text dependencies.id first) }]
END
    cat >system.toml <<END
name = $(text system.name lab)
scheduler = $(text scheduler slurm)
install_path = $(text install_path ./install)
output_path = $(text output_path ./results)
default_partition = $(text partitions.name p)
account = $(text account a)
mpi = $(text mpi pmix)
distribution = $(text distribution block)
extra_srun_args = $(text extra_srun_args --overlap)
extra_sbatch_args = [$(text extra_sbatch_args --exclusive)]
container_mount_home = true
[[partitions]]
name = $(text partitions.name p)
[[partitions.groups]]
name = $(text groups.name g)
nodes = [$(text groups.nodes n1)]
[global_env_vars]
GLOBAL = $(text global_env_vars 1)
END
}

check() {
    local scripts
    rm -rf out ran
    mkdir ran
    write_files
    PATH="$work/bin" "$moxie" suite run --test-scenario scenario.toml --system-config system.toml --dry-run \
        --output-dir out >log 2>&1
    local code=$?
    mapfile -t scripts < <(find out -name cloudai_sbatch_script.sh 2>/dev/null)
    if [ "$turn" = scheduler ] && [ $code = 0 ]; then
        echo "FAILED: a scheduler that is none is taken"
        failures=$((failures + 1))
    fi
    case $code in
    0)
        [ ${#scripts[@]} = 2 ] || code="0, but ${#scripts[@]} scripts"
        for script in "${scripts[@]}"; do
            bash -n "$script" || code="0, but $script is no script"
            (cd ran && PATH="$work/bin" bash "$script" >>../log 2>&1)
            [ $? = 127 ] || code="0, but $script does not come to its srun"
            grep -qx '#SBATCH --comment=pwned' "$script" && code="0, but the line is in $script"
        done
        [ "$code" = 0 ] && ran_count=$((ran_count + 1))
        ;;
    2) grep -q 'error: ' log && refused="$refused $turn" || code="2, with no mistake" ;;
    esac
    case $code in
    0 | 2) ;;
    *)
        echo "FAILED: $turn: exit code $code"
        cat log
        failures=$((failures + 1))
        ;;
    esac
    if [ -n "$(find . -name pwned -o -name x)" ]; then
        echo "FAILED: $turn was run by a shell"
        failures=$((failures + 1))
        find . '(' -name pwned -o -name x ')' -delete
    fi
}

keys="name description test_template_name git_repos.url nsys.output extra_container_mounts
    extra_cmd_args extra_env_vars docker_image_url config_file_path results_dir benchmark_root
    deepep_versions mode data_type scenario.name id nodes exclude_nodes time_limit
    Tests.extra_srun_args dependencies.type dependencies.id system.name scheduler install_path
    output_path account mpi distribution extra_srun_args extra_sbatch_args partitions.name
    groups.name groups.nodes global_env_vars"
for nasty in "$line" "$lines" "--x=$lines" "'$lines'"; do
    ran_count=0
    refused=
    for turn in $keys; do
        check
    done
    echo "$ran_count scripts were run; refused:$refused"
    [ $ran_count -ge 14 ] || failures=$((failures + 1))
done

# What stands in quotes arrives as it is.
nasty="'--comment=\$(touch pwned) \`touch pwned\`'" turn=extra_srun_args
check
grep -qF -- '"--comment=\$(touch pwned) \`touch pwned\`"' out/*/first/0/cloudai_sbatch_script.sh ||
    { echo "FAILED: an option of srun is not what it was" && failures=$((failures + 1)); }
# A container is asked for, and has what the run needs.
grep -q -- ' --container-image=registry.example/image --container-mounts=[^ ]*/first/0/config.yaml:/tmp/config.yaml,[^ ]*/first/0:/results,/a:/b --container-mount-home ' \
    out/*/first/0/cloudai_sbatch_script.sh ||
    { echo "FAILED: no container" && failures=$((failures + 1)); }
[ $failures -eq 0 ]
