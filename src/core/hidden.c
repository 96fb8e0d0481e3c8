/* SPDX-License-Identifier: MIT */
/* Descriptors of the facility's own that come and go: numbers that the program does not see. */
#include <errno.h>

#include "core/remote.h"
#include "core_local.h"
#include "sys/file.h"

#define HIDDEN_MAX 2048

static _Atomic int hidden[HIDDEN_MAX]; /* number + 1; 0: free */
static _Atomic int hidden_top;         /* handles below were used at least once */

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
    return atomic_load(&hidden[handle]) - 1;
}

int hidden_take(int handle)
{
    return atomic_exchange(&hidden[handle], 0) - 1;
}

void core_unhide(int handle)
{
    int fd = hidden_take(handle);

    if (fd >= 0) {
        sys_close(fd);
    }
}

int hidden_next(int fd)
{
    int top = atomic_load(&hidden_top), next = -1;

    for (int i = 0; i < top; i++) {
        int own = core_hidden(i);

        if (own >= fd && own >= 0 && (next < 0 || own < next)) {
            next = own;
        }
    }
    return next;
}

int hidden_evict(int fd)
{
    int top = atomic_load(&hidden_top);

    for (int i = 0; i < top; i++) {
        int moved;

        if (core_hidden(i) != fd) {
            continue;
        }
        moved = paging_move_fd(fd);
        if (moved < 0) {
            return moved;
        }
        atomic_store(&hidden[i], moved + 1);
    }
    return 0;
}

void hidden_fork_child(void)
{
    int top = atomic_load(&hidden_top);

    for (int i = 0; i < top; i++) {
        core_unhide(i);
    }
}
