/* SPDX-License-Identifier: MIT */
/* UFFDIO_MOVE: pages of private anonymous memory get another address. */
#include <sys/syscall.h>

#include "harness.h"

#define HOLES UF_MOVE_MODE_ALLOW_SRC_HOLES

/* Memory that is one with no other mapping. */
static char *map_apart(size_t pages)
{
    size_t len = pages * page_size;
    char *space = mmap(NULL, len + 2 * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(space != MAP_FAILED);
    CHECK_EQ(mprotect(space + page_size, len, PROT_READ | PROT_WRITE), 0);
    return space + page_size;
}

static char *map_filled(size_t pages, uint64_t seed)
{
    char *area = map_apart(pages);

    for (size_t i = 0; i < pages; i++)
        pattern_fill(area + i * page_size, seed + i);
    return area;
}

static char *map_registered(int uffd, size_t pages, uint64_t mode)
{
    char *area = map_apart(pages);

    CHECK_EQ(uffd_register_mode(uffd, area, pages * page_size, mode, NULL), 0);
    return area;
}

/* All of it, and the output says so. */
static void move_all(int uffd, char *dst, const char *src, size_t pages, uint64_t mode)
{
    int64_t moved;

    CHECK_EQ(uffd_move(uffd, dst, src, pages * page_size, mode, &moved), 0);
    CHECK_EQ(moved, pages * page_size);
}

/* The error, in both places. */
static void move_fails(int uffd, char *dst, const char *src, size_t pages, uint64_t mode, int error)
{
    int64_t moved;

    CHECK_EQ(uffd_move(uffd, dst, src, pages * page_size, mode, &moved), -error);
    CHECK_EQ(moved, -error);
}

/* The byte stays as it is. */
static void write_to(char *page)
{
    volatile char *byte = page;

    char same = *byte;

    *byte = same;
}

/* ---- what moves, and what is left */

static void from_plain(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *source = map_filled(3, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    move_all(uffd, mem.addr, source, 3, 0);
    for (size_t i = 0; i < 3; i++) {
        CHECK(pattern_holds(mem_page(&mem, i), 5 + i));
        check_native(source + i * page_size, 0);
    }
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 3));
    memset(mem.addr, 1, 3 * page_size);
    memset(source, 2, 3 * page_size);
    CHECK_EQ(mem.addr[0], 1);
}

static void to_plain_kind(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *area = map_registered(uffd, 2, UF_REGISTER_MODE_MISSING);

    pattern_fill(mem.addr, 3);
    move_all(uffd, area, mem.addr, 1, 0);
    CHECK(pattern_holds(area, 3));
    check_native(mem.addr, 0);
}

/* A registered source is missing afterwards; whose it is does not matter. */
static void from_registered(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0), other = uffd_open(0);
    char *area = map_registered(other, 4, UF_REGISTER_MODE_MISSING);
    char *source = source_new(4, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(other, area, source, 4 * page_size), 0);
    move_all(uffd, mem.addr, area, 2, 0);
    move_all(uffd, mem_page(&mem, 2), mem.addr, 1, 0);
    CHECK(pattern_holds(mem_page(&mem, 2), 5));
    CHECK(pattern_holds(mem_page(&mem, 1), 6));
    uffd_check_silent(uffd);
    check_traps(other, area);
    check_traps(other, area + page_size);
    check_traps(uffd, mem.addr);
    CHECK(pattern_holds(area + 2 * page_size, 7));
    /* and back */
    move_fails(other, area + 2 * page_size, mem_page(&mem, 2), 1, 0, EEXIST);
    CHECK_EQ(madvise(area, page_size, MADV_DONTNEED), 0);
    move_all(other, area, mem_page(&mem, 2), 1, 0);
    CHECK(pattern_holds(area, 5));
    check_traps(uffd, mem_page(&mem, 2));
}

