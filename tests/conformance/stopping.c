/* SPDX-License-Identifier: MIT */
#include "stopping.h"

#include <dirent.h>

#include "harness.h"

/* Its line in /proc from its state on, or NULL. @line: 512 bytes */
static const char *stat_of(const char *pid, char *line)
{
    char path[300];

    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, line, 511) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return NULL;
    line[n] = '\0';
    return strrchr(line, ')') ? strrchr(line, ')') + 2 : NULL;
}

void await_state(pid_t pid, char state)
{
    char name[16], line[512];
    const char *stat;

    snprintf(name, sizeof(name), "%d", pid);
    do {
        stat = stat_of(name, line);
        CHECK(stat);
    } while (*stat != state);
}

pid_t server_of(pid_t pid)
{
    char line[512];
    struct dirent *entry;
    pid_t found = 0;
    DIR *dir = opendir("/proc");

    CHECK(dir);
    while (!found && (entry = readdir(dir))) {
        const char *stat = stat_of(entry->d_name, line);

        if (stat && strtol(stat + 2, NULL, 10) == pid && strstr(line, "(userfault-serve)"))
            found = (pid_t)strtol(entry->d_name, NULL, 10);
    }
    closedir(dir);
    return found;
}
