/* SPDX-License-Identifier: MIT */
/* /proc/self/fdinfo/N of a context. */
#include <sched.h>

#include "harness.h"

#define INITIALIZED 0x80000000u /* beside the features, once UFFDIO_API was */

struct info {
    char text[512];
    unsigned long pending, total;
    unsigned long long pos, flags, api, ioctls;
    unsigned features;
    int fields;
};

static struct info parse(const char *text)
{
    struct info info = {.fields = 0};
    unsigned mnt_id;
    unsigned long long inode;

    snprintf(info.text, sizeof(info.text), "%s", text);
    info.fields = sscanf(text,
                         "pos:\t%llu\nflags:\t0%llo\nmnt_id:\t%u\nino:\t%llu\n"
                         "pending:\t%lu\ntotal:\t%lu\nAPI:\t%llx:%x:%llx\n",
                         &info.pos, &info.flags, &mnt_id, &inode, &info.pending, &info.total,
                         &info.api, &info.features, &info.ioctls);
    return info;
}

static struct info read_and_close(int fd)
{
    char text[512];
    ssize_t n;

    CHECK(fd >= 0);
    n = read(fd, text, sizeof(text) - 1);
    CHECK(n > 0);
    text[n] = '\0';
    CHECK_EQ(read(fd, text + n, 1), 0); /* that was all */
    close(fd);
    return parse(text);
}

static struct info info_of(int fd)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    return read_and_close(open(path, O_RDONLY | O_CLOEXEC));
}

static void text(enum mem_kind kind)
{
    const uint64_t some = 1ull << UF_NR_API | 1ull << UF_NR_REGISTER | 1ull << UF_NR_COPY |
                          1ull << UF_NR_WRITEPROTECT;
    int uffd = uffd_open_bare(O_CLOEXEC | O_NONBLOCK);
    struct info info = info_of(uffd);

    CHECK_EQ(info.fields, 9);
    CHECK_EQ(info.pos, 0);
    CHECK_EQ(info.flags, O_NONBLOCK | O_CLOEXEC);
    CHECK_EQ(info.pending, 0);
    CHECK_EQ(info.total, 0);
    CHECK_EQ(info.api, UF_API);
    CHECK_EQ(info.features, 0);
    CHECK_EQ(info.ioctls & some, some);
    if (conf_env.features & UF_FEATURE_MOVE)
        CHECK(info.ioctls & 1ull << UF_NR_MOVE);
    CHECK_EQ(uffd_api(uffd, UF_FEATURE_THREAD_ID), 0);
    CHECK_EQ(info_of(uffd).features, INITIALIZED | UF_FEATURE_THREAD_ID);
    CHECK_EQ(fcntl(uffd, F_SETFL, 0), 0);
    CHECK_EQ(info_of(uffd).flags, O_CLOEXEC);
}

static void counts(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    struct touch touch[3] = {{0}};
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch[0], mem_page(&mem, 0), false);
    uffd_next_fault(uffd, mem_page(&mem, 0), 0);
    CHECK_EQ(info_of(uffd).pending, 0);
    CHECK_EQ(info_of(uffd).total, 1);
    touch_start(&touch[1], mem_page(&mem, 1), false);
    uffd_await(uffd);
    CHECK_EQ(info_of(uffd).pending, 1);
    CHECK_EQ(info_of(uffd).total, 2);
    touch_start(&touch[2], mem_page(&mem, 2), true);
    while (info_of(uffd).pending != 2) /* the watchdog ends it */
        sched_yield();
    CHECK_EQ(info_of(uffd).total, 3);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < 3; i++)
        touch_join(&touch[i]);
    CHECK_EQ(info_of(uffd).pending, 0);
    CHECK_EQ(info_of(uffd).total, 0);
}

/* By other names, and through stdio. */
static void names(enum mem_kind kind)
{
    int uffd = uffd_open(0), other = dup(uffd), folder;
    char path[64], line[128];
    struct info info;
    FILE *file;
    int lines = 0;

    folder = open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof(path), "%d", other);
    info = read_and_close(openat(folder, path, O_RDONLY));
    CHECK_EQ(info.fields, 9);
    CHECK_EQ(fchdir(folder), 0);
    info = read_and_close(open(path, O_RDONLY));
    CHECK_EQ(info.fields, 9);
    close(folder);
    snprintf(path, sizeof(path), "/proc/self/task/%d/fdinfo/%d", gettid(), other);
    info = read_and_close(open(path, O_RDONLY));
    CHECK_EQ(info.fields, 9);
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", getpid(), uffd);
    info = read_and_close(open(path, O_RDONLY));
    CHECK_EQ(info.fields, 9);
    snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%d", other);
    file = fopen(path, "re");
    CHECK(file);
    while (fgets(line, sizeof(line), file))
        lines += !strncmp(line, "pending:", 8) || !strncmp(line, "API:", 4);
    CHECK_EQ(lines, 2);
    CHECK_EQ(fclose(file), 0);
}

/* What is no context, and who does not read. */
static void others(enum mem_kind kind)
{
    int uffd = uffd_open(0), pipes[2];
    char path[64];
    struct info info;

    CHECK_EQ(pipe(pipes), 0);
    info = info_of(pipes[0]);
    CHECK_EQ(info.fields, strstr(info.text, "ino:") ? 4 : 3); /* Linux 5.14 has that */
    CHECK(!strstr(info.text, "API:"));
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
    CHECK_EQ(access(path, R_OK), 0);
    CHECK_EQ(close(uffd), 0);
    CHECK_ERRNO(open(path, O_RDONLY), ENOENT);
    FILE *file = fopen(path, "r");
    CHECK(!file);
    int fd = open("/proc/self/fdinfo/x", O_RDONLY);
    CHECK_EQ(fd, -1);
}

#define SOURCE "proc(5): /proc/pid/fdinfo"

const struct conf_case fdinfo_cases[] = {
    {"fdinfo/text", SOURCE, .run = text},
    {"fdinfo/counts", SOURCE, ONE_OF_EACH, .run = counts},
    {"fdinfo/names", SOURCE, .run = names},
    {"fdinfo/others", SOURCE, .run = others},
    {.id = NULL},
};
