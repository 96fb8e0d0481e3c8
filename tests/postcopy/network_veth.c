/* SPDX-License-Identifier: MIT */
/* The kernel's own: a pair of veth devices, and netem of iproute2's tc(8) on both. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "network.h"

/* What the command says, there, errors too. Return: its status; -1. */
static int run_there(const struct network *network, int side, const char *command, char *ret,
                     size_t room)
{
    char whole[400];
    size_t len;
    FILE *said;

    snprintf(whole, sizeof(whole), "nsenter --net=/proc/%d/fd/%d %s 2>&1", getpid(),
             network->spaces[side], command);
    said = popen(whole, "r"); /* NOLINT(cert-env33-c): a fixed command, of a test */
    if (!said)
        return -1;
    len = fread(ret, 1, room - 1, said);
    ret[len] = '\0';
    return pclose(said);
}

/* Return: NULL; the command, and what it said. */
static const char *run(const struct network *network, int side, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static const char *run(const struct network *network, int side, const char *format, ...)
{
    static char why[600];
    char command[256], said[256];
    va_list args;
    int status;

    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    status = run_there(network, side, command, said, sizeof(said));
    said[strcspn(said, "\n")] = '\0';
    snprintf(why, sizeof(why), "%s: %s", command, said);
    return status ? why : NULL;
}

/* tc's own words; what it delays one way. */
static void netem_words(const struct path_how *how, char *ret, size_t room)
{
    size_t at = (size_t)snprintf(ret, room, " delay %uus", how->delay_us);

    if (how->loss)
        at += (size_t)snprintf(ret + at, room - at, " loss %.2f%%", how->loss / 10000.0);
    if (how->rate)
        snprintf(ret + at, room - at, " rate %llubit limit %zu", (unsigned long long)how->rate,
                 how->queue / NETWORK_MTU);
}

/*
 * Who reorders by netem has most packets go at once, without its delay, and those of a rate are
 * never overtaken: so that is done by a second one, behind the first.
 */
static const char *add_netem(const struct network *network, int side, const struct path_how *how)
{
    const char *why;
    char words[160];

    netem_words(how, words, sizeof(words));
    why = run(network, side, "tc qdisc add dev " NETWORK_DEVICE " root handle 1: netem%s", words);
    if (!why && how->held_back)
        why = run(network, side,
                  "tc qdisc add dev " NETWORK_DEVICE
                  " parent 1:1 handle 2: netem delay %uus reorder %.2f%%",
                  how->held_longer_us, 100 - how->held_back / 10000.0);
    return why;
}

static const char *make_pair(struct network *network, const struct path_how *how)
{
    const bool wanted = how->delay_us || how->held_back || how->loss || how->rate;
    const char *why;

    /* The peer's namespace is named by a process in it: this one, for as long. */
    network_enter(network, 1);
    why = run(network, 0,
              "ip link add " NETWORK_DEVICE " type veth peer name " NETWORK_DEVICE " netns %d",
              getpid());
    network_leave(network);
    for (int side = 0; !why && side < 2; side++) {
        why = run(network, side, "ip address add %s/%d dev " NETWORK_DEVICE, NETWORK_TEXT(side),
                  NETWORK_PREFIX);
        /* One packet is one to netem, too. */
        why = why ? why : run(network, side, "ip link set " NETWORK_DEVICE " gso_max_segs 1 up");
        if (!why && wanted)
            why = add_netem(network, side, how);
    }
    return why;
}

const char *network_open_veth(struct network *network, const struct path_how *how)
{
    const char *why;

    network_clear(network);
    why = network_spaces(network);
    why = why ? why : make_pair(network, how);
    why = why ? why : network_listen(network);
    if (why)
        network_close(network);
    return why;
}

bool network_veth_acted(const struct network *network, const struct path_how *how)
{
    unsigned long dropped = 0;
    char said[1024];
    const char *at;

    if (!how->loss)
        return true;
    if (run_there(network, 0, "tc -s qdisc show dev " NETWORK_DEVICE, said, sizeof(said)))
        return false;
    at = strstr(said, "(dropped ");
    if (at)
        dropped = strtoul(at + strlen("(dropped "), NULL, 10);
    return dropped > 0;
}
