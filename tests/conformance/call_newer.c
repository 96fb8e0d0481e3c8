/* SPDX-License-Identifier: MIT */
/*
 * System calls that libc has no function for, or that write where nobody looks, with their
 * arguments in hidden memory. Numbers are those that all architectures share.
 */
#ifdef __x86_64__
#include <asm/prctl.h>
#endif
#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "calls.h"

enum {
    NR_CACHESTAT = 451,
    NR_FCHMODAT2,
    NR_STATMOUNT = 457,
    NR_LISTMOUNT,
    NR_LSM_LIST_MODULES = 461,
    NR_SETXATTRAT = 463,
    NR_GETXATTRAT,
    NR_LISTXATTRAT,
    NR_REMOVEXATTRAT,
    NR_OPEN_TREE_ATTR,
    NR_FILE_GETATTR,
    NR_FILE_SETATTR,
};

static char file[] = "/tmp/conformance-XXXXXX";

/* Whether it was made; the kernel, or the file system, may know nothing of it. */
static bool known(long ret)
{
    CHECK(ret != -1 || errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOTTY || errno == EPERM);
    return ret != -1;
}

static void attributes(struct place *p)
{
    struct {
        uint64_t value;
        uint32_t size, flags;
    } args = {(uintptr_t)place_in(p, "value", 5), 5, 0};
    struct {
        uint64_t xflags;
        uint32_t extsize, nextents, projid, cowextsize;
    } *attr = place_out(p, 24), got;

    if (known(syscall(NR_SETXATTRAT, AT_FDCWD, place_text(p, file), 0, place_text(p, "user.a"),
                      PLACE_IN(p, args), sizeof args))) {
        char *out = place_out(p, 16), *names = place_out(p, 64);

        args.value = (uintptr_t)out;
        args.size = 16;
        CHECK_EQ(syscall(NR_GETXATTRAT, AT_FDCWD, place_text(p, file), 0, place_text(p, "user.a"),
                         PLACE_IN(p, args), sizeof args),
                 5);
        CHECK_EQ(memcmp(out, "value", 5), 0);
        CHECK_EQ(syscall(NR_LISTXATTRAT, AT_FDCWD, place_text(p, file), 0, names, 64),
                 sizeof "user.a");
        CHECK_EQ(
            syscall(NR_REMOVEXATTRAT, AT_FDCWD, place_text(p, file), 0, place_text(p, "user.a")),
            0);
        CHECK_ERRNO(syscall(NR_SETXATTRAT, AT_FDCWD, file, 0, "user.a", unmapped(), sizeof args),
                    EFAULT);
    }
    if (known(syscall(NR_FILE_GETATTR, AT_FDCWD, place_text(p, file), attr, 24, 0))) {
        got = (__typeof__(got)){.xflags = attr->xflags, .projid = attr->projid};
        known(syscall(NR_FILE_SETATTR, AT_FDCWD, place_text(p, file), PLACE_IN(p, got), 24, 0));
        CHECK_ERRNO(syscall(NR_FILE_GETATTR, AT_FDCWD, file, unmapped(), 24, 0), EFAULT);
    }
    if (known(syscall(NR_FCHMODAT2, AT_FDCWD, place_text(p, file), 0640, 0))) {
        struct stat st;

        CHECK_EQ(stat(file, &st), 0);
        CHECK_EQ(st.st_mode & 0777, 0640);
    }
}

static void call_attributes(enum mem_kind kind)
{
    int fd = mkstemp(file);

    CHECK(fd >= 0);
    place_each(kind, attributes);
    CHECK_EQ(unlink(file), 0);
}

#define SB_BASIC 1

