/* SPDX-License-Identifier: Apache-2.0 */
/* Reads one element of Tests. */
#ifndef MOXIE_SUITE_ENTRY_H
#define MOXIE_SUITE_ENTRY_H

#include "suite/scenario.h"

/* All but the dependencies. */
void entry_read(const layer_t *layer, const references_t *references, entry_t *out,
                mistakes_t *mistakes);

void entry_release(entry_t *entry);

#endif
