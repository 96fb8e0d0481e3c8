/* SPDX-License-Identifier: MIT */
#include "own.h"

#include "base/fds.h"
#include "base/text.h"
#include "sys/file.h"
#include "sys/thread.h"

/* Of Linux 6.15: the calling thread, and its process. */
#define PIDFD_SELF_THREAD       -10000
#define PIDFD_SELF_THREAD_GROUP -10001

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

bool own_thread(int id)
{
    long own = sys_getpid();

    return id == own || (id > 0 && sys_call(SYS_tgkill, own, id, 0) == 0);
}

bool own_process(int pidfd)
{
    char path[48], content[512], *at = content;
    struct base_text text = base_text_on(path, sizeof path);
    long file, len;

    if (pidfd == PIDFD_SELF_THREAD || pidfd == PIDFD_SELF_THREAD_GROUP) {
        return true;
    }
    base_text_str(&text, "/proc/self/fdinfo/");
    base_text_dec(&text, (unsigned)pidfd);
    file = pidfd < 0 ? -1 : sys_open(path, O_RDONLY);
    if (sys_failed(file)) {
        return false;
    }
    len = sys_read((int)file, content, sizeof content - 1);
    sys_close((int)file);
    for (content[len > 0 ? len : 0] = '\0'; *at; at++) {
        const char *number = at;

        if (base_text_step(&number, "\nPid:\t")) {
            return own_thread((int)base_text_number(&number, 10));
        }
    }
    return false;
}
