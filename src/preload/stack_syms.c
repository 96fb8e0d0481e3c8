/* SPDX-License-Identifier: MIT */
/* libc's functions that say where signals and threads have their stacks. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "preload_local.h"

EXPORT int sigaltstack(const stack_t *stack, stack_t *old)
{
    return (int)preload_ret(icall_sigaltstack(stack, old));
}

/* Whether the attributes name a stack; without one, libc makes it. */
static bool has_stack(const pthread_attr_t *attr, void **ret_addr, size_t *ret_len)
{
    /* Where none is set, an address of 0 less the size. */
    return attr && pthread_attr_getstack(attr, ret_addr, ret_len) == 0 && *ret_addr &&
           (intptr_t)*ret_addr > 0;
}

struct start {
    void *(*fn)(void *);
    void *arg, *addr;
    size_t len;
};

static void ended(void *arg)
{
    icall_thread_begins(NULL, 0);
}

static void *begin(void *arg)
{
    struct start start = *(struct start *)arg;
    void *ret;

    free(arg);
    icall_thread_begins(start.addr, start.len);
    pthread_cleanup_push(ended, NULL);
    ret = start.fn(start.arg);
    pthread_cleanup_pop(1);
    return ret;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    static __typeof__(&pthread_create) real_fn;
    struct start given = {.fn = fn, .arg = arg}, *start = NULL;
    int ret;

    if (!real_fn) {
        real_fn = REAL(pthread_create);
    }
    if (has_stack(attr, &given.addr, &given.len)) {
        if (icall_thread_stack(given.addr, given.len) != 0) {
            return EINVAL;
        }
        start = malloc(sizeof *start);
    }
    if (!start) {
        return real_fn(thread, attr, fn, arg);
    }
    *start = given;
    ret = real_fn(thread, attr, begin, start);
    if (ret) {
        free(start);
    }
    return ret;
}
