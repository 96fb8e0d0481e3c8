/* SPDX-License-Identifier: MIT */
/* Descriptors of the facility's own that come and go: numbers that the program does not see. */
#include <errno.h>
#include <limits.h>

#include "core/remote.h"
#include "core_local.h"
#include "hidden.h"
#include "sys/file.h"

#define HIDDEN_MAX 2048

/*
 * number + 1; 0: free; negative: it is being closed. Were it free before, the program's next file
 * could have that number and be closed for it; were it ours after, that file would be taken for it.
 */
static _Atomic int hidden[HIDDEN_MAX];
static _Atomic int hidden_top; /* handles below were used at least once */

#define CLOSING_YIELDS 1000    /* until who closes is taken for dead */
#define LOST           INT_MIN /* the program closed it, on its way here; the handle is not free */
#define EVICT_TRIES    8       /* it may be closed, and another may come there, meanwhile */

static int taken = -1; /* a forked child's, by hidden_take() */

/* Descriptors of ours have numbers of the program's now; or whoever let them pass has died. */
static _Atomic bool passing;

void core_fds_pass(bool any)
{
    atomic_store(&passing, any);
}

void core_fds_lock(void)
{
    core_edit_lock(sys_gettid());
    core_fds_pass(true);
}

void core_fds_unlock(void)
{
    core_fds_pass(false);
    core_edit_unlock();
}

void core_fds_await(void)
{
    struct core_guard guard;

    if (atomic_load(&passing) && core_own_table()) {
        core_enter(&guard);
        core_edit_lock(guard.tid);
        core_edit_unlock();
        core_leave(&guard);
    }
}

int core_hide(int fd)
{
    int top = atomic_load(&hidden_top);

    fd = paging_keep_fd(fd);
    if (fd < 0) {
        return fd;
    }
    for (int i = 0; i < HIDDEN_MAX; i++) {
        int none = 0;

        if (!atomic_compare_exchange_strong(&hidden[i], &none, fd + 1)) {
            continue;
        }
        while (i >= top && !atomic_compare_exchange_weak(&hidden_top, &top, i + 1)) {
        }
        return i;
    }
    sys_close(fd);
    return -EMFILE;
}

int core_hidden(int handle)
{
    int at = atomic_load(&hidden[handle]);

    return at > 0 ? at - 1 : at == LOST ? INT_MAX : -1; /* which no call takes */
}

/* Its number, if it is about to be closed once that is over; or whoever closes it was killed. */
static int settled(int handle)
{
    int at = atomic_load(&hidden[handle]), was = at;

    for (int i = 0; at < 0 && at != LOST && at == was && i < CLOSING_YIELDS; i++) {
        sys_call(SYS_sched_yield);
        at = atomic_load(&hidden[handle]);
    }
    if (at < 0 && at != LOST && at == was &&
        atomic_compare_exchange_strong(&hidden[handle], &at, -at)) {
        return -was - 1;
    }
    return at > 0 ? at - 1 : -1;
}

int hidden_take(int handle)
{
    int at = atomic_exchange(&hidden[handle], 0);

    taken = at > 0 ? at - 1 : -1;
    return taken;
}

void core_unhide(int handle)
{
    int at = atomic_load(&hidden[handle]), left;

    while (at > 0 && !atomic_compare_exchange_weak(&hidden[handle], &at, -at)) {
    }
    if (at <= 0) {
        atomic_compare_exchange_strong(&hidden[handle], &(int){LOST}, 0);
        return;
    }
    sys_close(at - 1);
    left = atomic_exchange(&hidden[handle], 0);
    if (left > 0 && left != at) {
        sys_close(left - 1); /* it was taken for one whom nobody closes any more, and moved */
    }
}

int hidden_next(int fd)
{
    int top = atomic_load(&hidden_top), next = -1;

    for (int i = 0; i < top; i++) {
        int own = settled(i);

        if (own >= fd && own >= 0 && (next < 0 || own < next)) {
            next = own;
        }
    }
    return next;
}

int hidden_evict(int fd)
{
    int top = atomic_load(&hidden_top), moved;

    for (int i = 0; i < top; i++) {
        for (int tries = 0; settled(i) == fd; tries++) {
            int was = fd + 1;

            moved = paging_move_fd(fd);
            if (moved < 0 && tries == EVICT_TRIES) {
                if (!sys_failed(sys_fcntl(fd, F_GETFD, 0))) {
                    return moved;
                }
                atomic_compare_exchange_strong(&hidden[i], &was, LOST);
            }
            if (moved >= 0 && atomic_compare_exchange_strong(&hidden[i], &was, moved + 1)) {
                break;
            }
            if (moved >= 0) {
                sys_close(moved); /* it is being closed just now */
            }
        }
    }
    return 0;
}

/*
 * Whoever was closing it is not in this process. If that was done already, the number may be
 * another's by now, of what goes on in the child. (What does not is closed anyway.)
 */
static void end_closing(int fd)
{
    if (fd != taken && descriptors_next_lasting(fd) != fd) {
        sys_close(fd);
    }
}

void hidden_fork_child(void)
{
    int top = atomic_load(&hidden_top);

    for (int i = 0; i < top; i++) {
        int at = atomic_exchange(&hidden[i], 0);

        if (at > 0) {
            sys_close(at - 1);
        } else if (at && at != LOST) {
            end_closing(-at - 1);
        }
    }
}
