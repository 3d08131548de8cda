/* SPDX-License-Identifier: Apache-2.0 */
/* Which settings a search measures next. Settings are added to its candidates. */
#ifndef MOXIE_TUNE_PROPOSE_H
#define MOXIE_TUNE_PROPOSE_H

#include "tune/model.h"
#include "tune/search.h"

/* Indices that a list of proposals may need. */
enum { PROPOSE_PROBE_MAX = SPACE_KNOB_COUNT_MAX * 8 };

/* The index of a setting among the candidates, which it may be new to; -1: no memory. */
int32_t search_add(search_t *search, const setting_t *setting);

/* Settings from which a model can be fitted, the default first: each knob alone at its ends, in the
 * middle where its default is no amount, and all values of a choice. `out` has room for
 * PROPOSE_PROBE_MAX; returns how many. */
int32_t propose_corners(const space_t *space, setting_t *out);

/* Fits a model to what a search measured, each setting by its ratio. False: no memory. */
bool propose_fit(const search_t *search, model_t *model);

/* The corners without the default as candidates, and the previous setting; returns how many,
 * `count_max` at most. */
int32_t propose_probes(search_t *search, int32_t *out, int32_t count_max);

/* New candidates by a model of all measurements so far: what it expects to be fastest in all of the
 * space, and beside the fastest so far in turns; returns how many, 0 when there is nothing new. */
int32_t propose_batch(search_t *search, int32_t *out, int32_t count_max);

/* Makes candidates by moving one knob at a time, evenly over their values, until there are `count`
 * with the default. False: no memory. */
bool propose_spread(search_t *search, int32_t count);

#endif
