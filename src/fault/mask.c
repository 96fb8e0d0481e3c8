/* SPDX-License-Identifier: MIT */
/* Masks and numbers, between the program's view and the kernel's: see fault/signal.h. */
#include "state.h"

int fault_surrogates[2] = {64, 63};
uint64_t fault_inherited;

static uint64_t surrogate_bits(void)
{
    return SYS_SIGBIT(fault_surrogates[0]) | SYS_SIGBIT(fault_surrogates[1]);
}

/* The surrogates' bits that stand for the bits of SIGSEGV and SIGBUS in @program. */
static uint64_t surrogates_of(uint64_t program)
{
    return (program & SYS_SIGBIT(SIGSEGV) ? SYS_SIGBIT(fault_surrogates[0]) : 0) |
           (program & SYS_SIGBIT(SIGBUS) ? SYS_SIGBIT(fault_surrogates[1]) : 0);
}

void fault_reserve(int segv, int bus)
{
    fault_surrogates[0] = segv;
    fault_surrogates[1] = bus;
}

uint64_t fault_mask_to_real(uint64_t program)
{
    return (program & ~(OWN_BITS | surrogate_bits())) | surrogates_of(program);
}

uint64_t fault_mask_to_program(uint64_t real)
{
    uint64_t program = real & ~(OWN_BITS | surrogate_bits());

    program |= real & SYS_SIGBIT(fault_surrogates[0]) ? SYS_SIGBIT(SIGSEGV) : 0;
    program |= real & SYS_SIGBIT(fault_surrogates[1]) ? SYS_SIGBIT(SIGBUS) : 0;
    return program;
}

uint64_t fault_mask_to_wait(uint64_t program)
{
    return fault_mask_to_real(program) | (program & OWN_BITS);
}

int fault_surrogate(int sig)
{
    return sig == SIGSEGV ? fault_surrogates[0] : sig == SIGBUS ? fault_surrogates[1] : 0;
}

int fault_number(int sig, siginfo_t *info)
{
    if (sig == fault_surrogates[0]) {
        sig = SIGSEGV;
    } else if (sig == fault_surrogates[1]) {
        sig = SIGBUS;
    } else {
        return sig;
    }
    if (info) {
        info->si_signo = sig;
        fault_requeue_clean(info);
    }
    return sig;
}
