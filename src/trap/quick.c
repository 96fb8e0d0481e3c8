/* SPDX-License-Identifier: MIT */
/*
 * Calls in which nothing but memory can concern us, on memory that is plain or published: made
 * here, after a look. Compiled for general registers alone, so the caller's vector registers need
 * not be saved: nothing outside of this file is called that might use them.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "intercept/calls.h"
#include "intercept/quick.h"
#include "local.h"
#include "sys/call.h"

#define WAY      0x0f /* enum icall_way */
#define WAY_FD   0x10 /* unless the first argument is a descriptor of ours */
#define WAY_SET  0x20 /* unless the set of poll() has one */
#define WAY_TAIL 0x40 /* unless there is an address, too, in the last two arguments */

static uint8_t ways[TRAP_NR];

/* Calls on sockets have more memory than a buffer only if the program asks for an address. */
static unsigned way_of(long nr)
{
    unsigned way = icall_way_of(nr, 6);

    if (way == ICALL_CARE && (nr == SYS_sendto || nr == SYS_recvfrom)) {
        way = icall_way_of(nr, 4) | WAY_TAIL;
    }
    return way;
}

void trap_quick_init(const short *special, size_t count)
{
    for (int nr = 0; nr < TRAP_NR; nr++) {
        ways[nr] = trap_class[nr] == TRAP_ACTIVE ? (uint8_t)way_of(nr) : ICALL_CARE;
    }
    for (int nr = 0; nr < TRAP_NR; nr++) {
        if (ways[nr] != ICALL_CARE && icall_asks_descriptor(nr)) {
            ways[nr] |= WAY_FD;
        }
    }
    for (size_t i = 0; i < count; i++) {
        ways[special[i]] = ICALL_CARE;
    }
    ways[SYS_read] = (uint8_t)(way_of(SYS_read) | WAY_FD);
    ways[SYS_write] = (uint8_t)(way_of(SYS_write) | WAY_FD);
#ifdef SYS_poll
    ways[SYS_poll] = (uint8_t)(way_of(SYS_poll) | WAY_SET);
#endif
}

static inline struct trap_answer made(long nr, const long *args)
{
    long ret = sys_call6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);

    return (struct trap_answer){ret, ret == -EFAULT ? QUICK_EFAULT : QUICK_MADE};
}

static inline struct trap_answer receives(long nr, const long *args)
{
    int tid = core_short_way_tid();
    struct trap_answer answer;
    struct paging_lane *lane;
    uintptr_t below;

    if (tid && quick_plain((uintptr_t)args[1], (size_t)args[2])) {
        return made(nr, args);
    }
    lane = quick_hold(tid, false, (uintptr_t)args, (uintptr_t)args[1], (size_t)args[2], &below);
    if (!lane) {
        return (struct trap_answer){0, QUICK_ASKS};
    }
    answer = made(nr, args);
    paging_let_go(lane, below);
    return answer;
}

/* The buffer of poll(), epoll_wait() and getdents(). */
static inline bool fills_open(long nr, const long *args)
{
    switch (nr) {
#ifdef SYS_poll
    case SYS_poll:
        return true; /* quick_foreign_set() says so */
    case SYS_epoll_wait:
#endif
    case SYS_epoll_pwait:
        return quick_writes((uintptr_t)args[1], (unsigned)args[2] * sizeof(struct epoll_event));
    case SYS_getdents64:
        return quick_writes((uintptr_t)args[1], (unsigned)args[2]);
    default:
        return false;
    }
}

static inline bool forbids(unsigned way, const long *args)
{
    return ((way & WAY_FD) && core_fdmap_get((int)args[0])) ||
           ((way & WAY_TAIL) && (args[4] || args[5])) ||
           ((way & WAY_SET) && !quick_foreign_set((const void *)args[0], (unsigned long)args[1]));
}

bool trap_quick_wants_lane(long nr)
{
    return (ways[nr] & WAY) == ICALL_RECEIVES;
}

struct trap_answer trap_quick(long nr, const long *args)
{
    unsigned way = ways[nr];

    if (!(way & ~(unsigned)WAY) || !forbids(way, args)) {
        switch ((enum icall_way)(way & WAY)) {
        case ICALL_REPEATS:
            return made(nr, args);
        case ICALL_FILLS:
            if (fills_open(nr, args)) {
                return made(nr, args);
            }
            break;
        case ICALL_SENDS:
            if (quick_reads((uintptr_t)args[1], (size_t)args[2])) {
                return made(nr, args);
            }
            break;
        case ICALL_RECEIVES:
            return receives(nr, args);
        case ICALL_CARE:
            break;
        }
    }
    return (struct trap_answer){0, QUICK_ASKS};
}
