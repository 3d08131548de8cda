/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the text file of stored settings. */
#include "store/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int settings_folder(char *path, size_t bytes)
{
    const char *own = getenv("MOXIE_TUNING");
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    int length = -1;
    if (own != NULL && own[0] != '\0') {
        if (strcmp(own, "off") == 0) {
            return 0;
        }
        length = snprintf(path, bytes, "%s", own);
    } else if (data != NULL && data[0] == '/') { /* a relative one is invalid, says XDG */
        length = snprintf(path, bytes, "%s/moxie", data);
    } else if (home != NULL && home[0] != '\0') {
        length = snprintf(path, bytes, "%s/.local/share/moxie", home);
    }
    return length > 0 && (size_t)length < bytes;
}

static int take_text(const char *value, char *out, size_t bytes)
{
    return snprintf(out, bytes, "%s", value) < (int)bytes;
}

static int take_number(const char *value, int64_t *out)
{
    char *end;
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    *out = number;
    return end != value && *end == '\0' && errno == 0;
}

static int take_knob(const char *name, const char *value, settings_entry_t *entry)
{
    if (entry->knob_count >= SETTINGS_KNOB_COUNT_MAX || name[0] == '\0') {
        return 0;
    }
    settings_knob_t *knob = &entry->knobs[entry->knob_count];
    entry->knob_count++;
    return take_text(name, knob->name, sizeof(knob->name)) && take_number(value, &knob->value);
}

/* "VALUE:LATENCY:SLOPE,…" */
static int take_model(const char *name, char *text, settings_entry_t *entry)
{
    char *rest = NULL;
    if (entry->model_count >= SETTINGS_KNOB_COUNT_MAX || name[0] == '\0') {
        return 0;
    }
    settings_model_t *model = &entry->models[entry->model_count];
    entry->model_count++;
    if (!take_text(name, model->name, sizeof(model->name))) {
        return 0;
    }
    for (char *word = strtok_r(text, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        char *latency = strchr(word, ':');
        char *slope = latency != NULL ? strchr(latency + 1, ':') : NULL;
        if (slope == NULL || model->point_count >= SETTINGS_POINT_COUNT_MAX) {
            return 0;
        }
        settings_point_t *point = &model->points[model->point_count];
        model->point_count++;
        *latency++ = '\0';
        *slope++ = '\0';
        if (!take_number(word, &point->value) || !take_number(latency, &point->latency_ns) ||
            !take_number(slope, &point->ns_per_mb)) {
            return 0;
        }
    }
    return model->point_count > 0;
}

/* A key that this version does not know belongs to a later one, and makes the line one of its. */
static int take_word(char *word, settings_entry_t *entry)
{
    static const char knob_prefix[] = "knob.";
    static const char model_prefix[] = "model.";
    settings_key_t *key = &entry->key;
    const struct {
        const char *name;
        int64_t *number;
    } numbers[] = {{"ranks", &key->ranks},   {"tokens", &key->tokens},
                   {"hidden", &key->hidden}, {"experts", &key->experts},
                   {"topk", &key->topk},     {"model_error", &entry->model_error}};
    char *value = strchr(word, '=');
    if (value == NULL) {
        return 0;
    }
    *value++ = '\0';
    if (strncmp(word, knob_prefix, strlen(knob_prefix)) == 0) {
        return take_knob(word + strlen(knob_prefix), value, entry);
    }
    if (strncmp(word, model_prefix, strlen(model_prefix)) == 0) {
        return take_model(word + strlen(model_prefix), value, entry);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(word, numbers[i].name) == 0) {
            return take_number(value, numbers[i].number) && *numbers[i].number >= 0;
        }
    }
    if (strcmp(word, "backend") == 0) {
        return take_text(value, key->backend, sizeof(key->backend));
    }
    if (strcmp(word, "machine") == 0) {
        return take_text(value, key->machine, sizeof(key->machine));
    }
    if (strcmp(word, "mode") == 0) {
        return take_text(value, key->mode, sizeof(key->mode));
    }
    return strcmp(word, "variant") == 0 && take_text(value, key->variant, sizeof(key->variant));
}

