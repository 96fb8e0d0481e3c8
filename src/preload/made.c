/* SPDX-License-Identifier: MIT */
/* libc's functions on hidden memory: between their way to fail and the kernel's. */
#include "core/call.h"
#include "intercept/pagemap.h"
#include "intercept/quick.h"
#include "intercept/signal.h"
#include "preload_local.h"

#if defined(__x86_64__)
/* errno lies equally far from the thread pointer in each thread: libc came with the start. */
static ptrdiff_t errno_at; /* 0: not found yet */

static inline char *thread_pointer(void)
{
    char *self;

    __asm__("movq %%fs:0, %0" : "=r"(self));
    return self;
}

static bool errno_found(void)
{
    return errno_at;
}

static void find_errno(void)
{
    errno_at = (char *)&errno - thread_pointer();
}

/* Once it was found. */
static inline int *own_errno(void)
{
    return (int *)(thread_pointer() + errno_at);
}
#else
static bool errno_found(void)
{
    return true;
}

static void find_errno(void)
{
}

static int *own_errno(void)
{
    return &errno;
}
#endif

static long absent(long a, long b, long c, long d, long e, long f)
{
    errno = ENOSYS;
    return -1;
}

__attribute__((visibility("hidden"), noinline, cold)) void *preload_find(struct preload_site *site)
{
    void *fn = dlsym(RTLD_NEXT, site->name);

    site->fn = fn ? fn : (void *)absent;
    site->asks = icall_asks_descriptor(site->nr);
    site->way = (uint8_t)(errno_found() ? icall_way_of(site->nr, site->argc) : ICALL_CARE);
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
    find_errno();
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

static long made(preload_fn *fn, long nr, enum preload_ret kind, const long *args, bool again)
{
    struct made made = {.fn = fn, .ret = kind};
    long ret = again ? icall_made_again(nr, args, call_libc, &made)
                     : icall_made(nr, args, call_libc, &made);

    if (nr == SYS_read) {
        isig_read_done((int)args[0], (void *)args[1], ret);
    }
    ipagemap_done(nr, args, ret);
    return kind == PRELOAD_POINTER && ret == 0 ? made.got : ret;
}

/* As libc's function returns. @saved: errno, of before a try that the program does not know about
 */
static long answered(long ret, enum preload_ret kind, int saved)
{
    if (kind == PRELOAD_ERROR) {
        return -ret;
    }
    if (sys_failed(ret)) {
        errno = (int)-ret;
        return kind == PRELOAD_POINTER ? 0 : -1;
    }
    errno = saved;
    return ret;
}

__attribute__((visibility("hidden"))) long preload_made(void *fn, long nr, enum preload_ret kind,
                                                        const long *args)
{
    int saved = errno;
    long own;

    if (icall_trapping) { /* what libc's function does is trapped */
        return ((preload_fn *)fn)(args[0], args[1], args[2], args[3], args[4], args[5]);
    }
    own = icall_on_context(nr, args, ICALL_BY_LIBC);
    if (own != ICALL_PASS) {
        return answered(own, kind, saved);
    }
    return answered(made((preload_fn *)fn, nr, kind, args, false), kind, saved);
}

/* ---- nothing is in the way */

static inline bool is_efault(long ret, enum preload_ret kind)
{
    switch (kind) {
    case PRELOAD_INT:
        return __builtin_expect((int)ret == -1, false) && *own_errno() == EFAULT;
    case PRELOAD_LONG:
        return __builtin_expect(ret == -1, false) && *own_errno() == EFAULT;
    case PRELOAD_POINTER:
        return __builtin_expect(!ret, false) && *own_errno() == EFAULT;
    case PRELOAD_ERROR:
        return (int)ret == EFAULT;
    }
    return false;
}

/* Only the arguments that there are. */
static __attribute__((noinline)) long call_with_care(const struct preload_site *site,
                                                     const long *all, bool again, int saved)
{
    long args[6] = {0};

    for (int i = 0; i < site->argc; i++) {
        args[i] = all[i];
    }
    return answered(made((preload_fn *)site->fn, site->nr, site->ret, args, again), site->ret,
                    saved);
}

/* clang-format off */
#define ALL       (const long[]){a, b, c, d, e}
#define LIKELY(x) __builtin_expect(!!(x), true)
/* clang-format on */

__attribute__((visibility("hidden"), noinline)) long
preload_repeats(long a, long b, long c, long d, long e, struct preload_site *site)
{
    int saved = *own_errno();
    long ret = ((preload_fn *)site->fn)(a, b, c, d, e, 0);

    return is_efault(ret, site->ret) ? call_with_care(site, ALL, true, saved) : ret;
}

static __attribute__((noinline)) long fills(long a, long b, long c, long d, long e,
                                            struct preload_site *site)
{
    return icall_fills_closed(site->nr, (const long[6]){a, b, c, d, e})
               ? call_with_care(site, ALL, false, *own_errno())
               : preload_repeats(a, b, c, d, e, site);
}

static __attribute__((noinline)) long sends(long a, long b, long c, long d, long e,
                                            struct preload_site *site)
{
    bool open = LIKELY(quick_reads((uintptr_t)b, (size_t)c));
    int saved = *own_errno();
    long ret;

    if (!open && core_call_open((uintptr_t)b, (size_t)c, ARCH_READ) == CORE_CLOSED) {
        return call_with_care(site, ALL, false, saved);
    }
    ret = ((preload_fn *)site->fn)(a, b, c, d, e, 0);
    return is_efault(ret, PRELOAD_LONG) ? call_with_care(site, ALL, true, saved) : ret;
}

/* Not to be held: plain memory, or with care. */
static __attribute__((noinline)) long receives_unheld(long a, long b, long c, long d, long e,
                                                      struct preload_site *site)
{
    if (core_short_way_tid() && core_call_open((uintptr_t)b, (size_t)c, ARCH_WRITE) == CORE_PLAIN) {
        return preload_repeats(a, b, c, d, e, site);
    }
    return call_with_care(site, ALL, false, *own_errno());
}

static __attribute__((noinline)) long receives(long a, long b, long c, long d, long e,
                                               struct preload_site *site)
{
    struct paging_lane *lane;
    uintptr_t below;
    char here;
    int saved;
    long ret;

    lane =
        quick_hold(core_short_way_tid(), true, (uintptr_t)&here, (uintptr_t)b, (size_t)c, &below);
    if (!LIKELY(lane)) {
        return receives_unheld(a, b, c, d, e, site);
    }
    saved = *own_errno();
    ret = ((preload_fn *)site->fn)(a, b, c, d, e, 0);
    paging_let_go(lane, below);
    return is_efault(ret, PRELOAD_LONG) ? call_with_care(site, ALL, true, saved) : ret;
}

static __attribute__((noinline)) long cares(long a, long b, long c, long d, long e,
                                            struct preload_site *site)
{
    preload_real(site);
    return call_with_care(site, ALL, false, errno);
}

static __attribute__((noinline)) long trapped(long a, long b, long c, long d, long e,
                                              struct preload_site *site)
{
    return ((preload_fn *)preload_real(site))(a, b, c, d, e, 0);
}

/* Nothing of it is a descriptor of ours. */
static inline long call_by_way(long a, long b, long c, long d, long e, struct preload_site *site)
{
    switch ((enum icall_way)site->way) {
    case ICALL_REPEATS:
        return preload_repeats(a, b, c, d, e, site);
    case ICALL_FILLS:
        return fills(a, b, c, d, e, site);
    case ICALL_SENDS:
        return sends(a, b, c, d, e, site);
    case ICALL_RECEIVES:
        return receives(a, b, c, d, e, site);
    case ICALL_CARE:
        break;
    }
    return cares(a, b, c, d, e, site);
}

/* Not inlined: the way past it is to save no register. */
static __attribute__((noinline)) long asks(long a, long b, long c, long d, long e,
                                           struct preload_site *site)
{
    long own = icall_on_context(site->nr, ALL, ICALL_BY_LIBC);

    return own != ICALL_PASS ? answered(own, site->ret, *own_errno())
                             : call_by_way(a, b, c, d, e, site);
}

__attribute__((visibility("hidden"))) long preload_call(long a, long b, long c, long d, long e,
                                                        struct preload_site *site)
{
    if (__builtin_expect(icall_trapping, false)) {
        return trapped(a, b, c, d, e, site);
    }
    /* sendfile() and __fxstat() have another descriptor than the first argument. */
    if (site->asks && __builtin_expect(core_fdmap_get((int)a) || core_fdmap_get((int)b), false)) {
        return asks(a, b, c, d, e, site);
    }
    return call_by_way(a, b, c, d, e, site);
}
