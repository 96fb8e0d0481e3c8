/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"
#include "server.h"

#define CLIENTS_MAX 64
#define MOVING      "moving\n"

struct client {
    int fd;
    size_t len;
    char line[SERVER_LINE_MAX];
};

static const char *address;
static int listener = -1, events = -1; /* an epoll descriptor, of the listener and all clients */
static struct client *clients[CLIENTS_MAX];

static int watch(int fd, void *whom)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = whom};

    return epoll_ctl(events, EPOLL_CTL_ADD, fd, &event);
}

void server_open(const char *name)
{
    char reached[NET_NAME_MAX];

    address = name;
    if (!name)
        return;
    listener = net_listen(name);
    events = listener < 0 ? -1 : epoll_create1(EPOLL_CLOEXEC);
    if (events < 0 || watch(listener, NULL)) {
        fprintf(stderr, "lua-live: %s: %s; no query is answered\n", name,
                net_words(listener < 0 ? listener : -errno));
        server_close();
        return;
    }
    net_name(listener, name, reached);
    fprintf(stderr, "lua-live: queries at %s\n", reached);
}

static void drop(size_t i)
{
    close(clients[i]->fd);
    free(clients[i]);
    clients[i] = NULL;
}

void server_close(void)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (!clients[i])
            continue;
        send(clients[i]->fd, MOVING, strlen(MOVING), MSG_DONTWAIT | MSG_NOSIGNAL);
        drop(i);
    }
    if (listener >= 0)
        net_unlisten(listener, address);
    if (events >= 0)
        close(events);
    listener = events = -1;
}

bool server_ready(void)
{
    struct pollfd fd = {.fd = events, .events = POLLIN}; /* -1: is passed over */

    return poll(&fd, 1, 0) > 0;
}

static void welcome(void)
{
    int fd = net_accept(listener, SOCK_NONBLOCK);

    for (size_t i = 0; fd >= 0 && i < CLIENTS_MAX; i++) {
        if (clients[i])
            continue;
        clients[i] = calloc(1, sizeof(*clients[i]));
        if (!clients[i])
            break;
        clients[i]->fd = fd;
        if (watch(fd, &clients[i]))
            drop(i);
        return;
    }
    if (fd >= 0)
        close(fd);
}

/* Return: whether the client is to be kept: one who does not read his answers is not. */
static bool answer_lines(struct client *client,
                         size_t (*answer)(const char *, size_t, char[SERVER_LINE_MAX]))
{
    char reply[SERVER_LINE_MAX], *newline;

    while ((newline = memchr(client->line, '\n', client->len))) {
        size_t len = (size_t)(newline - client->line), n = answer(client->line, len, reply);

        if (send(client->fd, reply, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n)
            return false;
        client->len -= len + 1;
        memmove(client->line, newline + 1, client->len);
    }
    return client->len < sizeof(client->line);
}

void server_serve(size_t (*answer)(const char *query, size_t len, char ret[SERVER_LINE_MAX]))
{
    struct epoll_event ready[16];
    int count = events < 0 ? 0 : epoll_wait(events, ready, 16, 0);

    for (int i = 0; i < count; i++) {
        struct client **slot = ready[i].data.ptr, *client;
        ssize_t n;

        if (!slot) {
            welcome();
            continue;
        }
        client = *slot;
        n = recv(client->fd, client->line + client->len, sizeof(client->line) - client->len, 0);
        if (n > 0)
            client->len += (size_t)n;
        if (n == 0 || (n < 0 && errno != EAGAIN) || !answer_lines(client, answer))
            drop((size_t)(slot - clients));
    }
}
