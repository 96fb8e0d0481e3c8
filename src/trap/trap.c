/* SPDX-License-Identifier: MIT */
/* What is done about trapped calls, and the beginning. */
#include <errno.h>
#include <link.h>
#include <sys/prctl.h>

#include "core/call.h"
#include "core/core.h"
#include "fault/signal.h"
#include "intercept/calls.h"
#include "intercept/signal.h"
#include "local.h"
#include "paging/quick.h"
#include "rewrite.h"
#include "sys/thread.h"
#include "trap/trap.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF          0
#define PR_SYS_DISPATCH_ON           1
#endif

#ifndef SYS_mseal
#define SYS_mseal 462 /* 6.10 */
#endif

uintptr_t trap_text_at, trap_text_len;
unsigned char trap_class[TRAP_NR];

/* Those that concern contexts and their memory by more than pointers. */
static const short active[] = {
    SYS_mmap,        SYS_munmap,
    SYS_mremap,      SYS_madvise,
    SYS_mprotect,    SYS_mlock,
    SYS_mlock2,      SYS_brk,
    SYS_munlock,     SYS_mincore,
    SYS_shmat,       SYS_shmdt,
    SYS_read,        SYS_readv,
    SYS_write,       SYS_close,
    SYS_close_range, SYS_dup,
    SYS_dup2,        SYS_dup3,
    SYS_fcntl,       SYS_io_uring_setup,
    SYS_poll,        SYS_select,
    SYS_epoll_ctl,   SYS_fallocate,
    SYS_ftruncate,   SYS_truncate,
    SYS_sigaltstack, SYS_pkey_mprotect,
    SYS_mseal,       SYS_mlockall,
    SYS_munlockall,  SYS_process_madvise,
    SYS_getrusage,
};
static const short children[] = {SYS_fork, SYS_vfork, SYS_clone, SYS_clone3};

_Static_assert(TRAP_NR <= ICALL_NUMBERS, "");

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static void classify(const short *list, size_t count, unsigned char class)
{
    for (size_t i = 0; i < count; i++) {
        trap_class[list[i]] = class;
    }
}

static void classify_all(void)
{
    for (int nr = 0; nr < TRAP_NR; nr++) {
        trap_class[nr] = icall_concerns[nr] == ICALL_ALWAYS                    ? TRAP_ALWAYS
                         : icall_has_pointers(nr) || icall_asks_descriptor(nr) ? TRAP_ACTIVE
                                                                               : TRAP_PLAIN;
    }
    classify(active, COUNT(active), TRAP_ACTIVE);
    trap_quick_init(active, COUNT(active));
    classify(children, COUNT(children), TRAP_CHILD);
    trap_class[SYS_rt_sigreturn] = TRAP_SIGRETURN;
}

/* So that the thread's next call can be made by trap_quick(). */
static void get_lane(const long *args)
{
    int tid = core_short_way_tid();

    if (tid && !paging_lane_free(paging_lane_of(tid), tid)) {
        paging_lane_get(paging_lane_of(tid), tid, (uintptr_t)args);
    }
}

long trap_call(long nr, long *args, int how)
{
    int saved = errno;
    long ret = how == QUICK_EFAULT
                   ? icall_syscall_again(nr, args)
                   : icall_syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);

    if (trap_quick_wants_lane(nr)) {
        get_lane(args);
    }
    if (errno != saved) {
        errno = saved; /* a system call does not know of it; threads may share it */
    }
    return ret;
}

/* The mask in it is the program's own idea: frames of the kernel's making return by our code. */
void trap_sigreturn(ucontext_t *uc)
{
    uint64_t mask, real;

    if (core_copy_in(&mask, arch_sigmask(uc), sizeof mask) == 0) {
        real = fault_mask_to_real(mask);
        if (real != mask) {
            core_copy_out(arch_sigmask(uc), &real, sizeof real);
        }
    }
}

static int find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t at = info->dlpi_addr + part->p_vaddr;

        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) && at <= (uintptr_t)trap_entry &&
            (uintptr_t)trap_entry < at + part->p_memsz) {
            trap_text_at = at;
            trap_text_len = part->p_memsz;
            return 1;
        }
    }
    return 0;
}

static long dispatch(long how)
{
    return sys_call(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, how,
                    how == PR_SYS_DISPATCH_ON ? trap_text_at : 0,
                    how == PR_SYS_DISPATCH_ON ? trap_text_len : 0, 0);
}

int trap_start(bool rewrite)
{
    long ret;

    if (!dl_iterate_phdr(find_text, NULL)) {
        return -ENOEXEC;
    }
    /* Tried, and off again: SIGSYS has no handler yet, and libc makes calls. */
    ret = dispatch(PR_SYS_DISPATCH_ON);
    if (ret == 0) {
        dispatch(PR_SYS_DISPATCH_OFF);
        trap_arch_init();
        trap_stacks_init();
        classify_all();
        ret = isig_trap(trap_redirect);
    }
    if (ret == 0) {
        fault_halted = rewrite ? rewrite_stopped : NULL;
        if (rewrite) {
            rewrite_init();
        }
        icall_trapping = true;
        ret = dispatch(PR_SYS_DISPATCH_ON);
    }
    return (int)ret;
}
