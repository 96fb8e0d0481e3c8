/* SPDX-License-Identifier: MIT */
/*
 * When has a child let go of its descriptors? Not for certain when wait(2) tells of it: something
 * else may have them a moment longer, as it does where what serves its contexts ends after it. The
 * end of a pipe tells. A process that ends closes its descriptors in the order of their numbers, or
 * the other way round, so there are two such pipes: below all descriptors of contexts, and above.
 */
#include <fcntl.h>
#include <unistd.h>

#include "fuzz.h"

#define ABOVE 900

static int low[ANCHORS] = {-1, -1}; /* numbers that nothing else gets */
static int high[ANCHORS];

static int placeholder(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        fuzz_die("/dev/null");
    return fd;
}

/* Before there is any context. */
void anchor_init(void)
{
    for (int i = 0; i < ANCHORS; i++) {
        low[i] = placeholder();
        high[i] = fcntl(low[i], F_DUPFD_CLOEXEC, ABOVE);
        if (high[i] < 0)
            fuzz_die("F_DUPFD");
    }
}

/* Return: the end to wait at. */
int anchor_set(enum anchor anchor)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) || dup3(ends[1], low[anchor], O_CLOEXEC) < 0 ||
        dup3(ends[1], high[anchor], O_CLOEXEC) < 0 || close(ends[1]))
        fuzz_die("pipe2");
    return ends[0];
}

void anchor_drop(enum anchor anchor)
{
    int fd = placeholder();

    if (dup3(fd, low[anchor], O_CLOEXEC) < 0 || dup3(fd, high[anchor], O_CLOEXEC) < 0 || close(fd))
        fuzz_die("dup3");
}

void anchor_await(int end)
{
    char byte;

    if (read(end, &byte, 1) != 0)
        fuzz_die("an anchor");
    close(end);
}
