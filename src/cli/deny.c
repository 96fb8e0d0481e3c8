/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <userfault/abi.h>

#include "caps.h"
#include "launch.h"

/* A second calling convention would be a way around the filter. */
static int add_conventions(scmp_filter_ctx filter)
{
    int err = 0;

    switch (seccomp_arch_native()) {
    case SCMP_ARCH_X86_64:
        err = seccomp_arch_add(filter, SCMP_ARCH_X86);
        if (err == 0 || err == -EEXIST)
            err = seccomp_arch_add(filter, SCMP_ARCH_X32);
        break;
    case SCMP_ARCH_AARCH64:
        err = seccomp_arch_add(filter, SCMP_ARCH_ARM);
        break;
    default:
        break;
    }
    return err == -EEXIST ? 0 : err;
}

static int add_rules(scmp_filter_ctx filter)
{
    const uint32_t deny = SCMP_ACT_ERRNO(EPERM);
    int err = seccomp_rule_add(filter, deny, SCMP_SYS(userfaultfd), 0);

    if (err != 0)
        return err;
    /* The kernel looks at the low half of the number only, and so must the filter. */
    return seccomp_rule_add(filter, deny, SCMP_SYS(ioctl), 1,
                            SCMP_A1_32(SCMP_CMP_MASKED_EQ, UINT32_MAX, UF_IOC_NEW));
}

int deny_kernel(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int err;

    if (!filter)
        return -ENOMEM;
    err = add_conventions(filter);
    /* no_new_privs only where a filter needs it: it would disarm set-uid helpers of the program. */
    if (err == 0)
        err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, !caps_effective(CAP_SYS_ADMIN));
    /* The kernel's own errno from seccomp_load, not the library's ECANCELED. */
    if (err == 0)
        err = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    if (err == 0)
        err = add_rules(filter);
    if (err == 0)
        err = seccomp_load(filter);
    seccomp_release(filter);
    return err;
}
