/* SPDX-License-Identifier: MIT */
/*
 * Contexts whose memory is another process's: who serves, and who asks.
 *
 * A bell tells by its name whose it is. The process that holds the memory serves requests for its
 * contexts by the core_serve_*() below; a process that holds only a descriptor has the operations
 * of core_remote asked through a channel (src/channel), which core knows by this table alone.
 */
#ifndef CORE_REMOTE_H
#define CORE_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "userfault/abi.h"

struct pollfd;

/* All return what the call on the context would, or -errno; @index is what recognise() returned. */
struct core_remote {
    /* The descriptor is a bell of another process. Return: its index, below CORE_REMOTES_MAX, or
     * -errno when nobody can be asked. */
    int (*recognise)(int fd);
    long (*ioctl)(int fd, uint32_t index, unsigned long req, void *arg);
    long (*read)(int fd, uint32_t index, void *buf, size_t len);
    short (*poll)(int fd, uint32_t index, bool nonblock);
    /* Whether a message comes while it is spun for. */
    bool (*spin)(int fd, uint32_t index);
    /* See core_look(), core_attend(). */
    void (*look)(struct pollfd *fds, unsigned long count);
    void (*attend)(const struct pollfd *fds, unsigned long count);
    /* The descriptor is about to be in an epoll set, where the bell is all that is seen. */
    void (*in_epoll)(int fd, uint32_t index);
    /* The bell rings: let it fall silent if nothing is to be read. */
    void (*drain)(int fd, uint32_t index);
    /* Whether poll() would answer POLLIN for its bell's ring, and nothing else; perhaps it is not
     * known. Its flags were changed by this process: it is not known any more. */
    bool (*tells)(int fd, uint32_t index);
    void (*set_flags)(int fd, uint32_t index);
    /* A descriptor that was recognised is closed: perhaps the last. */
    void (*closed)(void);
    /* A waiter is to do what lies in that lane of the channel, if nobody else does. Context: all
     * signals blocked, no lock held, on a thread that is killed with its process only. */
    void (*offered)(uint32_t index, unsigned lane);
    /* The page that lies in that lane, until gave() says that it is in place. NULL: nothing.
     * Context: a lock held, all signals blocked or put off */
    const void *(*given)(uint32_t index, unsigned lane);
    void (*gave)(uint32_t index, unsigned lane);
    /* What this process has given elsewhere for pages is in place, or its process gone. Context:
     * normal, waits */
    void (*settle)(void);
    /* A descriptor of a context is about to be another process's, too: be ready to serve. */
    void (*leaves)(void);
    /* A descriptor of ours has another number now: be told before the old one is the program's. */
    void (*moved)(void);
    /* The program is about to call exec; it failed. */
    void (*exec_prepare)(void);
    void (*exec_failed)(void);
    /* This process is a forked child. */
    void (*fork_child)(void);
};

#define CORE_REMOTES_MAX 1024

/* NULL: there are no other processes. Set once, before threads. */
extern const struct core_remote *core_remote __attribute__((visibility("hidden")));

/* ---- names of bells */

#define CORE_BELL_MAX 110

struct core_bell {
    uint32_t len; /* of path, which begins with a zero byte */
    char path[CORE_BELL_MAX];
};

/* The name of a descriptor that may be a bell. False: it is none, of no process. */
bool core_bell_name(int fd, struct core_bell *ret);

/* ---- serving: contexts by id. Context: normal, all signals blocked, no lock held */

/*
 * Which of our contexts the descriptor is, by its name and its inode: whoever has it may ask for
 * all that the context may. 0: none that lives.
 */
