/* SPDX-License-Identifier: MIT */
/*
 * A program that has called unshare(CLONE_NEWPID) makes its children in another pid namespace than
 * its own. The server must not be one of them: as the first it would be that namespace's init, and
 * later its end would be waited for by the init's, which only the program's wait() ends.
 */
#include "namespace.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "sys/file.h"

#define OWN      "/proc/thread-self/ns/pid"
#define CHILDREN "/proc/thread-self/ns/pid_for_children"

/* Kernels before 4.12 do not tell. */
static bool told(void)
{
    long fd = sys_open(CHILDREN, O_PATH | O_NOFOLLOW);

    if (sys_failed(fd)) {
        return false;
    }
    sys_close((int)fd);
    return true;
}

static bool is_own(void)
{
    char own[64], children[64];
    long n = sys_call(SYS_readlinkat, AT_FDCWD, OWN, own, sizeof own), m;

    if (n <= 0) {
        return true; /* no /proc */
    }
    m = sys_call(SYS_readlinkat, AT_FDCWD, CHILDREN, children, sizeof children);
    if (m <= 0) {
        return !told(); /* it has no process yet, and cannot be come back to */
    }
    return n == m && memcmp(own, children, (size_t)n) == 0;
}

static bool set(long fd)
{
    return !sys_failed(fd) && sys_call(SYS_setns, fd, CLONE_NEWPID) == 0;
}

bool namespace_enter(int *ret_back)
{
    long back, own;
    bool entered;

    *ret_back = -1;
    if (is_own()) {
        return true;
    }
    back = sys_open(CHILDREN, O_RDONLY);
    own = sys_open(OWN, O_RDONLY);
    entered = set(back) && set(own); /* the first changes nothing: whether there is a way back */
    if (!sys_failed(own)) {
        sys_close((int)own);
    }
    if (entered) {
        *ret_back = (int)back;
    } else if (!sys_failed(back)) {
        sys_close((int)back);
    }
    return entered;
}

void namespace_leave(int back)
{
    if (back >= 0) {
        set(back);
        sys_close(back);
    }
}
