/* SPDX-License-Identifier: MIT */
/*
 * A program with a malloc of its own, as jemalloc's: it asks the system at each call, by functions
 * that the facility stands before. dlsym() may call it, while the facility looks for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "early.h"

#define HEAD 64 /* keeps what follows aligned, and the length */

void *malloc(size_t len)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), saved = errno;
    size_t *at;
    char byte;

    if (fd >= 0) {
        (void)!read(fd, &byte, 1);
        close(fd);
    }
    len += HEAD;
    at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    madvise(at, len, MADV_NOHUGEPAGE);
    errno = saved;
    *at = len;
    return (char *)at + HEAD;
}

void free(void *ptr)
{
    size_t *at;

    if (!ptr)
        return;
    at = (size_t *)((char *)ptr - HEAD);
    munmap(at, *at);
}

void *calloc(size_t count, size_t len)
{
    return len && count > SIZE_MAX / 2 / len ? NULL : malloc(count * len);
}

void *realloc(void *ptr, size_t len)
{
    void *next = malloc(len);
    size_t old = ptr ? *(size_t *)((char *)ptr - HEAD) - HEAD : 0;

    if (next && ptr) {
        memcpy(next, ptr, old < len ? old : len);
        free(ptr);
    }
    return next;
}

int main(void)
{
    early_use("in the program");
    return 0;
}