uint32_t core_serve_find(int bell);
/* Whether it is the name of the bell of one of them. Context: any process that shares the memory */
bool core_serve_knows(const struct sockaddr_un *name, uint32_t len);
long core_serve_ioctl(uint32_t id, unsigned long req, void *arg);
/* UFFDIO_COPY of the first piece of so much, all of which is checked. @whole: may be anything */
long core_serve_copy(uint32_t id, struct uf_io_copy *copy, uint64_t whole);
/*
 * UF_IO_ACK, without waiting. @again: it was answered by CORE_LATER before. Return: CORE_LATER: ask
 * again, in 20 ms or when poked.
 */
#define CORE_LATER 1
long core_serve_ack(uint32_t id, const void *arg, bool again);
/* A fork whose message is next: the new context's descriptor is to be handed over first. */
struct core_serve_fork {
    int bell; /* handle, may be closed already; -1: none is next */
    bool cloexec;
    uint32_t slot, word; /* which, for core_serve_forked() */
    uint32_t name;       /* for uf_msg.reserved3 */
};
/*
 * Messages, without waiting, as far as none is of a fork. @reader: the manager's number, from 1 on.
 * @emptied: the caller has emptied the bell; it rings again if more is pending.
 */
long core_serve_read(uint32_t id, uint32_t reader, bool emptied, struct uf_msg *msgs, size_t count,
                     struct core_serve_fork *ret_fork);
/* What an ioctl answers for a context whose process is gone; @args: its structure, 32 bytes at
 * least, in which the kernel leaves what stands there then
 */
long core_gone_ioctl(uint32_t request, void *args);
/* A duplicate of the bell, which the caller closes; -errno. Context: core_fds_lock() */
int core_serve_bell(uint32_t id, const struct core_serve_fork *fork);
/* The descriptor has arrived: whether its message was unread until now. */
bool core_serve_forked(uint32_t id, uint32_t reader, uint32_t slot, uint32_t word);
/* It has not, for want of room: the message comes after all others. */
void core_serve_put_back(uint32_t id, uint32_t slot, uint32_t word);
/*
 * A manager is there; and is not any more. @count: so many the context has now. Either may be said
 * twice: the server is killed in between, and its successor says it again.
 */
void core_serve_came(uint32_t id, uint32_t count);
void core_serve_left(uint32_t id, uint32_t reader, uint32_t count);
/* What is due since managers left. Return: ms until more is due; -1: nothing will be. */
long core_serve_due(void);
short core_serve_poll(uint32_t id, bool nonblock);
void core_serve_emptied(uint32_t id);
/* A reader is to look, whatever it finds. */
void core_serve_ring(uint32_t id);
/* All who wait look again whether they have to. */
void core_serve_wake(uint32_t id);
/* The socket to which bells are connected: those who want to ask write to it. -1: none. */
int core_serve_hub(void);
/* Makes it readable. */
void core_serve_poke(void);
/* Whether spinning was not forbidden (USERFAULT_FORCE=nospin). */
bool core_spins(void);
/* Whether nobody is to be waited for for long (USERFAULT_FORCE=nopatience). */
bool core_impatient(void);
/* Where in a thread's descriptor libc keeps its id; 0: not known. */
long core_serve_tid_offset(void);

/* The index of the remote context behind a descriptor; -1: none. */
int core_fd_remote(int fd);
/* The descriptor, of which nothing was known but that it is foreign, is that one. */
void core_fd_set_remote(int fd, uint32_t index);

/* ---- descriptors of the facility's own, at numbers out of the program's way: hidden.c */

/*
 * In between no child is forked: what is opened, and hidden or closed again, comes to no child.
 * Context: all signals blocked.
 */
void core_fds_lock(void);
void core_fds_unlock(void);

/*
 * Before the program closes or replaces a number that it has nothing under, as far as it knows:
 * wait until nothing of ours passes there. It may come just then: hello is said again. Context:
 * normal
 */
void core_fds_await(void);

/* Return: a handle, or -EMFILE. The descriptor is closed in a forked child. */
int core_hide(int fd);
/* Its number now; -1: it is closed. */
int core_hidden(int handle);
void core_unhide(int handle); /* closes it */

#endif
