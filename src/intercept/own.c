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

long own_fdinfo(int fd, char *text, size_t size)
{
    char path[48];
    struct base_text name = base_text_on(path, sizeof path);
    long file, n;

    base_text_str(&name, "/proc/self/fdinfo/");
    base_text_dec(&name, (uint64_t)fd);
    file = sys_open(path, O_RDONLY);
    if (sys_failed(file)) {
        return file;
    }
    n = sys_read((int)file, text, size - 1);
    sys_close((int)file);
    if (n >= 0) {
        text[n] = '\0';
    }
    return n;
}

const char *own_fdinfo_value(const char *text, const char *name)
{
    for (const char *at = text; *at; at++) {
        if (base_text_step(&at, name)) {
            return at;
        }
        while (*at && *at != '\n') {
            at++;
        }
        if (!*at) {
            return at;
        }
    }
    return "";
}

bool own_process(int pidfd)
{
    char text[512];
    const char *number;

    if (pidfd == PIDFD_SELF_THREAD || pidfd == PIDFD_SELF_THREAD_GROUP) {
        return true;
    }
    if (pidfd < 0 || own_fdinfo(pidfd, text, sizeof text) < 0) {
        return false;
    }
    number = own_fdinfo_value(text, "Pid:\t");
    return own_thread((int)base_text_number(&number, 10));
}