int settings_parse(const char *line, settings_entry_t *out)
{
    char copy[SETTINGS_LINE_BYTES];
    char *rest = NULL;
    *out = (settings_entry_t){.knob_count = 0};
    if (!take_text(line, copy, sizeof(copy))) {
        return 0;
    }
    for (char *word = strtok_r(copy, " \n", &rest); word != NULL;
         word = strtok_r(NULL, " \n", &rest)) {
        if (!take_word(word, out)) {
            return 0;
        }
    }
    return out->key.backend[0] != '\0' && out->key.machine[0] != '\0' && out->key.ranks > 0 &&
           out->knob_count > 0;
}

int settings_print(const settings_entry_t *entry, FILE *out)
{
    const settings_key_t *key = &entry->key;
    (void)fprintf(out,
                  "backend=%s machine=%s mode=%s variant=%s ranks=%" PRId64 " tokens=%" PRId64
                  " hidden=%" PRId64 " experts=%" PRId64 " topk=%" PRId64,
                  key->backend, key->machine, key->mode, key->variant, key->ranks, key->tokens,
                  key->hidden, key->experts, key->topk);
    for (int32_t i = 0; i < entry->knob_count; i++) {
        (void)fprintf(out, " knob.%s=%" PRId64, entry->knobs[i].name, entry->knobs[i].value);
    }
    if (entry->model_count > 0) {
        (void)fprintf(out, " model_error=%" PRId64, entry->model_error);
    }
    for (int32_t i = 0; i < entry->model_count; i++) {
        const settings_model_t *model = &entry->models[i];
        (void)fprintf(out, " model.%s=", model->name);
        for (int32_t j = 0; j < model->point_count; j++) {
            const settings_point_t *point = &model->points[j];
            (void)fprintf(out, "%s%" PRId64 ":%" PRId64 ":%" PRId64, j > 0 ? "," : "", point->value,
                          point->latency_ns, point->ns_per_mb);
        }
    }
    return fputc('\n', out) != EOF;
}

static double factor(int64_t wanted, int64_t has)
{
    return wanted <= 0 || has <= 0 ? 0.0 : fabs(log2((double)wanted / (double)has));
}

static int differs(const char *wanted, const char *has)
{
    return wanted[0] != '\0' && strcmp(wanted, has) != 0;
}

double settings_distance(const settings_key_t *wanted, const settings_key_t *entry)
{
    if (differs(wanted->backend, entry->backend) || differs(wanted->machine, entry->machine) ||
        differs(wanted->mode, entry->mode)) {
        return -1.0;
    }
    /* Another number of ranks changes more than as many times the tokens. */
    return 4.0 * factor(wanted->ranks, entry->ranks) + factor(wanted->tokens, entry->tokens) +
           factor(wanted->hidden, entry->hidden) + factor(wanted->experts, entry->experts) +
           factor(wanted->topk, entry->topk) + differs(wanted->variant, entry->variant);
}

double settings_mb(const settings_key_t *key)
{
    const double ranks = (double)key->ranks;
    if (key->ranks <= 0 || key->topk <= 0) {
        return 0.0;
    }
    const double copies = ranks * (1.0 - pow(1.0 - 1.0 / ranks, (double)key->topk));
    return (double)key->tokens * (double)key->hidden * 2.0 * copies / 1e6;
}

static double time_of(const settings_point_t *point, double mb)
{
    return (double)point->latency_ns + (double)point->ns_per_mb * mb;
}

/* The default, unless another value is expected to gain more than the model is wrong by. */
static int64_t propose(const settings_model_t *model, double mb, int64_t error)
{
    const double bound = time_of(&model->points[0], mb) * (1.0 - (double)error / 1000.0);
    const settings_point_t *best = &model->points[0];
    for (int32_t i = 1; i < model->point_count; i++) {
        const double time_ns = time_of(&model->points[i], mb);
        if (time_ns > 0.0 && time_ns < bound && time_ns < time_of(best, mb)) {
            best = &model->points[i];
        }
    }
    return best->value;
}

