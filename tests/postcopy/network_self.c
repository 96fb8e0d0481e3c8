/* SPDX-License-Identifier: MIT */
/* The tests' own network: that it does what it says, and is gone with who made it, killed or not.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "network.h"

static int points, failed;

static void point(bool good, const char *name)
{
    printf("%sok %d - %s\n", good ? "" : "not ", ++points, name);
    failed += !good;
}

/* ---- a path, by a clock of the test's */

#define PACKET 1000 /* bytes */

static void send_all(struct path *path, unsigned count, uint64_t now_ns)
{
    uint8_t bytes[PACKET] = {0};

    for (uint32_t i = 0; i < count; i++) {
        memcpy(bytes, &i, sizeof(i));
        if (!path_in(path, bytes, sizeof(bytes), now_ns))
            abort();
    }
}

/* Up to that time. ret_order: whether numbers only rise. Return: how many come. */
static unsigned receive_all(struct path *path, uint64_t now_ns, bool *ret_order)
{
    uint32_t number, last = 0;
    unsigned count = 0;
    uint8_t *bytes;

    *ret_order = true;
    while (path_out(path, now_ns, &bytes) == PACKET) {
        memcpy(&number, bytes, sizeof(number));
        *ret_order &= !count || number > last;
        last = number;
        count++;
        free(bytes);
    }
    return count;
}

static void check_delay(void)
{
    struct path path;
    bool order;

    path_init(&path, &(struct path_how){0}, 1);
    send_all(&path, 100, 5);
    point(receive_all(&path, 5, &order) == 100 && order && !path.counts.delayed,
          "at once, in order");
    path_fini(&path);
    path_init(&path, &(struct path_how){.delay_us = 1000}, 1);
    send_all(&path, 100, 5);
    point(path_due(&path) == 1000005 && receive_all(&path, 1000004, &order) == 0 &&
              receive_all(&path, 1000005, &order) == 100 && order && path.counts.delayed == 100,
          "after the delay, not before");
    path_fini(&path);
}

static void check_rate(void)
{
    struct path path;
    bool order;

    /* 8 Mbit/s: a packet a millisecond. */
    path_init(&path, &(struct path_how){.rate = 8000000, .queue = 10 * PACKET}, 1);
    send_all(&path, 100, 1);
    point(path.counts.overflowed == 89, "a queue of ten, one on its way, the rest is lost");
    point(receive_all(&path, 1 + 4500000, &order) == 4 && order &&
              receive_all(&path, 1 + 11000000, &order) == 7 && order && !path_due(&path),
          "at the rate of the link");
    send_all(&path, 1, 50000000);
    point(path_due(&path) == 51000000, "which saves nothing up");
    path_fini(&path);
}

static void check_chance(void)
{
    const struct path_how how = {
        .delay_us = 10, .loss = 100000, .held_back = 50000, .held_longer_us = 5};
    unsigned lost[3];
    struct path path;
    bool order;

    for (uint64_t i = 0; i < 3; i++) {
        path_init(&path, &how, i / 2);
        for (uint64_t at = 0; at < 10000; at++)
            send_all(&path, 1, at * 1000);
        lost[i] = (unsigned)path.counts.lost;
        point(receive_all(&path, 1000000000, &order) == 10000 - lost[i],
              "what is not lost arrives");
        point(lost[i] > 900 && lost[i] < 1100, "a tenth is lost");
        point(path.counts.overtaken > 400 && path.counts.overtaken < 500,
              "of the rest a twentieth is overtaken");
        path_fini(&path);
    }
    point(lost[0] == lost[1] && lost[0] != lost[2], "the same by the same seed");
}

/* ---- messages in packets */

struct heard {
    unsigned count, types[8];
};

static void hear(void *arg, uint16_t from, uint16_t to, const struct wire_header *header)
{
    struct heard *heard = arg;

    if (from == 5 && to == 6 && heard->count < 8)
        heard->types[heard->count++] = header->type;
}

static void give(struct follow *follow, struct heard *heard, bool syn, uint32_t sequence,
                 const uint8_t *bytes, size_t len)
{
    uint8_t packet[600] = {0};
    struct iphdr ip = {.version = 4, .ihl = 5, .protocol = IPPROTO_TCP};
    struct tcphdr tcp = {.source = htons(5), .dest = htons(6), .doff = 5, .syn = syn};

    tcp.seq = htonl(sequence);
    ip.tot_len = htons((uint16_t)(40 + len));
    memcpy(packet, &ip, 20);
    memcpy(packet + 20, &tcp, 20);
    memcpy(packet + 40, bytes, len);
    if (follow_is_tcp(packet, 40 + len))
        follow_packet(follow, packet, 40 + len, hear, heard);
}

