#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Scripts of runs that are put into containers: which image, what is mounted, and what Pyxis, which cuts
# lists of mounts at commas and mounts at colons, would read as something else and is refused before.
#
#   test_containers.sh MOXIE
set -u
moxie=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
    echo "FAILED: $*"
    cat err 2>/dev/null
    failures=$((failures + 1))
}

# write NAME ID IMAGE KEYS MOUNTS SWITCH: the files of one test; KEYS are lines of cmd_args.
write() {
    cat >scenario.toml <<EOF
name = "$1"
[[Tests]]
id = "$2"
name = "small"
description = "d"
test_template_name = "DeepEP"
extra_container_mounts = [$5]
[Tests.cmd_args]
docker_image_url = "$3"
$(printf '%b' "$4")
EOF
    cat >system.toml <<EOF
name = "lab"
scheduler = "slurm"
install_path = "./install"
output_path = "${output:-out}"
default_partition = "p"
$6
[[partitions]]
name = "p"
EOF
}

# plan [FLAGS]: a dry run without Slurm; what it says is in err, its exit code in $code.
plan() {
    rm -rf out
    PATH=/nonexistent "${program:-$moxie}" suite run --test-scenario scenario.toml \
        --system-config system.toml --dry-run "$@" >/dev/null 2>err
    code=$?
}

# refused PLACE TEXT: exit code 2, an error at this place, and no folder of results.
refused() {
    [ $code = 2 ] && grep -F -- "$1: " err | grep -qF -- "$2" || fail "not refused at $1: $2"
    [ -z "$(find . -name cloudai_sbatch_script.sh)" ] || fail "there is a script all the same"
}

# has TEXT: the line of the ranks has it.
has() {
    [ $code = 0 ] && grep -qF -- "$1" out/*/t/0/cloudai_sbatch_script.sh || fail "there is no $1"
}

asks="container_mount_home = true"
image=registry.example/image:1

# What is written.
write s t $image "" '"/data:/data:ro", "/etc/x"' "$asks"
plan
has " --container-image=$image --container-mounts="
has ":/workspace/dp-benchmark/results,/data:/data:ro,/etc/x --container-mount-home "
has " --output-dir=/workspace/dp-benchmark/results "
has " /tmp/config.yaml"
write s t images/a.sqsh "" "" "cache_docker_images_locally = true"
plan
has " --container-image=$PWD/images/a.sqsh --container-mounts="
has " --no-container-mount-home "
grep -q 'scenario.toml:9:1: warning: cmd_args.docker_image_url: there is no such file here' err ||
    fail "nobody says that the image is missing"
mkdir images && touch images/a.sqsh
plan
grep -q docker_image_url err && fail "the image is there"
write s t /images/b "" "" "$asks"
plan
has " --container-image=/images/b "

# What cannot be.
write a,b t $image "" "" "$asks"
plan
refused "scenario.toml:1:1: error: name" "no path with ','"
write s t:1 $image "" "" "$asks"
plan
refused "scenario.toml:3:1: error: Tests.id" "no path with ':'"
write s t $image 'results_dir = "/a:b"' "" "$asks"
plan
refused "scenario.toml:10:1: error: cmd_args.results_dir" "no path with ':'"
write s t $image 'results_dir = "results"' "" "$asks"
plan
refused "scenario.toml:10:1: error: cmd_args.results_dir" "must be a path from / on"
write s t $image 'config_file_path = "/tmp/a,b"' "" "$asks"
plan
refused "scenario.toml:10:1: error: cmd_args.config_file_path" "no path with ','"
for mount in /a:/b,/c:/d :/b /a: /a::ro /a:/b:ro:x ""; do
    write s t $image "" "\"$mount\"" "$asks"
    plan
    refused "scenario.toml:7:1: error: extra_container_mounts" "'$mount' is no mount"
done
write s t $image "" "" "$asks"
plan --output-dir x:y
refused "moxie suite run: --output-dir" "$PWD/x:y: a container is to mount it"
output=x,y
write s t $image "" "" "$asks"
plan
refused "system.toml: output_path" "$PWD/x,y: a container is to mount it"
unset output
mkdir bin,1 && cp "$moxie" bin,1/moxie
write s t $image "" "" "$asks"
LD_LIBRARY_PATH=$(dirname "$moxie") program=$PWD/bin,1/moxie plan
refused "this program" "$PWD/bin,1/moxie: a container is to mount it"

# A folder that verify is given has all of them.
write a,b t:1 $image 'results_dir = "a"' '"/a:"' "$asks"
"$moxie" suite verify scenario.toml system.toml >/dev/null 2>err
[ $? = 2 ] && [ "$(grep -c ' error: ' err)" = 4 ] || fail "verify does not find all four"

# Without a container it is nobody's business.
for switch in "" "container_mount_home = false"; do
    write a,b t:1 $image 'results_dir = "a"' '"/a:"' "$switch"
    plan --output-dir out/x:y
    [ $code = 0 ] || fail "refused, and no container is asked for"
done
write a,b t:1 "" 'results_dir = "a"' '"/a:"' "$asks"
plan
[ $code = 0 ] || fail "refused, and there is no image"
write a,b t:1 $image 'results_dir = "a"' '"/a:"' "$asks"
plan --local --backend shm
[ $code = 0 ] || fail "refused, and the ranks are on this machine"
[ $failures -eq 0 ]
