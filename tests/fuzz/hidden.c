/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <errno.h>
#include <unistd.h>

#include "core/core.h"
#include "core/remote.h"

int fuzz_hidden[HANDLES];
int fuzz_hidden_limit = HANDLES;

static _Thread_local int locked;

void core_fds_lock(void)
{
    MUST(locked++ == 0);
}

void core_fds_unlock(void)
{
    MUST(--locked == 0);
}

unsigned fuzz_hidden_count(void)
{
    unsigned count = 0;

    for (int i = 0; i < HANDLES; i++)
        count += fuzz_hidden[i] != 0;
    return count;
}

int core_hide(int fd)
{
    for (int i = 0; i < fuzz_hidden_limit; i++) {
        if (!fuzz_hidden[i]) {
            fuzz_hidden[i] = fd + 1;
            return i;
        }
    }
    close(fd);
    return -EMFILE;
}

int core_hidden(int handle)
{
    MUST(handle >= 0 && handle < HANDLES);
    return fuzz_hidden[handle] - 1;
}

int core_tid(void)
{
    return gettid();
}

bool core_bells_awaited(void)
{
    return false;
}

bool core_impatient(void)
{
    return false;
}

bool core_spins(void)
{
    return true;
}

void core_unhide(int handle)
{
    int fd = core_hidden(handle);

    fuzz_hidden[handle] = 0;
    MUST(close(fd) == 0);
}
