/* SPDX-License-Identifier: MIT */
/*
 * What an ioctl answers when the process of the memory is gone: what the kernel finds wrong before
 * it looks for the address space, and then that it is none any more.
 */
#include <errno.h>
#include <string.h>

#include "core/remote.h"
#include "core_local.h"

/* Until Linux 4.13, and in the document, ENOSPC. */
static long gone(void)
{
    return core_options.gone_nospace ? -ENOSPC : -ESRCH;
}

static long gone_filling(const struct uf_io_range *range, uint64_t mode, uint64_t modes)
{
    return core_check_range(range->start, range->len) || (mode & ~modes) ? -EINVAL : gone();
}

static long gone_copy(const void *arg)
{
    struct uf_io_copy copy;
    struct uf_io_range to;

    memcpy(&copy, arg, sizeof copy);
    to = (struct uf_io_range){copy.dst, copy.len};
    return core_check_source(copy.src, copy.len)
               ? -EINVAL
               : gone_filling(&to, copy.mode, UF_COPY_MODE_DONTWAKE | UF_COPY_MODE_WP);
}

/* All begin with the range, and the mode comes next. */
static long gone_range(uint32_t request, const void *arg)
{
    struct uf_io_register args; /* of them the longest start */

    memcpy(&args, arg, sizeof args);
    switch (request) {
    case UF_IO_ZEROPAGE:
        return gone_filling(&args.range, args.mode, UF_ZEROPAGE_MODE_DONTWAKE);
    case UF_IO_CONTINUE:
        return gone_filling(&args.range, args.mode,
                            UF_CONTINUE_MODE_DONTWAKE | UF_CONTINUE_MODE_WP);
    case UF_IO_POISON:
        return gone_filling(&args.range, args.mode, UF_POISON_MODE_DONTWAKE);
    case UF_IO_WRITEPROTECT:
    case UF_IO_RWPROTECT: /* both bits at once make no sense in either */
        return args.mode == 3 ? -EINVAL : gone_filling(&args.range, args.mode, 3);
    case UF_IO_REGISTER:
        return !args.mode || (args.mode & ~CORE_MODES) ||
                       core_check_range(args.range.start, args.range.len)
                   ? -EINVAL
                   : -ENOMEM;
    case UF_IO_UNREGISTER:
        return core_check_range(args.range.start, args.range.len) ? -EINVAL : -ENOMEM;
    default: /* UF_IO_WAKE */
        return core_check_range(args.range.start, args.range.len);
    }
}

long core_gone_ioctl(uint32_t request, void *args)
{
    switch (request) {
    case UF_IO_API: /* it was enabled */
        memset(args, 0, sizeof(struct uf_io_api));
        return -EINVAL;
    case UF_IO_COPY:
        return gone_copy(args);
    case UF_IO_ZEROPAGE:
    case UF_IO_CONTINUE:
    case UF_IO_POISON:
    case UF_IO_WRITEPROTECT:
    case UF_IO_RWPROTECT:
    case UF_IO_REGISTER:
    case UF_IO_UNREGISTER:
    case UF_IO_WAKE:
        return gone_range(request, args);
    case UF_IO_ACK:
    case UF_IO_DEATH:
        return -ESRCH;
    default: /* UF_IO_MOVE is for the process itself */
        return -EINVAL;
    }
}
