/* SPDX-License-Identifier: MIT */
/* Namespaces, devices and sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "network.h"

#define LISTEN_PORT 7777
#define UNSENT_MAX  (64 << 10)

const char *network_why(const char *what)
{
    static char words[160];

    snprintf(words, sizeof(words), "%s: %s", what, strerror(errno));
    return words;
}

static int this_space(void)
{
    return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

/* An ordinary user may where user namespaces are allowed; back he may not. */
static const char *be_allowed(struct network *network)
{
    network->home = this_space();
    if (unshare(CLONE_NEWNET) == 0)
        return NULL;
    close(network->home);
    network->home = -1;
    return unshare(CLONE_NEWUSER | CLONE_NEWNET) ? network_why("a network namespace") : NULL;
}

const char *network_spaces(struct network *network)
{
    const char *why = be_allowed(network);

    if (why)
        return why;
    network->spaces[0] = this_space();
    if (unshare(CLONE_NEWNET))
        return network_why("a second network namespace");
    network->spaces[1] = this_space();
    network_leave(network);
    return network->spaces[0] < 0 || network->spaces[1] < 0 ? network_why("/proc") : NULL;
}

void network_enter(const struct network *network, int side)
{
    if (setns(network->spaces[side], CLONE_NEWNET)) {
        perror("setns");
        abort();
    }
}

void network_leave(const struct network *network)
{
    if (network->home >= 0 && setns(network->home, CLONE_NEWNET)) {
        perror("setns");
        abort();
    }
}

/* ---- devices */

static void put_address(struct ifreq *request, in_addr_t address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(address)}};

    memcpy(&request->ifr_addr, &in, sizeof(in));
}

static const char *set_up(int fd, unsigned side)
{
    struct ifreq request = {.ifr_name = NETWORK_DEVICE};

    put_address(&request, NETWORK_ADDRESS + side);
    if (ioctl(fd, SIOCSIFADDR, &request))
        return network_why("an address for the device");
    put_address(&request, ~0u << (32 - NETWORK_PREFIX));
    if (ioctl(fd, SIOCSIFNETMASK, &request))
        return network_why("a netmask for the device");
    request.ifr_mtu = NETWORK_MTU;
    if (ioctl(fd, SIOCSIFMTU, &request))
        return network_why("the device's MTU");
    request.ifr_qlen = 10000; /* what is lost is lost by us */
    if (ioctl(fd, SIOCSIFTXQLEN, &request))
        return network_why("the device's queue");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    return ioctl(fd, SIOCSIFFLAGS, &request) ? network_why("the device") : NULL;
}

static const char *make_device(struct network *network, int side)
{
    struct ifreq request = {.ifr_name = NETWORK_DEVICE, .ifr_flags = IFF_TUN | IFF_NO_PI};
    const char *why;
    int fd;

    network_enter(network, side); /* a device is where its descriptor was opened */
    network->tuns[side] = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (network->tuns[side] < 0) {
        network_leave(network);
        return network_why("/dev/net/tun");
    }
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    why = ioctl(network->tuns[side], TUNSETIFF, &request) ? network_why("a TUN device")
                                                          : set_up(fd, (unsigned)side);
    close(fd);
    network_leave(network);
    return why;
}

void network_clear(struct network *network)
{
    *network = (struct network){.spaces = {-1, -1},
                                .home = -1,
                                .listener = -1,
                                .tuns = {-1, -1},
                                .wake_fd = -1,
                                .event_fd = -1};
}

const char *network_open(struct network *network, const struct path_how *how, uint64_t seed)
{
    const char *why;

    network_clear(network);
    why = network_spaces(network);
    for (int side = 0; !why && side < 2; side++)
        why = make_device(network, side);
    why = why ? why : network_start(network, how, seed);
    why = why ? why : network_listen(network);
    if (why)
        network_close(network);
    return why;
}

static void close_one(int fd)
{
    if (fd >= 0)
        close(fd);
}

void network_close(struct network *network)
{
    network_stop(network);
    for (int side = 0; side < 2; side++) {
        close_one(network->tuns[side]);
        close_one(network->spaces[side]);
    }
    close_one(network->listener);
    close_one(network->home);
}

/* ---- sockets, which stay in their namespace, whoever has them */

const char *network_listen(struct network *network)
{
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons(LISTEN_PORT),
                               .sin_addr = {htonl(NETWORK_ADDRESS + 1)}};

    network_enter(network, 1);
    network->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    network_leave(network);
    if (bind(network->listener, (struct sockaddr *)&here, sizeof(here)) ||
        listen(network->listener, NETWORK_LINKS))
        return network_why("a listening socket");
    return NULL;
}

/* As userfault-postcopy(7) advises. */
static void tune(int fd)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){UNSENT_MAX}, sizeof(int));
}

/* The port says which link it is: follow.c sees nothing else. */
static int connect_one(const struct network *network, unsigned link)
{
    uint16_t port = (uint16_t)(NETWORK_PORT + network->sets * NETWORK_LINKS + link);
    struct sockaddr_in from = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(NETWORK_ADDRESS)}};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(LISTEN_PORT),
                             .sin_addr = {htonl(NETWORK_ADDRESS + 1)}};
    int fd;

    network_enter(network, 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    network_leave(network);
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) ||
        connect(fd, (struct sockaddr *)&to, sizeof(to))) {
        int error = errno;

        close(fd);
        return -error;
    }
    tune(fd);
    return fd;
}

int network_connect(struct network *network, const bool *wanted, unsigned count, int *ret_fds[2])
{
    for (unsigned i = 0; i < count; i++) {
        ret_fds[0][i] = ret_fds[1][i] = -1;
        if (!wanted[i])
            continue;
        ret_fds[0][i] = connect_one(network, i);
        if (ret_fds[0][i] < 0)
            return ret_fds[0][i];
        ret_fds[1][i] = accept4(network->listener, NULL, NULL, SOCK_CLOEXEC);
        if (ret_fds[1][i] < 0)
            return -errno;
        tune(ret_fds[1][i]);
    }
    network->sets++;
    return 0;
}
