/* SPDX-License-Identifier: MIT */
/*
 * Huge pages for a test. They are the whole system's, so they go back whatever happens: a process
 * of its own holds them, and gives them back when the pipe to it closes, as it does with the
 * test's end, however that comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"

#define POOL "/proc/sys/vm/nr_hugepages"
#define LOCK                                                                                       \
    "/sys/kernel/mm/hugepages" /* who counts on the pool: one alone, or several that share */
#define EDIT "/sys/kernel/mm"  /* locked while its size is changed */

static int keeper = -1; /* writing end of its pipe */
static pid_t keeper_pid;

static long read_number(const char *path)
{
    FILE *file = fopen(path, "re");
    long value = -1;

    if (file && fscanf(file, "%ld", &value) != 1)
        value = -1;
    if (file)
        fclose(file);
    return value;
}

static bool write_number(const char *path, long value)
{
    FILE *file = fopen(path, "we");
    bool written = file && fprintf(file, "%ld\n", value) > 0;

    return file && fclose(file) == 0 && written;
}

static long meminfo(const char *name)
{
    FILE *file = fopen("/proc/meminfo", "re");
    size_t len = strlen(name);
    char line[128];
    long value = 0;

    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, name, len) == 0)
            value = strtol(line + len, NULL, 10);
    if (file)
        fclose(file);
    return value;
}

size_t pool_page_size(void)
{
    return (size_t)meminfo("Hugepagesize:") * 1024;
}

/*
 * Surplus pages are counted first as those that were asked for, and are none that a case could use:
 * kernels lose reservations, for one when a part of a private mapping is moved, and their pages are
 * surplus from then on. Whoever came before has counted them, and takes them away when it goes: so
 * what is reserved is counted again.
 */
static long grow(long pages)
{
    long before = read_number(POOL), surplus = meminfo("HugePages_Surp:");
    long reserved = meminfo("HugePages_Rsvd:");

    write_number(POOL, before + (surplus > reserved ? surplus : reserved) + pages);
    return read_number(POOL) - before;
}

static bool may_edit(void)
{
    return access(POOL, W_OK) == 0;
}

static long usable(void)
{
    return meminfo("HugePages_Free:") - meminfo("HugePages_Rsvd:");
}

/* What others take and give meanwhile stays: only as much as was added is taken away. */
static void shrink(long added)
{
    write_number(POOL, read_number(POOL) - added);
}

/* Answers how many there are to be used, and lives until the other end of `until` is closed. */
_Noreturn static void keep(long wanted, bool alone, int answer, int until)
{
    char end;
    int lock = open(LOCK, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int edit = open(EDIT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long added, pages;

    setsid(); /* not for the terminal to end */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (flock(lock, alone ? LOCK_EX : LOCK_SH) != 0 || flock(edit, LOCK_EX) != 0)
        _exit(1);
    added = may_edit() ? grow(wanted) : 0; /* else there may be pages that stay */
    pages = usable();
    flock(edit, LOCK_UN);
    if (write(answer, &pages, sizeof(pages)) == sizeof(pages)) {
        while (read(until, &end, 1) == -1 && errno == EINTR) {
        }
    }
    flock(edit, LOCK_EX);
    if (added)
        shrink(added);
    _exit(0);
}

const char *pool_take(long wanted, bool alone)
{
    int answer[2], until[2];
    long pages = 0;

    if (pool_page_size() == 0)
        return "the kernel has no huge pages";
    if (pipe2(answer, O_CLOEXEC) != 0 || pipe2(until, O_CLOEXEC) != 0)
        return "no pipe";
    fflush(stdout);
    keeper_pid = fork();
    if (keeper_pid == 0) {
        close(until[1]);
        close(answer[0]);
        keep(wanted, alone, answer[1], until[0]);
    }
    close(answer[1]);
    close(until[0]);
    keeper = until[1];
    if (keeper_pid < 0 || read(answer[0], &pages, sizeof(pages)) != sizeof(pages))
        pages = 0;
    close(answer[0]);
    if (pages >= wanted)
        return NULL;
    pool_give_back();
    return may_edit() ? "the system has too few huge pages"
                      : "no right to change the pool of huge pages";
}

void pool_give_back(void)
{
    pool_forget();
    if (keeper_pid > 0)
        waitpid(keeper_pid, NULL, 0);
    keeper_pid = 0;
}

void pool_forget(void)
{
    if (keeper != -1)
        close(keeper);
    keeper = -1;
}