/* Makes of an entry with models what they propose for another shape. */
static void propose_all(settings_entry_t *entry, const settings_key_t *wanted)
{
    const double mb = settings_mb(wanted);
    entry->is_proposed = 1;
    entry->knob_count = entry->model_count;
    for (int32_t i = 0; i < entry->model_count; i++) {
        const settings_model_t *model = &entry->models[i];
        memcpy(entry->knobs[i].name, model->name, sizeof(model->name));
        entry->knobs[i].value = propose(model, mb, entry->model_error);
    }
}

static int is_header(FILE *file)
{
    char line[64];
    return fgets(line, sizeof(line), file) != NULL && strcmp(line, SETTINGS_HEADER "\n") == 0;
}

static int find_in(FILE *file, settings_key_t *wanted, settings_entry_t *out)
{
    char line[SETTINGS_LINE_BYTES];
    double nearest = -1.0;
    double nearest_model = -1.0;
    settings_entry_t entry;
    settings_entry_t modelled = {.knob_count = 0};
    while (fgets(line, sizeof(line), file) != NULL) {
        if (!settings_parse(line, &entry) || differs(wanted->backend, entry.key.backend)) {
            continue;
        }
        if (wanted->machine[0] == '\0') {
            machine_key(wanted->backend, wanted->machine);
        }
        const double distance = settings_distance(wanted, &entry.key);
        if (distance >= 0.0 && (nearest < 0.0 || distance <= nearest)) {
            nearest = distance;
            *out = entry;
        }
        if (distance >= 0.0 && (nearest_model < 0.0 || distance <= nearest_model) &&
            entry.model_count > 0 && entry.key.ranks == wanted->ranks &&
            !differs(wanted->variant, entry.key.variant)) {
            nearest_model = distance;
            modelled = entry;
        }
    }
    if (nearest > SETTINGS_NEAR && nearest_model >= 0.0 && settings_mb(wanted) > 0.0) {
        propose_all(&modelled, wanted);
        *out = modelled;
    }
    return nearest >= 0.0;
}

static int64_t known(int64_t wanted, int64_t announced)
{
    return wanted > 0 ? wanted : announced;
}

int settings_take_shape(const char *text, settings_key_t *key)
{
    char copy[512];
    char *rest = NULL;
    settings_entry_t said = {.key = *key};
    if (!take_text(text, copy, sizeof(copy))) {
        return 0;
    }
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (!take_word(word, &said)) {
            return 0;
        }
    }
    *key = said.key;
    return 1;
}

/* What the program's environment says of its shape, where the key leaves it open; nothing, when
 * that makes no sense. */
static void complete(settings_key_t *key)
{
    settings_entry_t said = {.knob_count = 0};
    const char *text = getenv(SETTINGS_SHAPE_VARIABLE);
    if (text == NULL || !settings_take_shape(text, &said.key)) {
        return;
    }
    key->tokens = known(key->tokens, said.key.tokens);
    key->hidden = known(key->hidden, said.key.hidden);
    key->experts = known(key->experts, said.key.experts);
    key->topk = known(key->topk, said.key.topk);
    if (key->mode[0] == '\0') {
        memcpy(key->mode, said.key.mode, sizeof(key->mode));
    }
    if (key->variant[0] == '\0') {
        memcpy(key->variant, said.key.variant, sizeof(key->variant));
    }
}

int settings_find(const settings_key_t *wanted, settings_entry_t *out)
{
    char folder[PATH_MAX];
    char path[PATH_MAX + sizeof(SETTINGS_FILE) + 1];
    settings_key_t key = *wanted;
    if (!settings_folder(folder, sizeof(folder))) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "%s/" SETTINGS_FILE, folder);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    complete(&key);
    const int is_found = is_header(file) && find_in(file, &key, out);
    (void)fclose(file);
    return is_found;
}
