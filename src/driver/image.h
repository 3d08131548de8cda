/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled kernels inside a program: a fatbin for cuModuleLoadData, with machine code and PTX. */
#ifndef MOXIE_DRIVER_IMAGE_H
#define MOXIE_DRIVER_IMAGE_H

#include <stddef.h>

/* Declares what CUDA_IMAGE_EMBED() defines. */
#define CUDA_IMAGE_DECLARE(name)                                                                   \
    extern const unsigned char name[];                                                             \
    extern const size_t name##_bytes

_Static_assert(sizeof(size_t) == 8, "an image's size is written as 8 bytes");

/* Embeds the file of a path, as name[] aligned to 16 bytes, and name_bytes. At file scope. */
#define CUDA_IMAGE_EMBED(name, path)                                                               \
    __asm__(".pushsection .rodata." #name ", \"a\", %progbits\n"                                   \
            ".globl " #name ", " #name "_bytes\n"                                                  \
            ".hidden " #name ", " #name "_bytes\n"                                                 \
            ".type " #name ", %object\n"                                                           \
            ".type " #name "_bytes, %object\n"                                                     \
            ".balign 16\n" #name ":\n"                                                             \
            ".incbin \"" path "\"\n"                                                               \
            ".L" #name "_end:\n"                                                                   \
            ".size " #name ", . - " #name "\n"                                                     \
            ".balign 8\n" #name "_bytes:\n"                                                        \
            ".quad .L" #name "_end - " #name "\n"                                                  \
            ".size " #name "_bytes, 8\n"                                                           \
            ".popsection\n")

#endif
