/* SPDX-License-Identifier: MIT */
/* The handler in the faulting thread: the end of it that is not in the signal-safe zone. */
#include <errno.h>

#include "core/core.h"
#include "local.h"
#include "userfault/userfault.h"

_Static_assert(UF_HANDLER_WAIT == CORE_CALLBACK_WAIT, "handed through");

/*
 * errno is thread-local, which the zone must not touch: here it may be. The thread is between two
 * instructions of the program, which may be about to look at it.
 */
static int keep_errno(core_callback *handler, int fd, const struct uf_msg *msg, void *arg)
{
    int saved = errno;
    int ret = handler(fd, msg, arg);

    errno = saved;
    return ret;
}

EXPORT int uf_set_handler(int fd, uf_handler *handler, void *arg)
{
    int backend = uf_context_backend(fd);

    if (backend < 0) {
        return -1;
    }
    if (backend == UF_BACKEND_KERNEL) {
        errno = ENOTSUP;
        return -1;
    }
    return (int)lib_ret(core_set_callback(fd, keep_errno, handler, arg));
}
