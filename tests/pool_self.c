/* SPDX-License-Identifier: MIT */
/*
 * Of the pool of huge pages as much is given back as was taken, also when somebody lets go of pages
 * beyond it while its size is looked at.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"

#define ASKED_FOR "/proc/sys/vm/nr_hugepages" /* of the default size, without what is beyond it */
#define PAGES     32
#define ROUNDS    200

static size_t page;

static int skip(const char *why)
{
    printf("1..0 # SKIP %s\n", why);
    return 0;
}

/* While nobody counts on the pool: what others take goes back before they let go of its folder. */
static long asked_for(void)
{
    char folder[64];
    long pages = -1;

    snprintf(folder, sizeof(folder), "/sys/kernel/mm/hugepages/hugepages-%zukB", page / 1024);
    int lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FILE *file = flock(lock, LOCK_EX) == 0 ? fopen(ASKED_FOR, "re") : NULL;

    if (file && fscanf(file, "%ld", &pages) != 1)
        pages = -1;
    if (file)
        fclose(file);
    close(lock);
    return pages;
}

/* Has pages reserved, says so, and lets go of one after the other when it is told to. */
_Noreturn static void hold(int says, int told)
{
    char *held[PAGES], byte = 0;
    bool good = true;

    pool_forget();
    for (int i = 0; i < PAGES; i++) {
        held[i] = mmap(NULL, page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
        good &= held[i] != MAP_FAILED;
    }
    good = good && write(says, &byte, 1) == 1 && read(told, &byte, 1) == 1;
    for (int i = 0; i < PAGES && good; i++)
        munmap(held[i], page);
    _exit(good ? 0 : 1);
}

/* Pages are lost to the pool, and go while it is taken once more. Return: whether all could be had
 */
static bool round_of(void)
{
    int says[2], told[2], status = 1;
    char byte = 0;

    if (pool_take(page, PAGES, true) || pipe2(says, O_CLOEXEC) || pipe2(told, O_CLOEXEC))
        return false;
    pid_t pid = fork();
    if (pid == 0)
        hold(says[1], told[0]);
    close(says[1]);
    close(told[0]);
    bool held = read(says[0], &byte, 1) == 1;
    pool_give_back(); /* what is held stays, beyond the pool's size */
    held = held && write(told[1], &byte, 1) == 1;
    held = !pool_take(page, 1, true) && held;
    pool_give_back();
    close(says[0]);
    close(told[1]);
    waitpid(pid, &status, 0);
    return held && status == 0;
}

int main(void)
{
    int rounds = 0;

    page = pool_page_size();
    if (!page || access(ASKED_FOR, R_OK) != 0)
        return skip("no huge pages here");
    long before = asked_for();
    const char *why = pool_take(page, PAGES, true);
    if (why)
        return skip(why);
    pool_give_back();
    signal(SIGPIPE, SIG_IGN);
    while (rounds < ROUNDS && round_of() && asked_for() == before)
        rounds++;
    long after = asked_for();
    printf("%sok 1 - the pool is as large as before\n", after == before ? "" : "not ");
    if (after != before)
        printf("# %ld pages were %ld before, in round %d\n", after, before, rounds + 1);
    printf("%sok 2 - pages were beyond it in each round\n",
           rounds == ROUNDS || after != before ? "" : "not ");
    printf("1..2\n");
    return rounds == ROUNDS ? 0 : 1;
}
