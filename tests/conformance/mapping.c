/* SPDX-License-Identifier: MIT */
/* munmap, mmap over, mprotect, brk: the registration goes, splits or stays. */
#include "harness.h"

#define RW (PROT_READ | PROT_WRITE)

static void unmap_middle(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(2, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 2 * page_size), 0);
    CHECK_EQ(munmap(mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 2), false, NULL), SIGSEGV);
    CHECK_EQ(touch_caught(mem_page(&mem, 3), true, NULL), SIGSEGV);
    uffd_check_silent(uffd);
    CHECK(pattern_holds(mem_page(&mem, 1), 1));
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 4));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), -ENOENT);
}

static void unmap_all_reuse(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(munmap(mem.addr, mem.len), 0);
    char *again =
        mmap(mem.addr, mem.len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(again == mem.addr);
    check_native(again, 0); /* new memory in the old place is not registered */
    *mem_page(&mem, 1) = 1;
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_register(uffd, again, mem.len), 0);
    check_traps(uffd, mem_page(&mem, 3));
}

static void *caught_main(void *arg)
{
    siginfo_t info;
    int sig = touch_caught(arg, false, &info);

    return sig == SIGSEGV && info.si_code == SEGV_MAPERR && info.si_addr == arg ? arg : NULL;
}

/* A waiter of a page that goes sleeps on until it is woken, and finds nothing there. */
static void unmap_under_waiter(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    pthread_t thread;
    void *result;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, caught_main, mem_page(&mem, 1)), 0);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    CHECK_EQ(munmap(mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_wake(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == mem_page(&mem, 1));
}

static void map_over(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK(mmap(mem_page(&mem, 2), 2 * page_size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == mem_page(&mem, 2));
    check_native(mem_page(&mem, 2), 0);
    *mem_page(&mem, 3) = 9;
    check_native(mem_page(&mem, 3), 9);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 1));
    check_traps(uffd, mem_page(&mem, 4));
    CHECK_EQ(mmap(mem_page(&mem, 4), 2 * page_size, RW,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED,
             1); /* a hidden range is mapped, whatever it is made of */
    CHECK_EQ(errno, EEXIST);
    check_traps(uffd, mem_page(&mem, 5));
}

static void map_over_waiter(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK(mmap(mem.addr, page_size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
          mem.addr);
    *mem.addr = 0x19;
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    CHECK_EQ(touch_join(&touch), 0x19);
}

/* ------------------------------------------------------------------ mprotect */

static void protect_read_only(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 2);
    int uffd = uffd_open(0);
    siginfo_t info;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 0) + 5, true, &info), SIGSEGV); /* missing: no message */
    CHECK_EQ(info.si_code, SEGV_ACCERR);
    CHECK_EQ((uintptr_t)info.si_addr, (uintptr_t)mem_page(&mem, 0) + 5);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), true, &info), SIGSEGV); /* present */
    CHECK_EQ(info.si_code, SEGV_ACCERR);
    uffd_check_silent(uffd);
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
    check_traps(uffd, mem_page(&mem, 2)); /* reads are trapped as before */
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 3), 2));
    CHECK_EQ(touch_caught(mem_page(&mem, 3), true, NULL), SIGSEGV);
    CHECK_EQ(mprotect(mem.addr, mem.len, RW), 0);
    *mem_page(&mem, 3) = 8;
    check_native(mem_page(&mem, 3), 8);
    *mem_page(&mem, 2) = 8;
    check_traps(uffd, mem_page(&mem, 0));
    check_native(mem_page(&mem, 2), 8);
}

static void protect_none(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 2);
    int uffd = uffd_open(0);
    siginfo_t info;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_NONE), 0);
    for (size_t n = 0; n < 2; n++) {
        CHECK_EQ(touch_caught(mem_page(&mem, n), false, &info), SIGSEGV);
        CHECK_EQ(info.si_code, SEGV_ACCERR);
        CHECK_EQ(touch_caught(mem_page(&mem, n), true, &info), SIGSEGV);
    }
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source + page_size, page_size), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 2), false, NULL), SIGSEGV);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), -EEXIST);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
    CHECK(pattern_holds(mem_page(&mem, 2), 3));
    check_traps(uffd, mem_page(&mem, 0));
    CHECK_EQ(mprotect(mem.addr, mem.len, RW), 0);
    check_traps(uffd, mem_page(&mem, 3));
}

