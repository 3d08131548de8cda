/* SPDX-License-Identifier: Apache-2.0 */
/* Bad input of every kind: the right exit code, a sentence that names it, nothing on standard
 * output, nothing left behind. */
#include "support/check.h"

#include "cli/program.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct bad_case {
    const char *arguments;
    int exit_code;
    const char *part; /* of the message */
} bad_case_t;

static void check(const bad_case_t *bad)
{
    program_t program = program_run(bad->arguments);
    if (program.exit_code != bad->exit_code)
        fail_msg("moxie %s: exit code %d, signal %d, not %d\n%s", bad->arguments, program.exit_code,
                 program.signal, bad->exit_code, program.err);
    if (strstr(program.err, bad->part) == NULL)
        fail_msg("moxie %s: '%s' is not in:\n%s", bad->arguments, bad->part, program.err);
    if (program.out[0] != '\0')
        fail_msg("moxie %s: standard output is not empty:\n%s", bad->arguments, program.out);
    program_check_clean(&program);
    program_release(&program);
}

static void check_all(const bad_case_t *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check(&cases[i]);
}

#define CHECK_ALL(cases) check_all(cases, sizeof(cases) / sizeof((cases)[0]))

static void test_commands(void **state)
{
    (void)state;
    static const bad_case_t cases[] = {
        {"", 2, "Usage"},
        {"bnech", 2, "is it 'bench'?"},
        {"--nonsense", 2, "--nonsense"},
        {"help nonsense", 2, "there is no command 'nonsense'"},
        {"info --nonsense", 2, "--nonsense"},
        {"info extra", 2, "'extra' is no option"},
        {"bench extra", 2, "'extra' is no option"},
        {"bench --nonsense", 2, "--nonsense"},
        {"bench --tokens", 2, "requires an argument"},
        {"report --json", 2, "moxie report: DIR is missing"},
        {"suite", 2, "Usage"},
        {"suite verfy x.toml", 2, "is it 'verify'?"},
        {"suite verify", 2, "name files or folders"},
        {"suite run", 2, "--test-scenario FILE is missing"},
        {"suite run --test-scenario missing.toml", 2, "missing.toml: "},
        {"suite run --test-scenario x --fail-below 0.9", 2, "--fail-below needs --baseline"},
        {"suite run --test-scenario x --baseline b --fail-below 2", 2, "no number above 0"},
        {"suite run --test-scenario x --backend tpu", 2, "'tpu' is none of auto|shm|cuda"},
    };
    CHECK_ALL(cases);
}

static void test_values(void **state)
{
    (void)state;
    static const bad_case_t cases[] = {
        {"bench --tokens -5", 2, "--tokens: -5 is out of range"},
        {"bench --tokens -5 --json", 2, "--tokens: -5 is out of range"},
        {"bench --tokens=4x", 2, "--tokens: '4x' is not a whole number"},
        {"bench --tokens ''", 2, "--tokens: '' is not a whole number"},
        {"bench --tokens 99999999999999999999", 2, "99999999999999999999 is out of range"},
        {"bench --topk 99 --experts 3", 2, "--topk: 99 is out of range, it can be 1 to 64"},
        {"bench --topk 9 --experts 3", 2, "--topk: topk 9 is more than the 3 experts (--experts)"},
        {"bench --experts 3", 2, "topk 8 is more than the 3 experts (--experts)"},
        {"bench --hidden 0", 2, "--hidden: 0 is out of range"},
        {"bench --ranks 0", 2, "--ranks"},
        {"bench --ranks 513", 2, "--ranks: 513 is out of range, it can be 1 to 512"},
        {"bench --seed -1", 2, "--seed"},
        {"bench --iterations 0", 2, "--iterations"},
        {"bench --timeout 0", 2, "--timeout"},
        {"bench --shape qwen3-30b-a3", 2, "is it 'qwen3-30b-a3b'?"},
        {"bench --shape gpt9", 2, "there is no shape 'gpt9'"},
        {"bench --layout diagonal", 2, "'diagonal' is none of rank_major|expert_major"},
        {"bench --direction backward --route fresh", 2, "--route: fresh contradicts --direction"},
        {"bench --direction backward --mode low_latency", 2,
         "--direction backward contradicts --mode low_latency, which has none"},
        {"bench --mode low_latency --capacity 9", 2,
         "--capacity contradicts --mode low_latency, where every row has a slot"},
        {"bench --mode low_latency --baseline mpi-dedup", 2,
         "--baseline mpi-dedup contradicts --mode low_latency"},
        {"bench --dtype fp8 --direction backward", 2,
         "--direction backward contradicts --dtype fp8: gradients are bf16"},
        {"bench --dtype fp8 --baseline mpi --layout expert_major", 2,
         "--baseline mpi contradicts --dtype fp8: it moves bf16"},
        {"bench --quantize fused", 2, "--quantize fused contradicts --dtype bf16"},
        {"bench --tokens 64 --capacity 5", 2, "--capacity: 5 rows are too few: rank 0 receives"},
        {"bench --tokens 16777216 --hidden 1048576", 2, "are available"},
        {"bench --tokens 1000000 --ranks 16 --layout expert_major", 2, "this run needs"},
    };
    CHECK_ALL(cases);
}

