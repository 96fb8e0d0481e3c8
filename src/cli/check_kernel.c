/* SPDX-License-Identifier: MIT */
/* What the kernel's own facility grants to this process, and what stands in the way. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <userfault/abi.h>

#include "caps.h"
#include "check.h"
#include "probe.h"

static const char group[] = "The kernel's facility";
static const char device[] = "/dev/userfaultfd";

/* ------------------------------------------------------------------ tries, in a child */

static int ask_features(int fd, uint64_t *features)
{
    struct uf_io_api api = {.api = UF_API};

    if (ioctl(fd, UF_IO_API, &api) != 0)
        return errno;
    *features = api.features;
    return 0;
}

static int try_syscall(uint64_t *features)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    return fd < 0 ? errno : ask_features(fd, features);
}

static int try_user_mode_only(uint64_t *features)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UF_USER_MODE_ONLY);

    return fd < 0 ? errno : ask_features(fd, features);
}

static int try_device(uint64_t *features)
{
    int dev = open(device, O_RDWR | O_CLOEXEC);
    int fd = dev < 0 ? -1 : ioctl(dev, UF_IOC_NEW, O_CLOEXEC);

    return fd < 0 ? errno : ask_features(fd, features);
}

/* ------------------------------------------------------------------ reasons */

/* Why the system call is refused. The same errno has several sources, told apart by what else is
 * granted: nothing but a filter forbids faults of user mode. */
static const char *refusal_reason(const struct check *check, int err)
{
    switch (err) {
    case EPERM:
        if (check->kernel_user_err == 0)
            return "EPERM: needs CAP_SYS_PTRACE or the sysctl";
        return check->seccomp ? "EPERM: a seccomp filter forbids it" : "EPERM: forbidden here";
    case ENOSYS:
        return "ENOSYS: the kernel or a sandbox lacks it";
    case EINVAL:
        return "EINVAL: the kernel does not know the flag";
    case EINTR:
        return "killed: a seccomp filter forbids it";
    default:
        return strerrordesc_np(err);
    }
}

static void fact_try(struct check *check, const char *id, const char *label, int err,
                     const char *good)
{
    check_fact(check, group, id, label, err == 0 ? VERDICT_YES : VERDICT_NO, "%s",
               err == 0 ? good : refusal_reason(check, err));
}

static void owner_names(const struct stat *st, char *text, size_t size)
{
    const struct passwd *user = getpwuid(st->st_uid);
    const struct group *team = getgrgid(st->st_gid);

    snprintf(text, size, "%04o %.12s:%.12s", st->st_mode & 07777, user ? user->pw_name : "?",
             team ? team->gr_name : "?");
}

static void fact_device(struct check *check)
{
    const enum verdict verdict = check->device_err == 0 ? VERDICT_YES : VERDICT_NO;
    char owner[64];
    struct stat st;

    if (stat(device, &st) != 0) {
        check_fact(check, group, "kernel_device", device, VERDICT_NO, "%s",
                   errno == ENOENT ? "no such device (Linux 6.1 brings it)"
                                   : strerrordesc_np(errno));
        return;
    }
    owner_names(&st, owner, sizeof(owner));
    if (check->device_err == 0)
        check_fact(check, group, "kernel_device", device, verdict, "%s", owner);
    else if (check->device_err == EPERM && check->seccomp)
        check_fact(check, group, "kernel_device", device, verdict,
                   "EPERM: a seccomp filter forbids its ioctl");
    else
        check_fact(check, group, "kernel_device", device, verdict, "%s: it is %s",
                   strerrorname_np(check->device_err), owner);
}

static void fact_sysctl(struct check *check)
{
    char value[16];
    const char *meaning = "only CAP_SYS_PTRACE traps kernel faults";

    if (!check_read_line("/proc/sys/vm/unprivileged_userfaultfd", value, sizeof(value))) {
        check_fact(check, group, "sysctl", "unprivileged sysctl", VERDICT_NONE,
                   "absent: kernel without it, or before 5.2");
        return;
    }
    if (strcmp(value, "0") != 0)
        meaning = "everybody traps kernel faults";
    check_fact(check, group, "sysctl", "unprivileged sysctl",
               strcmp(value, "0") != 0 ? VERDICT_YES : VERDICT_NO, "%.4s: %s", value, meaning);
}

/* The "Seccomp:" line of our status: 0 none, 1 strict, 2 a filter. */
static void fact_seccomp(struct check *check)
{
    static const char *const modes[] = {"no filter", "strict", "a filter is on this process"};
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    int mode = -1;

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "Seccomp: %d", &mode) == 1)
            break;
    if (file)
        fclose(file);
    check->seccomp = mode > 0;
    check_fact(check, group, "seccomp", "seccomp", VERDICT_NONE, "%s",
               mode >= 0 && mode <= 2 ? modes[mode] : "unknown");
}

static void fact_features(struct check *check)
{
    if (check->kernel_features)
        check_fact(check, group, "kernel_features", "features", VERDICT_YES, "0x%llx, %d of them",
                   (unsigned long long)check->kernel_features,
                   __builtin_popcountll(check->kernel_features));
    else
        check_fact(check, group, "kernel_features", "features", VERDICT_NO, "nobody here is told");
}

void check_kernel(struct check *check)
{
    const char *preload = getenv("LD_PRELOAD");
    uint64_t features[3];

    check->kernel_err = probe_try(try_syscall, &features[0], NULL);
    check->kernel_user_err = probe_try(try_user_mode_only, &features[1], NULL);
    check->device_err = probe_try(try_device, &features[2], NULL);
    for (size_t i = 0; i < 3; i++)
        check->kernel_features |= features[i];

    if (preload && strstr(preload, "libuserfault-preload"))
        check_fact(check, group, "preloaded", "userfault run", VERDICT_NONE,
                   "check runs under it: some answers are ours");
    fact_seccomp(check);
    fact_try(check, "kernel_syscall", "userfaultfd(2)", check->kernel_err,
             "granted, faults of the kernel too");
    fact_try(check, "kernel_user_mode_only", "UFFD_USER_MODE_ONLY", check->kernel_user_err,
             "granted, EFAULT for faults of the kernel");
    fact_device(check);
    fact_sysctl(check);
    check_fact(check, group, "cap_sys_ptrace", "CAP_SYS_PTRACE",
               caps_effective(CAP_SYS_PTRACE) ? VERDICT_YES : VERDICT_NO, "%s",
               caps_effective(CAP_SYS_PTRACE) ? "held" : "not held");
    fact_features(check);
}