static void protect_present_pages(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);

    memset(mem.addr, 6, mem.len);
    CHECK_EQ(mprotect(mem_page(&mem, 1), page_size, PROT_READ), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 1), 6);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), true, NULL), SIGSEGV);
    *mem_page(&mem, 2) = 7;
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), true, NULL), SIGSEGV); /* the program's own stays */
    CHECK_EQ(mprotect(mem_page(&mem, 1), page_size, RW), 0);
    *mem_page(&mem, 1) = 7;
}

/* What the program had asked for is in force again when the facility lets go. */
static void protect_survives_close(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 0), page_size, PROT_READ), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 1), page_size, PROT_NONE), 0);
    CHECK_EQ(close(uffd), 0);
    check_native(mem_page(&mem, 0), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 0), true, NULL), SIGSEGV);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), false, NULL), SIGSEGV);
    *mem_page(&mem, 2) = 1;
}

static void protect_bad(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(munmap(mem_page(&mem, 2), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_ERRNO(mprotect(mem.addr + 1, page_size, RW), EINVAL);
    CHECK_ERRNO(mprotect(mem.addr, page_size, 0x1000), EINVAL);
    CHECK_ERRNO(mprotect(mem_page(&mem, 2), page_size, RW), ENOMEM);
    CHECK_EQ(mprotect(mem.addr, 0, PROT_NONE), 0);
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 1));
}

/* ------------------------------------------------------------------ brk */

static void heap_shrinks(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_BRK, 8);
    int uffd = uffd_open(0);

    if (sbrk(0) != mem.addr + mem.len)
        case_skip("another part of the program grew the heap");
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem_page(&mem, 7));
    CHECK(sbrk(-(intptr_t)(4 * page_size)) != (void *)-1);
    check_traps(uffd, mem_page(&mem, 3));
    CHECK(sbrk((intptr_t)(4 * page_size)) == mem_page(&mem, 4));
    check_native(mem_page(&mem, 4), 0); /* grown anew, not registered */
    check_native(mem_page(&mem, 7), 0);
    check_traps(uffd, mem_page(&mem, 2));
}

#define RST_UNMAP "rst: Non-cooperative userfaultfd, unmapping"
#define MAN_PROT  "mprotect(2)"

const struct conf_case mapping_cases[] = {
    {"munmap/middle", RST_UNMAP, EVERY_KIND | HUGETLB, .run = unmap_middle},
    {"munmap/and-map-again", RST_UNMAP, ONE_OF_EACH | HUGETLB_OF_EACH, .run = unmap_all_reuse},
    {"munmap/under-a-waiter", RST_UNMAP, ONE_OF_EACH | HUGETLB_OF_EACH, .run = unmap_under_waiter},
    {"mmap/over", RST_UNMAP, ONE_OF_EACH | HUGETLB_OF_EACH, .run = map_over},
    {"mmap/over-a-waiter", RST_UNMAP, .run = map_over_waiter},
    {"mprotect/read-only", MAN_PROT, EVERY_KIND | HUGETLB, .run = protect_read_only},
    {"mprotect/none", MAN_PROT, EVERY_KIND | HUGETLB, .run = protect_none},
    {"mprotect/present-pages", MAN_PROT, EVERY_KIND | HUGETLB, .run = protect_present_pages},
    {"mprotect/survives-close", MAN_PROT, EVERY_KIND | HUGETLB, .run = protect_survives_close},
    {"mprotect/bad-input", MAN_PROT, .run = protect_bad},
    {"brk/shrink-and-grow", RST_UNMAP, .run = heap_shrinks},
    {.id = NULL},
};
