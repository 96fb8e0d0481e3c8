/* SPDX-License-Identifier: MIT */
/* libc's functions on hidden memory: between their way to fail and the kernel's. */
#include "preload_local.h"
#include "intercept/pagemap.h"

static long absent(long a, long b, long c, long d, long e, long f)
{
    errno = ENOSYS;
    return -1;
}

__attribute__((visibility("hidden"), noinline, cold)) void *preload_find(struct preload_site *site)
{
    void *fn = dlsym(RTLD_NEXT, site->name);

    site->fn = fn ? fn : (void *)absent;
    return site->fn;
}

/*
 * All of them at once, which takes 50 us: dlsym() takes a lock, and the first call may be in a
 * signal handler, or in the child of a fork that another thread's dlopen() was cut in two by.
 */
extern struct preload_site *__start_call_sites[] __attribute__((visibility("hidden")));
extern struct preload_site *__stop_call_sites[] __attribute__((visibility("hidden")));

__attribute__((constructor)) static void find_all(void)
{
    /* cppcheck-suppress comparePointers ; the two ends of one section */
    for (struct preload_site **site = __start_call_sites; site < __stop_call_sites; site++) {
        preload_find(*site);
    }
    core_bypass();
}

struct made {
    preload_fn *fn;
    enum preload_ret ret;
    long got; /* of a pointer: what to return */
};

static long call_libc(void *cookie, const long *a)
{
    struct made *made = cookie;
    long ret = made->fn(a[0], a[1], a[2], a[3], a[4], a[5]);

    made->got = ret;
    switch (made->ret) {
    case PRELOAD_INT:
        return (int)ret == -1 ? -errno : (int)ret;
    case PRELOAD_LONG:
        return ret == -1 ? -errno : ret;
    case PRELOAD_POINTER:
        return ret ? 0 : -errno;
    case PRELOAD_ERROR:
        return -(long)(int)ret;
    }
    return ret;
}

__attribute__((visibility("hidden"))) long preload_made(void *fn, long nr, enum preload_ret kind,
                                                        const long *args)
{
    struct made made = {.fn = (preload_fn *)fn, .ret = kind};
    int saved = errno;
    long ret;

    if (icall_trapping) { /* what libc's function does is trapped */
        return made.fn(args[0], args[1], args[2], args[3], args[4], args[5]);
    }
    ret = icall_made(nr, args, call_libc, &made);
    if (nr == SYS_pread64) {
        ipagemap_read_done((int)args[0], (void *)args[1], ret, args[3]);
    }
    if (kind == PRELOAD_ERROR) {
        return -ret;
    }
    if (sys_failed(ret)) {
        errno = (int)-ret;
        return kind == PRELOAD_POINTER ? 0 : -1;
    }
    errno = saved; /* not that of a try that the program does not know about */
    return kind == PRELOAD_POINTER ? made.got : ret;
}
