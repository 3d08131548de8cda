/* SPDX-License-Identifier: Apache-2.0 */
/* The container that the tasks of a run are put into. Moxie needs none: a system file asks for it.
 */
#ifndef MOXIE_SUITE_CONTAINER_H
#define MOXIE_SUITE_CONTAINER_H

#include "suite/job.h"
#include "suite/session.h"

/* Whether a run is put into one: the system has container_mount_home = true or
 * cache_docker_images_locally = true, and the test names an image. */
bool container_is_wanted(const suite_session_t *session, const job_t *job);

/* Writes the options of srun for it, each with a blank before it; nothing when none is wanted. */
void container_write(FILE *out, const suite_session_t *session, const job_t *job,
                     const char *folder);

#endif