static void answers_fault(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    char *source = map_filled(2, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, true);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    move_all(uffd, mem.addr, source, 1, 0);
    touch_join(&touch);
    check_native(source, 0);
    touch_start(&touch, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    move_all(uffd, mem_page(&mem, 1), source + page_size, 1, UF_MOVE_MODE_DONTWAKE);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_wake(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(touch_join(&touch), *(unsigned char *)mem_page(&mem, 1));
    uffd_check_silent(uffd);
}

/* A hole that is stepped over wakes who waits for it, and is no content. */
static void hole_wakes(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    char *source = map_filled(3, 5);

    CHECK_EQ(madvise(source + page_size, page_size, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    move_all(uffd, mem.addr, source, 3, HOLES);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(touch_join(&touch), 0);
    CHECK(pattern_holds(mem.addr, 5));
    CHECK(pattern_holds(mem_page(&mem, 2), 7));
}

static void partial(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    int uffd = uffd_open(0);
    char *source = map_filled(8, 5);
    int64_t moved;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(source + page_size, page_size, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_move(uffd, mem.addr, source, 3 * page_size, 0, &moved), -EAGAIN);
    CHECK_EQ(moved, page_size);
    move_fails(uffd, mem_page(&mem, 1), source + page_size, 2, 0, ENOENT);
    move_all(uffd, mem_page(&mem, 1), source + page_size, 2, HOLES);
    CHECK(pattern_holds(mem_page(&mem, 2), 7));
    check_traps(uffd, mem_page(&mem, 1));
    /* what is there at the destination ends it, too; before a hole is looked at */
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 5), page_size), 0);
    CHECK_EQ(uffd_move(uffd, mem_page(&mem, 3), source + 3 * page_size, 4 * page_size, 0, &moved),
             -EAGAIN);
    CHECK_EQ(moved, 2 * page_size);
    move_fails(uffd, mem_page(&mem, 5), source + 5 * page_size, 1, 0, EEXIST);
    move_fails(uffd, mem_page(&mem, 5), source, 1, 0, EEXIST);
    move_fails(uffd, mem_page(&mem, 5), source, 1, HOLES, EEXIST);
    CHECK(pattern_holds(source + 5 * page_size, 10));
    check_native(mem_page(&mem, 5), 0);
    move_fails(uffd, mem_page(&mem, 6), source, 1, 0, ENOENT);
    move_all(uffd, mem_page(&mem, 6), source, 1, HOLES);
    check_traps(uffd, mem_page(&mem, 6));
}

static void overlapping(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    int uffd = uffd_open(0);
    char *source = source_new(4, 5);
    int64_t moved;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 4 * page_size), 0);
    move_all(uffd, mem.addr, mem_page(&mem, 1), 4, 0);
    for (size_t i = 0; i < 4; i++)
        CHECK(pattern_holds(mem_page(&mem, i), 5 + i));
    move_fails(uffd, mem_page(&mem, 1), mem.addr, 4, 0, EEXIST);
    move_fails(uffd, mem.addr, mem.addr, 1, 0, EEXIST);
    move_fails(uffd, mem_page(&mem, 4), mem_page(&mem, 4), 1, 0, ENOENT);
    move_all(uffd, mem_page(&mem, 4), mem_page(&mem, 4), 1, HOLES);
    /* page by page: what has arrived is the next source */
    CHECK_EQ(uffd_move(uffd, mem_page(&mem, 4), mem_page(&mem, 3), 3 * page_size, 0, &moved), 0);
    CHECK_EQ(moved, 3 * page_size);
    CHECK(pattern_holds(mem_page(&mem, 6), 8));
    for (size_t i = 3; i < 6; i++)
        check_traps(uffd, mem_page(&mem, i));
}

/* ---- sources of all kinds */

static void zero_page(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *source = map_apart(4);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(source, 0);   /* a read, so it is the kernel's page of zeroes */
    source[2 * page_size] = 0; /* and one of its own, of zeroes, too */
    move_all(uffd, mem.addr, source, 1, 0);
    move_fails(uffd, mem_page(&mem, 1), source, 1, 0, ENOENT);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), page_size), 0);
    move_all(uffd, mem_page(&mem, 2), mem_page(&mem, 1), 1, 0);
    check_traps(uffd, mem_page(&mem, 1));
    move_all(uffd, mem_page(&mem, 3), source + 2 * page_size, 1, 0);
    for (size_t i = 0; i < 4; i++)
        check_native(mem_page(&mem, i), 0);
    memset(mem.addr, 3, mem.len);
    check_native(source, 0);
}

