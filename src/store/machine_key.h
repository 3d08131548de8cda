/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine is called in stored settings: settings of one kind of machine are of no use on
 * another, and a home folder may be shared by several. */
#ifndef MOXIE_STORE_MACHINE_KEY_H
#define MOXIE_STORE_MACHINE_KEY_H

enum { MACHINE_KEY_BYTES = 192 };

/*
 * The key of this machine for a backend, one word without blanks. On "cuda": name and number of the
 * GPUs, how the first two reach each other, the driver's CUDA version; it starts the driver. On
 * others: processor, cores, memory in GiB.
 */
void machine_key(const char *backend, char key[MACHINE_KEY_BYTES]);

#endif