static void check_follow(void)
{
    struct wire_header hello = {.type = WIRE_HELLO}, blob = {.type = WIRE_BLOB, .payload = 100},
                       done = {.type = WIRE_DONE};
    uint8_t bytes[3 * WIRE_HEADER + 100] = {0};
    const uint32_t first = 0xffffffe0u; /* numbers wrap round */
    struct follow follow = {0};
    struct heard heard = {0};

    wire_encode(bytes, &hello, NULL);
    wire_encode(bytes + WIRE_HEADER, &blob, bytes + 2 * WIRE_HEADER);
    wire_encode(bytes + 2 * WIRE_HEADER + 100, &done, NULL);
    give(&follow, &heard, true, first - 1, bytes, 0);
    give(&follow, &heard, false, first, bytes, 30);
    give(&follow, &heard, false, first, bytes, 50); /* again, and more */
    point(heard.count == 1 && heard.types[0] == WIRE_HELLO, "a message in two packets");
    give(&follow, &heard, false, first + 50, bytes + 50, 100);
    give(&follow, &heard, false, first + 50, bytes + 50, 100);
    give(&follow, &heard, false, first + 150, bytes + 150, sizeof(bytes) - 150);
    point(heard.count == 3 && heard.types[1] == WIRE_BLOB && heard.types[2] == WIRE_DONE,
          "one behind a payload, and one that comes twice");
    give(&follow, &heard, false, first + (uint32_t)sizeof(bytes) + 1, bytes, WIRE_HEADER);
    give(&follow, &heard, false, first + (uint32_t)sizeof(bytes), bytes, WIRE_HEADER);
    point(heard.count == 3, "behind a gap nothing is believed");
}

/* ---- what is left */

/* Whether any process is in a namespace with this number. */
static bool is_anyone_in(ino_t space)
{
    DIR *all = opendir("/proc");
    bool found = false;
    char path[300];

    for (struct dirent *entry; all && !found && (entry = readdir(all));) {
        struct stat st;

        snprintf(path, sizeof(path), "/proc/%s/ns/net", entry->d_name);
        found = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && !stat(path, &st) &&
                st.st_ino == space;
    }
    closedir(all);
    return found;
}

/* A process that waits there. */
static void be_in(const struct network *network, int side, int say)
{
    if (fork())
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    network_enter(network, side);
    if (write(say, "e", 1) == 1)
        pause();
    _exit(1);
}

/* A network with a process in each namespace and a connection; then it says which they are. */
static void hold(int say)
{
    struct network network;
    const char *why = network_open(&network, &(struct path_how){.delay_us = 100}, 1);
    const bool wanted[1] = {true};
    int fds[2], *ends[2] = {&fds[0], &fds[1]}, inside[2];
    uint64_t spaces[2] = {0};
    char entered[1];

    if (why || network_connect(&network, wanted, 1, ends) || pipe(inside))
        _exit(1);
    for (int side = 0; side < 2; side++) {
        struct stat st = {0};

        be_in(&network, side, inside[1]);
        fstat(network.spaces[side], &st);
        spaces[side] = st.st_ino;
        if (read(inside[0], entered, 1) != 1)
            _exit(1);
    }
    if (write(say, spaces, sizeof(spaces)) == sizeof(spaces))
        pause();
    _exit(1);
}

/* Return: whether a network could be had. */
static bool check_killed(void)
{
    uint64_t spaces[2];
    ssize_t said;
    int fds[2];
    pid_t pid;
    bool seen;

    prctl(PR_SET_CHILD_SUBREAPER, 1); /* children of who is killed are waited for, too */
    fflush(stdout);
    if (pipe(fds) || (pid = fork()) < 0)
        abort();
    if (pid == 0)
        hold(fds[1]);
    close(fds[1]);
    said = read(fds[0], spaces, sizeof(spaces));
    seen = said == sizeof(spaces) && is_anyone_in(spaces[0]) && is_anyone_in(spaces[1]);
    kill(pid, SIGKILL);
    while (wait(NULL) > 0 || errno == EINTR) {
    }
    close(fds[0]);
    if (said != sizeof(spaces))
        return false;
    point(seen && !is_anyone_in(spaces[0]) && !is_anyone_in(spaces[1]),
          "nobody is left in the namespaces of who was killed");
    point(access("/sys/class/net/" NETWORK_DEVICE, F_OK) < 0, "and no device is here");
    return true;
}

int main(void)
{
    check_delay();
    check_rate();
    check_chance();
    check_follow();
    if (!check_killed())
        printf("ok %d - what is left # SKIP no such network is to be had here\n", ++points);
    printf("1..%d\n", points);
    return failed != 0;
}
