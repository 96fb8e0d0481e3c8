/* SPDX-License-Identifier: MIT */
/*
 * Races and sizes, on whatever userfaultfd answers. Each test is bounded by a count, takes its
 * random choices from a printed seed, and fails by stress_fail().
 *
 * A page is *stamped* when all its words are the same non-zero value; stamp_of() gives the one that
 * belongs to a page, so that a torn, zero or foreign page is seen at once.
 */
#ifndef STRESS_H
#define STRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userfault/abi.h"

struct options {
    uint64_t seed;
    uint64_t count;  /* iterations; 0: the test's own */
    uint64_t part;   /* of the test's own number, only an N-th; 0: all */
    uint64_t budget; /* VMAs that the facility may use; 0: not checked */
};

extern struct options options;
extern uint64_t page_bytes;

/* ------------------------------------------------------------------ main.c */

#define stress_check(cond)                                                                         \
    do {                                                                                           \
        if (!(cond))                                                                               \
            stress_fail("%s:%d: %s", __FILE__, __LINE__, #cond);                                   \
    } while (0)

void stress_fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void stress_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void stress_alive(void);
uint64_t stress_count(uint64_t own);

/* ------------------------------------------------------------------ support.c */

uint64_t rnd(uint64_t *state);
void spin_a_while(uint64_t *state, unsigned max);
uint64_t now_ns(void);
uint64_t stress_vmas(void); /* mappings of the process */
void spawn(pthread_t *thread, void *(*run)(void *), void *arg);

enum memory { MEMORY_PRIVATE, MEMORY_SHARED };
char *map_pages(enum memory memory, size_t pages);
void unmap_pages(char *base, size_t pages);

int context_open(int flags, uint64_t features);
void context_register(int fd, void *base, size_t bytes);
void context_register_mode(int fd, void *base, size_t bytes, uint64_t mode);
int context_copy(int fd, void *dst, const void *src, size_t bytes, uint64_t mode); /* 0 or errno */
int context_zero(int fd, void *dst, size_t bytes);
void context_wake(int fd, void *base, size_t bytes);
bool context_read(int fd, struct uf_msg *ret_msg); /* false: nothing to be read */
void context_await(int fd);                        /* until something is to be read */

uint64_t stamp_of(uint64_t page);
void stamp_fill(void *page, uint64_t stamp);
uint64_t stamp_read(const volatile void *page, unsigned first); /* 0: torn or zero */

/* A touch that may end in SIGSEGV or SIGBUS: false then. */
bool touch_guarded(const volatile void *addr, uint64_t *ret_word);
void touch_guards_install(void);

/*
 * A gate that opens for everybody at once: threads that are to collide. Spins, since waking takes
 * longer than what is to be raced.
 */
struct gate {
    _Atomic unsigned arrived, round;
    unsigned members;
};
void gate_pass(struct gate *gate);

/* A thread that answers each fault of a range with its page's stamp. */
struct pager {
    int fd, stop;
    char *base;
    size_t pages;
    bool zero; /* answer with zero pages instead, but for one in 64 */
    _Atomic uint64_t served;
    pthread_t thread;
};
void pager_start(struct pager *pager, int fd, char *base, size_t pages);
void pager_stop(struct pager *pager);

/* ------------------------------------------------------------------ the tests */

void test_fault(enum memory memory);
void test_resolvers(enum memory memory);
void test_publish(enum memory memory);
void test_drop(enum memory memory);
void test_bulk(enum memory memory);
void test_close(enum memory memory);
void test_unmap(enum memory memory);
void test_thread_exit(enum memory memory);
void test_cancel(enum memory memory);
void test_fork(enum memory memory);
void test_exec(enum memory memory);
void test_kill(enum memory memory);
void test_million(enum memory memory);
void test_tebibyte(enum memory memory);
void test_spread(enum memory memory);
void test_gigabytes(enum memory memory);
const char *gigabytes_lack(void);
void test_alternate(enum memory memory);
void test_alternate_access(enum memory memory);

#endif
