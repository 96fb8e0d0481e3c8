/* SPDX-License-Identifier: MIT */
/* Cases on <userfault/userfault.h>. Each runs in a process of its own, which it may end. */
#ifndef LIBRARY_HARNESS_H
#define LIBRARY_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <userfault/userfault.h>

#define PAGE 4096ul

struct test_case {
    const char *name;
    void (*run)(void);
    int signal; /* by which the process must end; 0: it must succeed */
};

/* Ended by an entry without a name. */
extern const struct test_case context_cases[], handler_cases[], handler_kinds_cases[],
    linked_cases[], preload_cases[];

/* The backend under test, by the command line. */
extern enum uf_backend test_backend;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            dprintf(1, "# %s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #cond, errno);      \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#define CHECK_ERRNO(call, want)                                                                    \
    do {                                                                                           \
        errno = 0;                                                                                 \
        CHECK((call) == -1);                                                                       \
        CHECK(errno == (want));                                                                    \
    } while (0)

/* A context that has shaken hands. */
int test_context(int flags, uint64_t features);

/* Untouched private memory, and its registration. */
unsigned char *test_map(size_t pages);
void test_register(int fd, const void *start, size_t pages);
unsigned char *test_registered(int fd, size_t pages);

/* A page of one byte value, copied to @dst; the errno of UF_IO_COPY, or 0. */
int test_copy(int fd, void *dst, unsigned char value);

/* A read of one byte, which the compiler must not leave out. */
unsigned char test_touch(const unsigned char *at);

/* A write of one byte, before whatever follows. */
void test_store(unsigned char *at, unsigned char value);

/* A handler that fills the page with the value at @arg; EEXIST is no failure. */
int test_fill(int fd, const struct uf_msg *msg, void *arg);

/* A thread that runs; joined, with its result, by test_join(). */
struct test_thread;
struct test_thread *test_start(void *(*run)(void *), void *arg);
void *test_join(struct test_thread *thread);

/* The page that a message is about. */
unsigned char *test_page(const struct uf_msg *msg);

#endif