/* Protection does not move along; what is protected though nothing is there cannot move. */
static void protected_source(enum mem_kind kind)
{
    const uint64_t both = UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP;
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(UF_FEATURE_WP_UNPOPULATED);
    char *source = source_new(1, 5);

    for (int i = 0; i < 2; i++) {
        char *area = map_registered(uffd, 3, i ? both : UF_REGISTER_MODE_WP);

        CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, both, NULL), 0);
        if (i)
            CHECK_EQ(uffd_copy(uffd, area, source, page_size), 0);
        else
            pattern_fill(area, 5);
        CHECK_EQ(uffd_writeprotect(uffd, area, 3 * page_size, UF_WRITEPROTECT_MODE_WP), 0);
        move_fails(uffd, mem_page(&mem, 1), area + page_size, 1, 0, EFAULT);
        move_fails(uffd, mem_page(&mem, 1), area + page_size, 1, HOLES, EFAULT);
        move_fails(uffd, area + page_size, mem.addr, 1, HOLES, EEXIST);
        move_all(uffd, mem.addr, area, 1, 0);
        CHECK(pattern_holds(mem.addr, 5));
        write_to(&mem.addr[0]);
        move_all(uffd, area, mem.addr, 1, 0);
        write_to(&area[0]);
        uffd_check_silent(uffd);
        CHECK(pattern_holds(area, 5));
    }
}

static void poisoned(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *source = map_filled(2, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, NULL), 0);
    move_fails(uffd, mem_page(&mem, 1), mem.addr, 1, 0, EFAULT);
    move_fails(uffd, mem_page(&mem, 1), mem.addr, 1, HOLES, EFAULT);
    move_fails(uffd, mem.addr, source, 1, 0, EEXIST);
    CHECK_EQ(touch_caught(mem.addr, false, NULL), SIGBUS);
    CHECK(pattern_holds(source, 5));
}

/* Poison that is left in memory which is not registered any more. */
static void poison_left(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *source = map_apart(4);
    int64_t moved;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, source, 4 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, source, source_new(2, 5), 2 * page_size), 0);
    CHECK_EQ(uffd_poison(uffd, source + 2 * page_size, page_size, 0, NULL), 0);
    CHECK_EQ(uffd_unregister(uffd, source, 4 * page_size), 0);
    pattern_fill(source + 3 * page_size, 8);
    CHECK_EQ(uffd_move(uffd, mem.addr, source, 4 * page_size, HOLES, &moved), -EAGAIN);
    CHECK_EQ(moved, 2 * page_size);
    move_fails(uffd, mem_page(&mem, 2), source + 2 * page_size, 2, HOLES, EFAULT);
    move_fails(uffd, mem_page(&mem, 2), source + 2 * page_size, 3, HOLES, EINVAL);
    move_all(uffd, mem_page(&mem, 3), source + 3 * page_size, 1, 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 6));
    CHECK(pattern_holds(mem_page(&mem, 3), 8));
    check_traps(uffd, mem_page(&mem, 2));
}

static void guarded(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);
    char *source = map_filled(2, 5);

    if (madvise(source, page_size, 102 /* MADV_GUARD_INSTALL */))
        case_skip("MADV_GUARD_INSTALL: %s", strerror(errno));
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    move_fails(uffd, mem.addr, source, 1, HOLES, EFAULT);
}

/* Destinations need not be registered for missing pages. */
static void only_protected(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *source = map_filled(4, 5);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_WP, NULL), 0);
    move_all(uffd, mem.addr, source, 2, 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 6));
    check_native(mem_page(&mem, 2), 0);
    move_fails(uffd, mem_page(&mem, 2), source + 2 * page_size, 1, 0, EEXIST);
    move_all(uffd, mem_page(&mem, 3), mem_page(&mem, 1), 1, 0);
    CHECK(pattern_holds(mem_page(&mem, 3), 6));
    check_native(mem_page(&mem, 1), 0);
    mem.addr[page_size] = 1;
    uffd_check_silent(uffd);
}

static int in_child(void *arg)
{
    char byte;

    return read(*(int *)arg, &byte, 1) == 0 ? 0 : 1;
}

