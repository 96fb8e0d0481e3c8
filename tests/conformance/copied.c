/* SPDX-License-Identifier: MIT */
/*
 * What was copied by a manager in another process is there for whoever looks once its ioctl has
 * returned, though the thread that waited for it may not have run yet.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../rights.h"
#include "monitored.h"

#define LOOKS  6
#define ROUNDS 30 /* of each look */
#define ALL    ((size_t)LOOKS * ROUNDS)

#define SEEN_FROM 7 /* the first page that the manager looks at */

struct watched {
    int sock, uffd;
    struct mem mem;
    char *source;
    pid_t pid;
};

/* ------------------------------------------------------------------ the process that has it */

static void *touch_all(void *arg)
{
    const struct mem *mem = arg;

    for (size_t i = 0; i < ALL; i++) {
        if (!pattern_holds(mem_page(mem, i), (unsigned)i + 1))
            _exit(91);
    }
    return NULL;
}

static bool reads(const char *page, unsigned seed)
{
    return pattern_holds(page, seed);
}

static bool is_in_core(const char *page, unsigned seed)
{
    unsigned char core = 0;

    return mincore((void *)(uintptr_t)page, page_size, &core) == 0 && (core & 1);
}

static bool is_in_pagemap(const char *page, unsigned seed)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t word = 0;
    bool got = pread(fd, &word, sizeof(word), (off_t)((uintptr_t)page / page_size * 8)) == 8;

    close(fd);
    return got && word >> 63;
}

static bool goes_to_a_pipe(const char *page, unsigned seed)
{
    int ends[2];
    char got = 0;
    bool whole = pipe(ends) == 0 && write(ends[1], page, 1) == 1 && read(ends[0], &got, 1) == 1;

    close(ends[0]);
    close(ends[1]);
    return whole && got == *page;
}

static bool is_in_a_child(const char *page, unsigned seed)
{
    pid_t pid = fork();
    int status;

    if (pid == 0)
        _exit(!pattern_holds(page, seed));
    return waitpid(pid, &status, 0) == pid && status == 0;
}

/* By this process itself, which shares the context. */
static int own_uffd;

static bool is_not_copied_again(const char *page, unsigned seed)
{
    static char other[1 << 16];

    return uffd_copy(own_uffd, (void *)(uintptr_t)page, other, page_size) == -EEXIST;
}

/* One after the other; the pagemap last: who reads it may be served with more care from then on. */
static bool (*const looks[LOOKS])(const char *, unsigned) = {
    reads, is_in_core, goes_to_a_pipe, is_in_a_child, is_not_copied_again, is_in_pagemap,
};

_Noreturn static void watched_main(int sock)
{
    struct mem mem = mem_map(MEM_ANON, ALL);
    pthread_t thread;
    uint32_t round;

    own_uffd = uffd_open(0);
    if (uffd_register(own_uffd, mem.addr, mem.len) != 0 ||
        !rights_send(sock, &mem, sizeof(mem), &own_uffd, 1, 0) ||
        pthread_create(&thread, NULL, touch_all, &mem) != 0)
        _exit(92);
    while (read(sock, &round, sizeof(round)) == (ssize_t)sizeof(round)) {
        if (!looks[round / ROUNDS](mem_page(&mem, round), round + 1))
            _exit(100 + (int)(round / ROUNDS));
        if (write(sock, &round, sizeof(round)) != (ssize_t)sizeof(round))
            _exit(93);
    }
    pthread_join(thread, NULL);
    _exit(0);
}

/* ------------------------------------------------------------------ the manager */

static void start(struct watched *w)
{
    int ends[2];

    w->source = source_new(ALL, 1);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    w->pid = fork();
    CHECK(w->pid >= 0);
    if (w->pid == 0) {
        close(ends[0]);
        watched_main(ends[1]);
    }
    close(ends[1]);
    w->sock = ends[0];
    CHECK(rights_receive(w->sock, &w->mem, sizeof(w->mem), &w->uffd, MSG_CMSG_CLOEXEC));
}

/* Each page is reported once: who looks at it after the COPY does not wait for it. */
static void copied_is_there(enum mem_kind kind)
{
    struct watched w;
    uint32_t answer;

    start(&w);
    for (uint32_t i = 0; i < ALL; i++) {
        char *page = mem_page(&w.mem, i), *source = w.source + i * page_size;

        uffd_next_fault(w.uffd, page, 0);
        CHECK_EQ(uffd_copy(w.uffd, page, source, page_size), 0);
        if (i % 4 == 0)
            CHECK_EQ(uffd_copy(w.uffd, page, source, page_size), -EEXIST);
        CHECK_EQ(write(w.sock, &i, sizeof(i)), sizeof(i));
        CHECK_EQ(read(w.sock, &answer, sizeof(answer)), sizeof(answer));
    }
    close(w.sock);
    CHECK_EQ(child_wait(w.pid), 0);
}

/* By the manager, who looks for the first time: how, and whether he finds what he copied. */
static bool reads_elsewhere(pid_t pid, char *page, const char *source)
{
    static char found[1 << 16];
    struct iovec local = {found, page_size}, remote = {page, page_size};

    return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)page_size &&
           !memcmp(found, source, page_size);
}

static bool reads_memory_file(pid_t pid, char *page, const char *source)
{
    static char found[1 << 16], path[64];
    bool same;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    same = pread(fd, found, page_size, (off_t)(uintptr_t)page) == (ssize_t)page_size &&
           !memcmp(found, source, page_size);
    close(fd);
    return same;
}

/* The pages before, of which nobody has looked at one, are there as well. */
static void copied_is_seen_by(bool (*look)(pid_t, char *, const char *))
{
    struct watched w;

    start(&w);
    for (size_t i = 0; i < ALL; i++) {
        char *page = mem_page(&w.mem, i), *source = w.source + i * page_size;

        uffd_next_fault(w.uffd, page, 0);
        CHECK_EQ(uffd_copy(w.uffd, page, source, page_size), 0);
        CHECK(i < SEEN_FROM || look(w.pid, page, source));
    }
    for (size_t i = 0; i < ALL; i++)
        CHECK(look(w.pid, mem_page(&w.mem, i), w.source + i * page_size));
    close(w.sock);
    CHECK_EQ(child_wait(w.pid), 0);
}

static void copied_is_seen(enum mem_kind kind)
{
    copied_is_seen_by(reads_elsewhere);
}

static void copied_is_in_memory_file(enum mem_kind kind)
{
    copied_is_seen_by(reads_memory_file);
}

#define RST_OTHER "rst: Non-cooperative userfaultfd, an external manager"

const struct conf_case copied_cases[] = {
    {"remote/copied-is-there", RST_OTHER, KIND(MEM_ANON), .run = copied_is_there},
    {"remote/copied-is-seen", RST_OTHER, KIND(MEM_ANON), .run = copied_is_seen},
    {"remote/copied-is-in-mem", RST_OTHER, KIND(MEM_ANON), .run = copied_is_in_memory_file},
    {.id = NULL},
};
