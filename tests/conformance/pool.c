/* SPDX-License-Identifier: MIT */
/*
 * Huge pages for a case. They are the whole system's, so they go back whatever happens: a process
 * of its own holds them, and gives them back when the pipe to it closes, as it does with the
 * runner's end, however that comes.
 */
#include <sys/file.h>

#include "harness.h"

#define POOL "/proc/sys/vm/nr_hugepages"
#define LOCK "/sys/kernel/mm/hugepages" /* locked: one test at a time counts on the pool */

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
 * surplus from then on.
 */
static long grow(void)
{
    long before = read_number(POOL);

    write_number(POOL, before + meminfo("HugePages_Surp:") + POOL_PAGES);
    return read_number(POOL) - before;
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
_Noreturn static void keep(int answer, int until)
{
    char end;
    int lock = open(LOCK, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long added, pages;

    setsid(); /* not for the terminal to end */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (lock == -1 || flock(lock, LOCK_EX) != 0)
        _exit(1);
    added = grow();
    pages = usable();
    if (write(answer, &pages, sizeof(pages)) == sizeof(pages)) {
        while (read(until, &end, 1) == -1 && errno == EINTR) {
        }
    }
    shrink(added);
    _exit(0);
}

const char *pool_take(void)
{
    int answer[2], until[2];
    long pages = 0;

    if (pool_page_size() == 0)
        return "the kernel has no huge pages";
    if (access(POOL, W_OK) != 0)
        return usable() >= POOL_PAGES ? NULL : "no right to change the pool of huge pages";
    if (pipe2(answer, O_CLOEXEC) != 0 || pipe2(until, O_CLOEXEC) != 0)
        return "no pipe";
    fflush(stdout);
    keeper_pid = fork();
    if (keeper_pid == 0) {
        close(until[1]);
        close(answer[0]);
        keep(answer[1], until[0]);
    }
    close(answer[1]);
    close(until[0]);
    keeper = until[1];
    if (keeper_pid < 0 || read(answer[0], &pages, sizeof(pages)) != sizeof(pages))
        pages = 0;
    close(answer[0]);
    if (pages >= POOL_PAGES)
        return NULL;
    pool_give_back();
    return "the system has too few huge pages";
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
