/* SPDX-License-Identifier: MIT */
/* Resolution in the faulting thread: the program's callback, called from the handler. */
#include "core_local.h"
#include "sys/thread.h"

enum core_verdict core_run_callback(struct context *ctx, core_callback *callback, uintptr_t addr,
                                    enum arch_access access, const uint64_t *mask)
{
    uint64_t features = atomic_load(&ctx->features);
    struct uf_msg msg = {.event = UF_EVENT_PAGEFAULT};
    int ret;

    msg.arg.pagefault.flags = access == ARCH_WRITE ? UF_PAGEFAULT_FLAG_WRITE : 0;
    msg.arg.pagefault.address =
        features & UF_FEATURE_EXACT_ADDRESS ? addr : addr & ~(uintptr_t)(PAGING_PAGE - 1);
    if (features & UF_FEATURE_THREAD_ID) {
        msg.arg.pagefault.feat.ptid = (uint32_t)sys_gettid();
    }
    STAT(faults_callback);
    /*
     * All signals stay blocked: the callback is short by contract, and its own faults on other
     * registered memory are answered all the same, for nothing ever blocks those.
     */
    ret = callback(ctx->callback_fd, &msg, ctx->callback_arg);
    return ret == 0 ? CORE_RETRY : CORE_SIGBUS;
}
