/* SPDX-License-Identifier: Apache-2.0 */
/* The container that the tasks of a run are put into. Moxie needs none: a system file asks for it.
 */
#ifndef MOXIE_SUITE_CONTAINER_H
#define MOXIE_SUITE_CONTAINER_H

#include "suite/job.h"
#include "suite/session.h"

/* Whether a system asks for containers: container_mount_home = true, or
 * cache_docker_images_locally = true. NULL does not. */
bool container_is_asked(const source_t *system);

/* Whether a run is put into one: the system asks, and the test names an image. */
bool container_is_wanted(const suite_session_t *session, const job_t *job);

/* Checks what a scenario's tests have mounted, where a system asks for containers: Pyxis cuts a
 * list of mounts at commas, and a mount at colons. */
void container_check(const scenario_t *scenario, mistakes_t *mistakes);

/* The same for a path that no key of a test has: where results go, this program. `what` says where
 * it comes from. */
bool container_check_path(const suite_session_t *session, const char *what, const char *path,
                          failure_t *failure);

/* Writes the options of srun for it, each with a blank before it; nothing when none is wanted. */
void container_write(FILE *out, const suite_session_t *session, const job_t *job,
                     const char *folder);

#endif