static void test_later(void **state)
{
    (void)state;
    static const bad_case_t cases[] = {
        {"bench --backend cuda", 77, "backend cuda is not available here: "},
        {"bench --layer", 77, "--layer is not built yet"},
        {"bench --backend tpu", 2, "'tpu' is none of"},
        {"bench --mode fast", 2, "'fast' is none of"},
        {"bench --sms 0", 2, "--sms: 0 is out of range"},
        {"bench --trace no/such/folder/t.json --tokens 4", 2, "no/such/folder/t.json cannot be"},
        {"bench --trace ''", 2, "--trace: must not be empty"},
    };
    CHECK_ALL(cases);
}

static void test_places(void **state)
{
    (void)state;
    static const bad_case_t cases[] = {
        {"bench --launch graph", 77, "--launch graph needs backend cuda, which is not available"},
        {"bench --sms 8", 77, "--sms needs backend cuda, which is not available"},
        {"bench --baseline nccl", 77, "--baseline nccl needs backend cuda, which is not available"},
        {"bench --backend shm --launch graph", 2,
         "--launch graph needs backend cuda and contradicts --backend shm"},
        {"bench --backend shm --sms 8", 2, "--sms needs backend cuda and contradicts --backend"},
        {"bench --backend shm --baseline nccl", 2, "--baseline nccl needs backend cuda"},
        {"bench --backend cuda --baseline mpi", 2,
         "--baseline mpi needs backend shm and contradicts --backend cuda"},
        {"bench --backend cuda --launch graph", 77, "backend cuda is not available here: "},
        {"bench --launch nap", 2, "'nap' is none of stream|graph"},
    };
    CHECK_ALL(cases);
}