/* Pages that a child has too cannot move, until they are written to. */
static void forked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0), pipes[2];
    char *source = map_filled(3, 5), *area = map_registered(uffd, 2, UF_REGISTER_MODE_MISSING);
    pid_t pid;

    CHECK_EQ(uffd_copy(uffd, area, source, 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pipe(pipes), 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(pipes[1]);
        _exit(in_child(pipes));
    }
    move_fails(uffd, mem.addr, source, 1, 0, EBUSY);
    move_fails(uffd, mem.addr, area, 1, HOLES, EBUSY);
    write_to(&source[0]);
    write_to(&area[page_size]);
    move_all(uffd, mem.addr, source, 1, 0);
    move_fails(uffd, mem_page(&mem, 1), source + page_size, 1, 0, EBUSY);
    move_all(uffd, mem_page(&mem, 1), area + page_size, 1, 0);
    CHECK(pattern_holds(mem.addr, 5));
    CHECK(pattern_holds(mem_page(&mem, 1), 6));
    close(pipes[1]);
    CHECK_EXITED(child_wait(pid), 0);
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void forked_once(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);
    char *source = map_filled(1, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EXITED(child_status(nothing, NULL), 0);
    move_fails(uffd, mem.addr, source, 1, 0, EBUSY);
}

static void locked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *source = map_filled(2, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mlock(source, 2 * page_size), 0);
    move_fails(uffd, mem.addr, source, 1, 0, EINVAL);
    CHECK(pattern_holds(source, 5));
    CHECK_EQ(syscall(SYS_mlock2, mem.addr, mem.len, 1 /* MLOCK_ONFAULT */), 0);
    move_all(uffd, mem.addr, source, 1, 0);
    CHECK(pattern_holds(mem.addr, 5));
    check_native(source, 0);
    /* both still are */
    CHECK_ERRNO(madvise(source, page_size, MADV_DONTNEED), EINVAL);
    CHECK_ERRNO(madvise(mem.addr, page_size, MADV_DONTNEED), EINVAL);
    CHECK_EQ(munlock(source, 2 * page_size), 0);
    move_fails(uffd, mem_page(&mem, 1), source + page_size, 1, 0, EINVAL);
    move_all(uffd, mem_page(&mem, 1), mem.addr, 1, 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 5));
    check_traps(uffd, mem.addr);
}

/* ---- errors */

static void bad_arguments(enum mem_kind kind)
{
    const uintptr_t beyond = (uintptr_t)0xffff << 48;
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *source = map_filled(2, 5);
    const struct {
        uintptr_t dst, src;
        size_t len;
        uint64_t mode;
    } bad[] = {
        {(uintptr_t)mem.addr + 1, (uintptr_t)source, page_size, 0},
        {(uintptr_t)mem.addr, (uintptr_t)source + 1, page_size, 0},
        {(uintptr_t)mem.addr, (uintptr_t)source, page_size + 1, 0},
        {(uintptr_t)mem.addr, (uintptr_t)source, 0, 0},
        {(uintptr_t)mem.addr, (uintptr_t)source, 0 - page_size, 0},
        {(uintptr_t)mem.addr, (uintptr_t)source, page_size, 4},
        {(uintptr_t)mem.addr, (uintptr_t)source, page_size, (uint64_t)1 << 63},
        {beyond, (uintptr_t)source, page_size, 0},
        {(uintptr_t)mem.addr, beyond, page_size, 0},
    };
    int64_t moved;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(uffd_move(uffd, (void *)bad[i].dst, (void *)bad[i].src, bad[i].len, bad[i].mode,
                           &moved),
                 -EINVAL);
        CHECK_EQ(moved, OUT_UNTOUCHED);
    }
    CHECK_ERRNO(ioctl(uffd, UF_IO_MOVE, NULL), EFAULT);
    CHECK(pattern_holds(source, 5));
}

/* What the two mappings have to be. */
static void bad_mappings(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0), other = uffd_open(0);
    char *source = map_filled(4, 5), *shared, *gone = map_apart(1);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    shared = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    CHECK_EQ(munmap(gone, page_size), 0);
    shared[0] = 1;
    move_fails(uffd, mem.addr, shared, 1, 0, EINVAL);
    move_fails(uffd, mem.addr, gone, 1, 0, ENOENT);
    move_fails(uffd, gone, source, 1, 0, ENOENT);
    move_fails(uffd, source, gone, 1, 0, ENOENT);
    move_fails(uffd, source, source + page_size, 1, 0, EINVAL);
    move_fails(other, mem.addr, source, 1, 0, EINVAL);
    move_fails(uffd, mem_page(&mem, 3), source, 2, 0, EINVAL);
    move_fails(uffd, mem.addr, source + 3 * page_size, 2, 0, EINVAL);
    CHECK_EQ(mprotect(source, page_size, PROT_READ), 0);
    move_fails(uffd, mem.addr, source, 1, 0, EINVAL);
    move_fails(uffd, mem.addr, source, 2, 0, EINVAL);
    CHECK_EQ(mprotect(mem.addr, page_size, PROT_READ), 0);
    move_fails(uffd, mem.addr, source, 1, 0, EINVAL);
    move_fails(uffd, mem.addr, source + page_size, 1, 0, EINVAL);
    CHECK_EQ(mprotect(source, page_size, PROT_NONE), 0);
    move_fails(uffd, mem_page(&mem, 1), source, 1, HOLES, EINVAL);
    move_all(uffd, mem_page(&mem, 1), source + page_size, 1, 0);
    /* registered, and then plain memory, are two */
    CHECK_EQ(uffd_register(uffd, source + 2 * page_size, page_size), 0);
    move_fails(uffd, mem_page(&mem, 2), source + page_size, 2, HOLES, EINVAL);
    move_fails(uffd, mem_page(&mem, 2), source + 2 * page_size, 2, HOLES, EINVAL);
    move_all(uffd, mem_page(&mem, 2), source + 2 * page_size, 1, 0);
    CHECK(pattern_holds(mem_page(&mem, 2), 7));
}

