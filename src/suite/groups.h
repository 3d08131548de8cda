/* SPDX-License-Identifier: Apache-2.0 */
/* What the ranks of a job left in its folder: a folder benchmark_… of each group. */
#ifndef MOXIE_SUITE_GROUPS_H
#define MOXIE_SUITE_GROUPS_H

#include <jansson.h>
#include <stdint.h>

/* What a record says where there are several. */
extern const char groups_note[];

/*
 * Reads all of them: [{"results": the folder's name, "verified", "bench": the record of moxie bench
 * in it, "traffic": what its ranks sent to each other, as in record.json there, or null}…], by
 * name. A group is verified when its record says so and its results.json can be read; what has no
 * record is left out. A new reference.
 *
 * @param count  so many are expected, and waited for, some seconds: the file system of a network
 *               shows what another machine wrote late. 0: what is there
 */
json_t *groups_read(const char *folder, int32_t count);

/* The group whose dispatch took longest: what a caller of all of them would see. NULL: there is
 * none. */
const json_t *groups_slowest(const json_t *groups);

#endif
