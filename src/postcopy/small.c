/* SPDX-License-Identifier: MIT */
/*
 * Advice (MADV_NOHUGEPAGE) would do for a region, but nobody tells what to restore: who had asked
 * for huge pages, or had not, would lose that. The process's own switch can be asked for its state.
 */
#include <pthread.h>
#include <sys/prctl.h>

#include "small.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned users; /* sinks before their switch */
static int before;     /* what PR_GET_THP_DISABLE said: a bit, and flags of newer kernels */

static void set(int state)
{
    prctl(PR_SET_THP_DISABLE, (unsigned long)(state & 1), (unsigned long)(state & ~1), 0, 0);
}

/* A kernel without huge pages refuses, and needs none of this. */
void small_begin(void)
{
    pthread_mutex_lock(&lock);
    if (users++ == 0) {
        before = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
        if (before >= 0 && before != 1)
            set(1);
    }
    pthread_mutex_unlock(&lock);
}

void small_end(void)
{
    pthread_mutex_lock(&lock);
    if (--users == 0 && before >= 0 && before != 1)
        set(before);
    pthread_mutex_unlock(&lock);
}
