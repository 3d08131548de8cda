/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the person at the terminal. */
#ifndef MOXIE_SUITE_QUESTION_H
#define MOXIE_SUITE_QUESTION_H

#include <stdbool.h>

/* Asks a question and waits for "y" or "n"; nothing, the end of the input and one more stop signal
 * mean yes. Without a terminal, or in the background of one, the answer is yes, and nothing is
 * asked. Stop signals must be blocked. */
bool question_yes(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