static void test_routings(void **state)
{
    (void)state;
    static const char latin1[] = "caf\xe9 au lait\n";
    static const char garbage[] =
        "\x7f\x45\x4c\x46\x00\x01\x02\x03\xff\xfe\xfd\xfc garbage garbage";
    static const char cut[] = "MOXIERTG\x01\x00\x00\x00\x02";
    static const char other_version[40] = "MOXIERTG\x09";
    program_write_file("latin1.txt", latin1, sizeof(latin1) - 1);
    program_write_file("garbage", garbage, sizeof(garbage));
    program_write_file("cut", cut, sizeof(cut));
    program_write_file("version9", other_version, sizeof(other_version));
    program_write_file("empty", "", 0);
    program_write_file("truncated.txt", "whale \xe2\x80", 8);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    static const bad_case_t cases[] = {
        {"bench --routing zigzag", 2, "--routing: 'zigzag' is none of"},
        {"bench --routing zipf:", 2, "zipf:"},
        {"bench --routing zipf:-1", 2, "the exponent must be 0 to 16"},
        {"bench --routing zipf:1.5x", 2, "the exponent must be 0 to 16"},
        {"bench --routing zipf:nan", 2, "the exponent must be 0 to 16"},
        {"bench --routing zipf:1e9", 2, "the exponent must be 0 to 16"},
        {"bench --routing zipf:17", 2, "the exponent must be 0 to 16"},
        {"bench --routing text:", 2, "lacks a file name"},
        {"bench --routing text:missing.txt", 2, "missing.txt: No such file"},
        {"bench --routing text:.", 2, ". is a folder"},
        {"bench --routing text:pipe", 2, "pipe is not a regular file"},
        {"bench --routing text:empty", 2, "empty: there is no word in it"},
        {"bench --routing text:latin1.txt", 2, "latin1.txt:1: byte 3 (0xe9) is not text"},
        {"bench --routing text:garbage", 2, "garbage:1: byte 0 (0x7f) is not text"},
        {"bench --routing text:truncated.txt", 2, "truncated.txt:1: byte 6"},
        {"bench --routing file:missing", 2, "missing: No such file"},
        {"bench --routing file:empty", 2, "empty: is not a recorded routing"},
        {"bench --routing file:garbage", 2, "garbage: is not a recorded routing"},
        {"bench --routing file:cut", 2, "cut: is cut off inside its header"},
        {"bench --routing file:version9", 2, "version9: has version 9"},
        {"bench --routing file:/dev/zero", 2, "/dev/zero is not a regular file"},
    };
    CHECK_ALL(cases);
}

static void test_outputs(void **state)
{
    (void)state;
    program_write_file("file", "x", 1);
    assert_int_equal(mkdir("folder", 0700), 0);
    static const bad_case_t cases[] = {
        {"bench --output-dir file", 2, "--output-dir: no folder can be made in file"},
        {"bench --output-dir file/below", 2, "--output-dir: no folder can be made in file/below"},
        {"bench --output-dir /proc/moxie", 2, "--output-dir"},
        {"bench --output-dir /proc", 2, "--output-dir"},
        {"bench --record-routing folder", 2, "folder is not a regular file"},
        {"bench --record-routing /dev/null", 2, "/dev/null is not a regular file"},
        {"bench --record-routing missing/r", 2, "missing/r cannot be written: No such file"},
        {"bench --record-routing file/r", 2, "file/r cannot be written: Not a directory"},
        {"bench --record-routing /proc/r", 2, "/proc/r cannot be written"},
        /* The second output cannot be written: the first one must not stay either. */
        {"bench --output-dir new/results --record-routing folder", 2, "folder is not a regular"},
    };
    CHECK_ALL(cases);
}

