/* SPDX-License-Identifier: Apache-2.0 */
/* In builds with coverage (linked with --wrap=_exit): the counts are written by _exit() too, with
 * which the ranks of the program end. */
void __gcov_dump(void);
void __wrap__exit(int code);
_Noreturn void __real__exit(int code);

void __wrap__exit(int code)
{
    __gcov_dump();
    __real__exit(code);
}