static void mounts(struct place *p)
{
    struct {
        uint32_t size, spare;
        uint64_t id, param;
    } req = {.size = 24, .param = SB_BASIC};
    struct {
        uint32_t size, spare;
        uint64_t mask;
    } *about = place_out(p, 512);
    uint64_t attr[4] = {0}, *ids = place_out(p, 8 * sizeof *ids);
    struct statx x;

    CHECK_EQ(statx(AT_FDCWD, "/", 0, 0x4000 /* STATX_MNT_ID_UNIQUE */, &x), 0);
    req.id = x.stx_mnt_id;
    if (known(syscall(NR_STATMOUNT, PLACE_IN(p, req), about, 512, 0)))
        CHECK_EQ(about->mask & SB_BASIC, SB_BASIC);
    req.id = UINT64_MAX; /* LSMT_ROOT */
    req.param = 0;
    if (known(syscall(NR_LISTMOUNT, PLACE_IN(p, req), ids, 8, 0)))
        CHECK(ids[0] > 0);
    long fd = syscall(NR_OPEN_TREE_ATTR, AT_FDCWD, place_text(p, "/"), OPEN_TREE_CLOEXEC,
                      place_in(p, attr, sizeof attr), sizeof attr);
    CHECK(fd != -1 || errno == EINVAL || errno == ENOSYS || errno == EPERM);
    fd = syscall(SYS_fsopen, place_text(p, "tmpfs"), 1);
    if (known(fd)) {
        CHECK_EQ(syscall(SYS_fsconfig, fd, FSCONFIG_SET_STRING, place_text(p, "size"),
                         place_text(p, "4096"), 0),
                 0);
        CHECK_ERRNO(syscall(SYS_fsconfig, fd, FSCONFIG_SET_STRING, "size", unmapped(), 0), EFAULT);
        close((int)fd);
    }
#ifdef SYS_ustat
    struct stat st;
    char *old = place_out(p, 32);
    CHECK_EQ(stat("/proc", &st), 0);
    known(syscall(SYS_ustat, (unsigned)st.st_dev, old));
    char *name = place_out(p, 32);
    if (known(syscall(SYS_sysfs, 2, 0, name))) {
        CHECK(*name != 0);
        CHECK_EQ(syscall(SYS_sysfs, 1, place_text(p, name)), 0);
    }
#endif
}

static void call_mounts(enum mem_kind kind)
{
    place_each(kind, mounts);
}

static void memory(struct place *p)
{
    uint64_t range[2] = {0, 0}, *stat = place_out(p, 5 * sizeof *stat);
    int fd = memfd_create("conformance", MFD_CLOEXEC);
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    char own[16] = "0123456789abcdef", *page;
    struct iovec local = {place_out(p, 16), 16}, remote = {own, 16};
    struct iovec parts[2] = {{place_out(p, 8), 8}, {place_out(p, 8), 8}};

    CHECK_EQ(write(fd, "x", 1), 1);
    if (known(syscall(NR_CACHESTAT, fd, place_in(p, range, sizeof range), stat, 0)))
        CHECK_EQ(stat[0], 1);
    page = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec whole = {page, page_size};
    if (known(syscall(SYS_process_madvise, self, PLACE_IN(p, whole), 1, MADV_COLD, 0)))
        CHECK_ERRNO(syscall(SYS_process_madvise, self, unmapped(), 1, MADV_COLD, 0), EFAULT);
    CHECK_EQ(munmap(page, page_size), 0);

    CHECK_EQ(process_vm_readv(getpid(), PLACE_IN(p, local), 1, PLACE_IN(p, remote), 1, 0), 16);
    CHECK_EQ(memcmp(local.iov_base, own, 16), 0);
    CHECK_EQ(process_vm_readv(getpid(), place_in(p, parts, sizeof parts), 2, &remote, 1, 0), 16);
    CHECK_EQ(memcmp(parts[1].iov_base, own + 8, 8), 0);
    local.iov_base = place_in(p, "0123456789ABCDEF", 16);
    CHECK_EQ(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), 16);
    CHECK_EQ(memcmp(own, "0123456789ABCDEF", 16), 0);
    close(self);
    close(fd);
}

static void call_memory(enum mem_kind kind)
{
    place_each(kind, memory);
}

/* What a process knows about itself. */
static void self(struct place *p)
{
    uint64_t *head = PLACE_OUT(p, uint64_t), *len = PLACE_OUT(p, uint64_t);
    uint32_t size = 64, *size_at = PLACE_IN(p, size);
    char *ids = place_out(p, 64), *vector = place_out(p, 512), *random = place_out(p, 64);
    struct __user_cap_header_struct head3 = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct *caps = place_out(p, 2 * sizeof *caps), same[2];
    char zeroes[64] = {0};

    CHECK_EQ(syscall(SYS_get_robust_list, 0, head, len), 0);
    CHECK_EQ(*len, 24);
    if (known(syscall(NR_LSM_LIST_MODULES, ids, size_at, 0)))
        CHECK_EQ(*size_at % 8, 0);
    CHECK_EQ(syscall(SYS_capget, PLACE_IN(p, head3), caps), 0);
    memcpy(same, caps, sizeof same);
    CHECK_EQ(syscall(SYS_capset, PLACE_IN(p, head3), place_in(p, same, sizeof same)), 0);
    long got = prctl(0x41555856 /* PR_GET_AUXV */, vector, 512, 0, 0);
    CHECK(got > 0 || errno == EINVAL);
    CHECK_EQ(getentropy(random, 64), 0);
    CHECK(memcmp(random, zeroes, 64) != 0);
    CHECK_EQ(prctl(PR_SET_NAME, place_text(p, "named"), 0, 0, 0), 0);
    char name[16];
    CHECK_EQ(prctl(PR_GET_NAME, name), 0);
    CHECK_EQ(strcmp(name, "named"), 0);
#ifdef ARCH_GET_FS
    unsigned long base, *fs = PLACE_OUT(p, unsigned long);
    CHECK_EQ(syscall(SYS_arch_prctl, ARCH_GET_FS, &base), 0);
    CHECK_EQ(syscall(SYS_arch_prctl, ARCH_GET_FS, fs), 0);
    CHECK_EQ(*fs, base);
    CHECK_ERRNO(syscall(SYS_arch_prctl, ARCH_GET_FS, unmapped()), EFAULT);
    known(syscall(SYS_modify_ldt, 0, place_out(p, 64), 64));
#endif
}

