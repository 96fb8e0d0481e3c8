/* SPDX-License-Identifier: MIT */
/*
 * usage: hold_pool N. Takes N huge pages of 2 MiB for a test in another language, says "ok" or why
 * they cannot be had, and gives them back when its input ends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pool.h"

#define PAGE (2ul << 20) /* bytes */

int main(int argc, char **argv)
{
    const char *why = pool_take(PAGE, argc > 1 ? strtol(argv[1], NULL, 10) : 1, false);
    char end;

    puts(why ? why : "ok");
    fflush(stdout);
    while (!why && read(STDIN_FILENO, &end, 1) == -1 && errno == EINTR) {
    }
    if (!why)
        pool_give_back();
    return why ? 77 : 0;
}
