/* SPDX-License-Identifier: MIT */
/* To be preloaded: there is no memory for the table by which 8 MiB are verified. */
#include <stdlib.h>

void *__libc_calloc(size_t count, size_t bytes);

void *calloc(size_t count, size_t bytes)
{
    return count == 2048 && bytes == 8 ? NULL : __libc_calloc(count, bytes);
}
