/* SPDX-License-Identifier: Apache-2.0 */
/* A group is made before its routes, so the library is told the shape with its options. */
#include "bench/tuned.h"

#include <inttypes.h>
#include <stdio.h>

void tuned_key(const plan_t *plan, settings_key_t *key)
{
    char mode[OPTION_WHERE_BYTES];
    char layout[OPTION_WHERE_BYTES];
    char direction[OPTION_WHERE_BYTES];
    char launch[OPTION_WHERE_BYTES];
    char dtype[OPTION_WHERE_BYTES];
    *key = (settings_key_t){.ranks = plan->rank_count,
                            .tokens = plan->token_count_max,
                            .hidden = plan->hidden,
                            .experts = plan->expert_count,
                            .topk = plan->topk};
    (void)snprintf(key->backend, sizeof(key->backend), "%s", plan->place.backend);
    (void)snprintf(key->mode, sizeof(key->mode), "%.15s",
                   option_word(plan->options, OPTION_MODE, mode));
    (void)snprintf(key->variant, sizeof(key->variant), "%.15s/%.10s/%s/%.10s/%.10s",
                   option_word(plan->options, OPTION_LAYOUT, layout),
                   option_word(plan->options, OPTION_DIRECTION, direction),
                   plan->is_fresh ? "fresh" : "cached",
                   option_word(plan->options, OPTION_LAUNCH, launch),
                   option_word(plan->options, OPTION_DTYPE, dtype));
}

void tuned_describe(plan_t *plan)
{
    settings_key_t key;
    tuned_key(plan, &key);
    (void)snprintf(plan->tuning, sizeof(plan->tuning),
                   "mode=%s variant=%s tokens=%" PRId64 " hidden=%" PRId64 " experts=%" PRId64
                   " topk=%" PRId64,
                   key.mode, key.variant, key.tokens, key.hidden, key.experts, key.topk);
}
