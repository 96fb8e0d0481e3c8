/* SPDX-License-Identifier: MIT */
/*
 * The thread id that libc keeps in its thread descriptor, so that the facility need not ask the
 * kernel at every fault.
 *
 * Where it stands there is libc's own affair: it is looked for once, by value, and believed only
 * if it is found in exactly one place. The kernel writes it at the birth of each thread. Children
 * that share their parent's descriptor (CLONE_VM without CLONE_SETTLS) are the exception, which
 * core_tls_shared is for. Lives outside the signal-safe zone, which reads no thread-local storage.
 */
#include <stddef.h>

#include "core/core.h"
#include "sys/thread.h"
#include "tid.h"

#if defined(__x86_64__)

#define DESCRIPTOR_FROM 0x200
#define DESCRIPTOR_TO   0x400

static long tid_offset;

static int tid_at(long offset)
{
    int tid;

    __asm__ volatile("movl %%fs:(%1), %0" : "=r"(tid) : "r"(offset));
    return tid;
}

static int read_tid(void)
{
    return tid_at(tid_offset);
}

int (*tid_hook(void))(void)
{
    int tid = sys_gettid();
    long found = 0;

    for (long offset = DESCRIPTOR_FROM; offset < DESCRIPTOR_TO; offset += 4) {
        if (tid_at(offset) == tid) {
            if (found) {
                return NULL;
            }
            found = offset;
        }
    }
    tid_offset = found;
    core_short_way_at(found);
    return found ? read_tid : NULL;
}

#else

int (*tid_hook(void))(void)
{
    return NULL;
}

#endif