static void call_self(enum mem_kind kind)
{
    place_each(kind, self);
}

/* The tracer's side. */
static void traces(struct place *p)
{
    siginfo_t *info = PLACE_OUT(p, siginfo_t);
    struct user_regs_struct *regs = PLACE_OUT(p, struct user_regs_struct);
    struct iovec set = {PLACE_OUT(p, struct user_regs_struct), sizeof *regs};
    static long word = 0x123456789;
    long *peeked = PLACE_OUT(p, long);
    int status;
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0)
        for (;;)
            pause();
    CHECK_EQ(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
    CHECK_EQ(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSTOPPED(status));
    CHECK_EQ(ptrace(PTRACE_GETSIGINFO, pid, NULL, info), 0);
    CHECK_EQ(info->si_signo, WSTOPSIG(status));
    CHECK_EQ(ptrace(PTRACE_SETSIGINFO, pid, NULL, PLACE_IN(p, *info)), 0);
    CHECK_EQ(ptrace(PTRACE_GETREGSET, pid, (void *)1 /* NT_PRSTATUS */, PLACE_IN(p, set)), 0);
#ifdef __x86_64__
    CHECK_EQ(ptrace(PTRACE_GETREGS, pid, NULL, regs), 0);
    CHECK_EQ(((struct user_regs_struct *)set.iov_base)->rip, regs->rip);
#endif
    CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, &word, NULL), word);
    CHECK_EQ(syscall(SYS_ptrace, PTRACE_PEEKDATA, pid, &word, peeked), 0);
    CHECK_EQ(*peeked, word);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(pid), SIGKILL);
}

static void call_traces(enum mem_kind kind)
{
    place_each(kind, traces);
}

/* Calls that have acted when they write their answer, or do not say that they could not. */
static void told_once(struct place *p)
{
    static char first[16384], second[16384];
    stack_t one = {.ss_sp = first, .ss_size = sizeof first}, two = {.ss_sp = second}, *was;
    struct timespec soon = {.tv_nsec = 1000000}, *left = PLACE_IN(p, soon);
    siginfo_t info = {.si_code = SI_QUEUE};

    two.ss_size = sizeof second;
    CHECK_EQ(sigaltstack(&one, NULL), 0);
    was = PLACE_OUT(p, stack_t);
    CHECK_EQ(sigaltstack(PLACE_IN(p, two), was), 0);
    CHECK(was->ss_sp == first);
    CHECK_EQ(sigaltstack(NULL, was), 0);
    CHECK(was->ss_sp == second);
    CHECK_EQ(syscall(SYS_pselect6, 0, NULL, NULL, NULL, left, NULL), 0);
    CHECK_EQ(left->tv_nsec, 0);
    left = PLACE_IN(p, soon);
    CHECK_EQ(syscall(SYS_ppoll, NULL, 0, left, NULL, 8), 0);
    CHECK_EQ(left->tv_nsec, 0);
#ifdef SYS_select
    struct timeval soon_too = {.tv_usec = 1000}, *left_too = PLACE_IN(p, soon_too);
    CHECK_EQ(syscall(SYS_select, 0, NULL, NULL, NULL, left_too), 0);
    CHECK_EQ(left_too->tv_usec, 0);
#endif
    info.si_signo = SIGCHLD; /* which nobody handles */
    CHECK_EQ(syscall(SYS_rt_sigqueueinfo, getpid(), SIGCHLD, PLACE_IN(p, info)), 0);
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    CHECK_EQ(syscall(SYS_pidfd_send_signal, pidfd, SIGCHLD, PLACE_IN(p, info), 0), 0);
    CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, getpid(), SIGCHLD, unmapped()), EFAULT);
    close(pidfd);
}

static void call_told_once(enum mem_kind kind)
{
    place_each(kind, told_once);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_newer_cases[] = {
    {"call/attributes", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_attributes},
    {"call/mounts", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_mounts},
    {"call/memory", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_memory},
    {"call/self", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_self},
    {"call/traces", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_traces},
    {"call/told-once", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_told_once},
    {.id = NULL},
};
