/* SPDX-License-Identifier: MIT */
/* Sockets by name: unix:PATH, unix:@NAME (abstract), tcp:HOST:PORT. */
#ifndef NET_H
#define NET_H

#include <stddef.h>
#include <stdint.h>

#define NET_NAME_MAX 300

/* Each returns a descriptor, or -errno. */
int net_listen(const char *name);
/* patience_ms: for each address that a host's name has. -ETIMEDOUT */
int net_connect(const char *name, unsigned patience_ms);
int net_accept(int listener, int flags); /* as of accept4() */
/* From now on, for what is to come and to be accepted there; 0: as long as it takes. -EAGAIN */
void net_patience(int fd, unsigned patience_ms);
uint64_t net_now_ms(void);

const char *net_words(int error); /* why there is none */

/* The name under which others reach it: with the port that was found for tcp:HOST:0. */
void net_name(int listener, const char *name, char ret[NET_NAME_MAX]);
/* Close it, and remove a path that it had. */
void net_unlisten(int listener, const char *name);

/* All of it, or nothing is said of how much. Return: 0; -errno; -ECONNRESET at an end. */
int net_send(int fd, const void *bytes, size_t len);
int net_recv(int fd, void *bytes, size_t len);

#endif