static void bad_kinds(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2), plain = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *source = map_filled(1, 5), *area = map_registered(uffd, 1, UF_REGISTER_MODE_MISSING);
    uint64_t ioctls;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_MISSING, &ioctls), 0);
    CHECK(ioctls & (uint64_t)1 << UF_NR_MOVE); /* announced all the same */
    plain.addr[0] = 1;
    move_fails(uffd, mem.addr, source, 1, 0, EINVAL);
    move_fails(uffd, mem.addr, plain.addr, 1, 0, EINVAL);
    move_fails(uffd, area, plain.addr, 1, 0, EINVAL);
}

/* Private /dev/zero is anonymous memory here, though COPY into it fails. */
static void dev_zero(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2), from = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *source = map_filled(1, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    from.addr[0] = 3;
    move_all(uffd, mem.addr, from.addr, 1, 0);
    check_native(from.addr, 0);
    check_native(mem.addr, 3);
    move_all(uffd, mem_page(&mem, 1), source, 1, 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 5));
}

/* The result cannot be told, but what was done is. */
static void result_untold(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);
    char *source = map_filled(1, 5);
    struct uf_io_move *arg = (struct uf_io_move *)map_apart(1);

    *arg =
        (struct uf_io_move){.dst = (uintptr_t)mem.addr, .src = (uintptr_t)source, .len = page_size};
    CHECK_EQ(mprotect(arg, page_size, PROT_READ), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(ioctl(uffd, UF_IO_MOVE, arg), EFAULT);
    CHECK(pattern_holds(mem.addr, 5));
    check_native(source, 0);
}

#define CASE .features = UF_FEATURE_MOVE
#define MAN  "UFFDIO_MOVE (Linux 6.8)"
#define A    KIND(MEM_ANON)

const struct conf_case move_cases[] = {
    {"move/plain", MAN, ANON_PRIVATE, CASE, .run = from_plain},
    {"move/from-kind", MAN, ANON_PRIVATE, CASE, .run = to_plain_kind},
    {"move/registered", MAN, ANON_PRIVATE, CASE, .run = from_registered},
    {"move/answers-fault", MAN, A, CASE, .run = answers_fault},
    {"move/hole-wakes", MAN, A, CASE, .run = hole_wakes},
    {"move/partial", MAN, A, CASE, .run = partial},
    {"move/overlap", MAN, A, CASE, .run = overlapping},
    {"move/zero-page", MAN, A, CASE, .run = zero_page},
    {"move/protected", MAN, A, .features = UF_FEATURE_MOVE | UF_FEATURE_WP_UNPOPULATED,
     .run = protected_source},
    {"move/poison", MAN, A, .features = UF_FEATURE_MOVE | UF_FEATURE_POISON, .run = poisoned},
    {"move/poison-left", MAN, A, .features = UF_FEATURE_MOVE | UF_FEATURE_POISON,
     .run = poison_left},
    {"move/guard", MAN, A, CASE, .run = guarded},
    {"move/only-protected", MAN, A, CASE, .run = only_protected},
    {"move/forked", MAN, A, CASE, .run = forked},
    {"move/forked-once", MAN, A, CASE,
     .differs = "whether a page was written to since a fork is not to be seen", .run = forked_once},
    {"move/locked", MAN, A, CASE, .run = locked},
    {"move/bad-arguments", MAN, A, CASE, .run = bad_arguments},
    {"move/bad-mappings", MAN, A, CASE, .run = bad_mappings},
    {"move/bad-kinds", MAN, FILE_PRIVATE | SHARED, CASE, .run = bad_kinds},
    {"move/dev-zero", MAN, KIND(MEM_ZERO_PRIVATE), CASE, .run = dev_zero},
    {"move/result-untold", MAN, A, CASE, .run = result_untold},
    {.id = NULL},
};
