/* SPDX-License-Identifier: MIT */
/*
 * Resolution in the faulting thread: the program's callback, called from the handler.
 *
 * A context has two settings and a count of changes whose lowest bit says which one is valid. A
 * writer fills the other and then counts up; a reader copies and looks whether the count moved.
 * Writers hold the edit lock; readers are fault handlers and take none.
 */
#include <errno.h>
#include <signal.h>

#include "core_local.h"
#include "sys/thread.h"

bool core_callback_get(struct context *ctx, uint32_t id, struct context_callback *ret)
{
    uint32_t seen = atomic_load(&ctx->callback_changes);

    for (;;) {
        uint32_t now;

        *ret = ctx->callback[seen & 1];
        atomic_thread_fence(memory_order_seq_cst);
        now = atomic_load(&ctx->callback_changes);
        if (now == seen) {
            break;
        }
        seen = now;
    }
    /* The slot of a context that was closed may be another's by now. */
    return ret->callback && atomic_load(&ctx->id) == id;
}

long core_set_callback(int fd, core_caller *caller, core_callback *callback, void *arg)
{
    struct context *ctx = context_of_fd(fd);
    struct core_guard guard;
    uint32_t id, next;
    long ret = -EBADF;

    if (!ctx || !(id = atomic_load(&ctx->id))) {
        return -ENOTTY;
    }
    core_enter(&guard);
    core_edit_lock(guard.tid);
    if (context_of_fd(fd) == ctx && atomic_load(&ctx->id) == id) {
        next = atomic_load(&ctx->callback_changes) + 1;
        ctx->callback[next & 1] = (struct context_callback){caller, callback, arg, fd};
        atomic_store(&ctx->callback_changes, next);
        ret = 0;
    }
    core_edit_unlock();
    core_leave(&guard);
    return ret;
}

int core_callback_run(struct context *ctx, const struct context_callback *callback,
                      const struct core_report *report)
{
    const uint64_t own = SYS_SIGBIT(SIGSEGV) | SYS_SIGBIT(SIGBUS);
    bool wants_tid = atomic_load(&ctx->features) & UF_FEATURE_THREAD_ID;
    struct uf_msg msg;

    core_fill_message(ctx, report, wants_tid ? (uint32_t)core_tid() : 0, &msg);
    STAT(faults_callback);
    /*
     * The callback may itself touch missing memory, and may fail for good: the two signals are let
     * in, or the kernel would end the process. All others stay out until the handler returns, which
     * restores the mask whatever became of it.
     */
    sys_sigmask(SIG_UNBLOCK, &own, NULL);
    return callback->caller(callback->callback, callback->fd, &msg, callback->arg);
}
