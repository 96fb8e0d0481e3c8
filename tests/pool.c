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

#define POOLS "/sys/kernel/mm/hugepages" /* one for each size */
#define POOL  "nr_hugepages"
#define EDIT  "/sys/kernel/mm" /* locked while the size of a pool is changed */
/* Who shares a pool takes out a page more for a moment, a thread: our facility where it asks
 * whether a file has a page. Others must not find the pool empty then. */
#define SPARE 4

static int keeper = -1; /* writing end of its pipe */
static pid_t keeper_pid;
/* The pool's folder, which who counts on the pool locks: one alone, or several that share. */
static char place[64];

static FILE *number_open(const char *name, const char *mode)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", place, name);
    return fopen(path, mode);
}

static long read_number(const char *name)
{
    FILE *file = number_open(name, "re");
    long value = -1;

    if (file && fscanf(file, "%ld", &value) != 1)
        value = -1;
    if (file)
        fclose(file);
    return value;
}

static bool write_number(const char *name, long value)
{
    FILE *file = number_open(name, "we");
    bool written = file && fprintf(file, "%ld\n", value) > 0;

    return file && fclose(file) == 0 && written;
}

size_t pool_page_size(void)
{
    const char name[] = "Hugepagesize:";
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    long kib = 0;

    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, name, sizeof(name) - 1) == 0)
            kib = strtol(line + sizeof(name) - 1, NULL, 10);
    if (file)
        fclose(file);
    return (size_t)kib * 1024;
}

/*
 * The number that a write sets: a read tells the surplus pages too, those that are in use beyond it
 * and go when they are let go; if one goes between the two reads, again.
 */
static long asked_for(void)
{
    long all, surplus;

    do {
        all = read_number(POOL);
        surplus = read_number("surplus_hugepages");
    } while (read_number(POOL) != all);
    return all - surplus;
}

/*
 * Surplus pages are counted first as those that were asked for, and are none that a case could use:
 * kernels lose reservations, for one when a part of a private mapping is moved, and their pages are
 * surplus from then on. Whoever came before has counted them, and takes them away when it goes: so
 * what is reserved is counted again. Return: by how much more is asked for now
 */
static long grow(long pages)
{
    long before = asked_for(), surplus = read_number("surplus_hugepages");
    long reserved = read_number("resv_hugepages");

    write_number(POOL, before + surplus + (surplus > reserved ? surplus : reserved) + pages);
    return asked_for() - before;
}

static bool may_edit(void)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/" POOL, place);
    return access(path, W_OK) == 0;
}

static long usable(void)
{
    return read_number("free_hugepages") - read_number("resv_hugepages");
}

/* What others take and give meanwhile stays: only as much as was added is taken away. */
static void shrink(long added)
{
    write_number(POOL, asked_for() - added);
}

/* Answers how many there are to be used, and lives until the other end of `until` is closed. */
_Noreturn static void keep(long wanted, bool alone, int answer, int until)
{
    char end;
    int lock = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int edit = open(EDIT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long added, pages;

    setsid(); /* not for the terminal to end */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (flock(lock, alone ? LOCK_EX : LOCK_SH) != 0 || flock(edit, LOCK_EX) != 0)
        _exit(1);
    added =
        may_edit() ? grow(wanted + (alone ? 0 : SPARE)) : 0; /* else there may be pages that stay */
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

const char *pool_take(size_t page, long wanted, bool alone)
{
    int answer[2], until[2];
    long pages = 0;

    snprintf(place, sizeof(place), POOLS "/hugepages-%zukB", page / 1024);
    if (access(place, F_OK) != 0)
        return "the kernel has no huge pages of this size";
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