static void test_config_files(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *part;
    } files[] = {
        {"tokens = -5\n", "c.toml:1: tokens: -5 is out of range"},
        {"# a comment\n\ntokns = 5\n", "c.toml:3: there is no key 'tokns', is it 'tokens'?"},
        {"zebra = 5\n", "c.toml:1: there is no key 'zebra'\n"},
        {"tokens = '64'\n", "c.toml:1: tokens: must be a whole number, not a string"},
        {"tokens = 64.0\n", "c.toml:1: tokens: must be a whole number, not a fraction"},
        {"ranks = 2\nlayout = 3\n", "c.toml:2: layout: must be a string, not a whole number"},
        {"layout = 'diagonal'\n", "c.toml:1: layout: 'diagonal' is none of"},
        {"json = 1\n", "c.toml:1: json: must be true or false, not a whole number"},
        {"[bench]\ntokens = 64\n", "c.toml:1: there is no key 'bench'\n"},
        {"routing = ['uniform']\n", "c.toml:1: routing: must be a string, not an array"},
        {"output_dir = \"a\\u0000b\"\n", "c.toml:1: output_dir: must be a string, not a string"},
        {"config = 'other.toml'\n", "c.toml:1: there is no key 'config'"},
        {"a = '...........................................'\n", "there is no key 'a'"},
        {"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1\n",
         "c.toml:1: a key must not have more than 32 parts"},
        {"ranks = 2\nranks = 3\n", "c.toml:2: "},
        {"ranks = \n", "c.toml:1: "},
        {"ranks = 99999999999999999999\n", "c.toml:1: "},
        {"\n\nshape = 'gpt9'\n", "c.toml:3: shape: there is no shape 'gpt9'"},
        {"topk = 9\nexperts = 3\n", "c.toml:1: topk: topk 9 is more than the 3 experts (c.toml:2"},
        {"mode = 'low_latency'\ncapacity = 3\n",
         "c.toml:2: capacity contradicts c.toml:1: mode low_latency"},
        {"layer = true\n", "c.toml:1: layer is not built yet"},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        int exit_code = strstr(files[i].part, "not built") == NULL ? 2 : 77;
        bad_case_t bad = {"bench --config c.toml", exit_code, files[i].part};
        program_write_file("c.toml", files[i].text, strlen(files[i].text));
        check(&bad);
    }
    static const bad_case_t cases[] = {
        {"bench --config missing.toml", 2, "--config: missing.toml: No such file"},
        {"bench --config .", 2, "--config: . is a folder"},
        {"bench --config /dev/null", 2, "not a regular file"},
        {"bench --config ''", 2, "--config: must not be empty"},
    };
    CHECK_ALL(cases);
    /* A flag wins, and the file is checked all the same. */
    program_write_file("c.toml", "tokens = 0\n", 11);
    static const bad_case_t overruled = {"bench --tokens 8 --config c.toml", 2,
                                         "c.toml:1: tokens: 0 is out of range"};
    check(&overruled);
}

static void test_launchers(void **state)
{
    (void)state;
    static const struct {
        const char *variables[8];
        bad_case_t bad;
    } cases[] = {
        {{"OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_LOCAL_SIZE",
          "2", "PMIX_NAMESPACE", "1"},
         {"bench", 77,
          "exchange across hosts comes later: mpirun started 4 ranks, only 2 of them on this"}},
        {{"SLURM_PROCID", "0", "SLURM_NTASKS", "2", "SLURM_STEP_ID", "0", "SLURM_STEP_NUM_NODES",
          "2"},
         {"bench", 77, "exchange across hosts comes later: srun started 2 ranks on 2 hosts"}},
        {{"RANK", "0", "WORLD_SIZE", "4"}, {"bench", 2, "MASTER_PORT is not: the ranks cannot"}},
        {{"RANK", "0", "WORLD_SIZE", "4", "LOCAL_WORLD_SIZE", "5"},
         {"bench", 2, "LOCAL_WORLD_SIZE: '5' is not a number from 1 to 4"}},
        {{"RANK", "0", "WORLD_SIZE", "513"},
         {"bench", 2, "WORLD_SIZE: '513' is not a number from 1 to 512"}},
        {{"RANK", "0", "WORLD_SIZE", "1"}, {"bench --ranks 2", 2, "contradicts torchrun"}},
        {{"RANK", "0", "WORLD_SIZE", "many"}, {"bench", 2, "WORLD_SIZE: 'many'"}},
        {{"RANK", "4", "WORLD_SIZE", "4"}, {"bench", 2, "RANK: '4' is not a number from 0 to 3"}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int v = 0; v < 8 && cases[i].variables[v] != NULL; v += 2)
            assert_int_equal(setenv(cases[i].variables[v], cases[i].variables[v + 1], 1), 0);
        check(&cases[i].bad);
        for (int v = 0; v < 8 && cases[i].variables[v] != NULL; v += 2)
            assert_int_equal(unsetenv(cases[i].variables[v]), 0);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),     cmocka_unit_test(test_values),
        cmocka_unit_test(test_later),        cmocka_unit_test(test_places),
        cmocka_unit_test(test_routings),     cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_config_files), cmocka_unit_test(test_launchers),
    };
    if (argc != 2)
        return 2;
    program_setup(argv[1]);
    (void)setenv("CUDA_VISIBLE_DEVICES", "", 1); /* everywhere a machine without a GPU */
    int failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    program_teardown();
    return failed_count != 0;
}
