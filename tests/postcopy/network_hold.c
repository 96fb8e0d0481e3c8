/* SPDX-License-Identifier: MIT */
/*
 * usage: network-hold DELAY_US [netem]. Makes a network (netem: the kernel's own) for a test in
 * another language, says "ok" and where its namespaces are, or why they cannot be had; until its
 * input ends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "network.h"

int main(int argc, char **argv)
{
    struct path_how how = {.delay_us = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0};
    struct network network;
    const char *why = argc > 2 && !strcmp(argv[2], "netem") ? network_open_veth(&network, &how)
                                                            : network_open(&network, &how, 1);
    char end;

    if (why) {
        puts(why);
        return 77;
    }
    printf("ok /proc/%d/fd/%d /proc/%d/fd/%d\n", getpid(), network.spaces[0], getpid(),
           network.spaces[1]);
    fflush(stdout);
    while (read(STDIN_FILENO, &end, 1) == -1 && errno == EINTR) {
    }
    network_close(&network);
    return 0;
}
