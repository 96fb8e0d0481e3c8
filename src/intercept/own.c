/* SPDX-License-Identifier: MIT */
#include "own.h"

#include "base/fds.h"
#include "base/text.h"
#include "sys/thread.h"

/* /proc/self, /proc/thread-self or /proc/PID, of this process, or one of its threads below it. */
bool own_step(const char **at)
{
    bool own = base_text_step(at, "/proc/") &&
               (base_text_step(at, "self") || base_text_step(at, "thread-self") ||
                base_text_number(at, 10) == (uint64_t)sys_getpid());

    return own && (!base_text_step(at, "/task/") || base_text_number(at, 10));
}

bool own_leads(int fd, const char *what)
{
    char target[64];
    const char *at = target;

    return base_fd_target(fd, target, sizeof target) > 0 && own_step(&at) &&
           base_text_step(&at, what) && !*at;
}
