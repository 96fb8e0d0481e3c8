/* SPDX-License-Identifier: MIT */
/* Masks and numbers, between the program's view and the kernel's: see fault/signal.h. */
#include "state.h"

const int fault_owned[FAULT_OWN_MAX] = {SIGSEGV, SIGBUS, SIGSYS};
int fault_own_count = 2;
int fault_surrogates[FAULT_OWN_MAX] = {64, 63, 62};
uint64_t fault_inherited;

/* All of them, as masks. */
static uint64_t own_bits = SYS_SIGBIT(SIGSEGV) | SYS_SIGBIT(SIGBUS);
static uint64_t surrogate_bits = SYS_SIGBIT(64) | SYS_SIGBIT(63);

void fault_own_changed(void)
{
    own_bits = surrogate_bits = 0;
    for (int i = 0; i < fault_own_count; i++) {
        own_bits |= SYS_SIGBIT(fault_owned[i]);
        surrogate_bits |= SYS_SIGBIT(fault_surrogates[i]);
    }
}

uint64_t fault_own_bits(void)
{
    return own_bits;
}

/* The surrogates' bits that stand for the bits of our signals in @program. */
static uint64_t surrogates_of(uint64_t program)
{
    uint64_t bits = 0;

    for (int i = 0; i < fault_own_count; i++) {
        bits |= program & SYS_SIGBIT(fault_owned[i]) ? SYS_SIGBIT(fault_surrogates[i]) : 0;
    }
    return bits;
}

bool fault_is_surrogate(int sig)
{
    return SYS_SIGBIT(sig) & surrogate_bits;
}

void fault_reserve(int segv, int bus)
{
    fault_surrogates[0] = segv;
    fault_surrogates[1] = bus;
    fault_own_changed();
}

uint64_t fault_mask_to_real(uint64_t program)
{
    uint64_t bits = program & own_bits ? surrogates_of(program) : 0;

    return (program & ~(own_bits | surrogate_bits)) | bits;
}

uint64_t fault_mask_to_program(uint64_t real)
{
    uint64_t program = real & ~(own_bits | surrogate_bits);

    for (int i = 0; (real & surrogate_bits) && i < fault_own_count; i++) {
        program |= real & SYS_SIGBIT(fault_surrogates[i]) ? SYS_SIGBIT(fault_owned[i]) : 0;
    }
    return program;
}

uint64_t fault_mask_to_wait(uint64_t program)
{
    return fault_mask_to_real(program) | (program & own_bits);
}

int fault_surrogate(int sig)
{
    for (int i = 0; i < fault_own_count; i++) {
        if (fault_owned[i] == sig) {
            return fault_surrogates[i];
        }
    }
    return 0;
}

int fault_number(int sig, siginfo_t *info)
{
    for (int i = 0; i < fault_own_count; i++) {
        if (sig != fault_surrogates[i]) {
            continue;
        }
        if (info) {
            info->si_signo = fault_owned[i];
            fault_requeue_clean(info);
        }
        return fault_owned[i];
    }
    return sig;
}
