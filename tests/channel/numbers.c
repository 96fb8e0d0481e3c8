/* SPDX-License-Identifier: MIT */
/*
 * A program that puts files of its own at the very numbers where the facility hides descriptors,
 * while managers come and go, for whom those are opened and closed. Its files stay its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE     4096ul
#define MAKERS   2
#define MANAGERS 1000 /* that each of them makes, one after the other */
#define NUMBERS  8    /* from the first at which something is hidden */
#define YIELDS   3

static int uffd, file;
static char *memory;
static struct stat own;

static void make_managers(void)
{
    for (int i = 0; i < MANAGERS; i++) {
        pid_t child = fork();

        if (child == 0) {
            struct uffdio_range range = {(uintptr_t)memory, PAGE};

            _exit(ioctl(uffd, UFFDIO_WAKE, &range) != 0);
        }
        waitpid(child, NULL, 0);
    }
    _exit(0);
}

/* Return: whether the file was there, and the program's, until it was closed. */
static bool put(int number)
{
    struct stat st;

    if (dup2(file, number) != number) {
        printf("# dup2 to %d: %s\n", number, strerror(errno));
        return false;
    }
    for (int i = 0; i < YIELDS; i++)
        sched_yield();
    if (fstat(number, &st) || st.st_ino != own.st_ino) {
        printf("# %d is another file, or none\n", number);
        return false;
    }
    if (close(number)) {
        printf("# close of %d: %s\n", number, strerror(errno));
        return false;
    }
    return true;
}

int main(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    struct rlimit limit;
    int ends[2], first, left = MAKERS;
    bool well = true;

    memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    reg.range = (struct uffdio_range){(uintptr_t)memory, PAGE};
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg) ||
        pipe2(ends, O_CLOEXEC) || fstat(ends[0], &own) || getrlimit(RLIMIT_NOFILE, &limit))
        return 1;
    file = ends[0];
    first = (int)(limit.rlim_cur - limit.rlim_cur / 4); /* paging_keep_fd() */
    for (int i = 0; i < MAKERS; i++)
        if (fork() == 0)
            make_managers();
    while (left > 0 && well) {
        for (int i = 0; i < NUMBERS; i++)
            well &= put(first + i);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            left--;
    }
    while (waitpid(-1, NULL, 0) > 0) {
    }
    printf("1..1\n%s 1 - a program's files keep numbers that are hidden now and then\n",
           well ? "ok" : "not ok");
    return 0;
}
