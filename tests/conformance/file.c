/* SPDX-License-Identifier: MIT */
/* The file behind a mapping: holes punched, truncation, writes and other mappings of it. */
#include <setjmp.h>

#include "harness.h"

static void punch(const struct mem *mem, size_t page, size_t pages)
{
    CHECK_EQ(fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       (off_t)(page * page_size), (off_t)(pages * page_size)),
             0);
}

static void punch_shared(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 5);
    char *source = source_new(5, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    punch(&mem, 1, 2);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 2), 1));
    CHECK(pattern_holds(mem_page(&mem, 3), 4));
}

/* Pages that a private mapping has copied are its own, the others follow the file. */
static void punch_private(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(pwrite(mem.fd, source, 2 * page_size, 0), 2 * page_size);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK(pattern_holds(mem_page(&mem, 0), 1)); /* mapped from the file */
    mem_page(&mem, 1)[0] = 5;                   /* copied on write */
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    punch(&mem, 0, 4);
    check_traps(uffd, mem_page(&mem, 0));
    check_native(mem_page(&mem, 1), 5);
    CHECK(pattern_holds(mem_page(&mem, 2), 1));
    check_traps(uffd, mem_page(&mem, 3));
}

static void *caught_main(void *arg)
{
    return (void *)(intptr_t)touch_caught(arg, false, NULL);
}

static void truncate_shrinks(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(6, 1);
    int uffd = uffd_open(0);
    siginfo_t info;
    int64_t out;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 5 * page_size), 0);
    CHECK_EQ(ftruncate(mem.fd, (off_t)(3 * page_size)), 0);
    for (size_t n = 3; n < 6; n++) { /* present before or not: beyond the end */
        CHECK_EQ(touch_caught(mem_page(&mem, n) + 9, false, &info), SIGBUS);
        CHECK_EQ(info.si_code, BUS_ADRERR);
        CHECK_EQ((uintptr_t)info.si_addr, (uintptr_t)mem_page(&mem, n) + 9);
    }
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 4), source, page_size, 0, &out), -EFAULT);
    CHECK_EQ(out, -EFAULT);
    CHECK_EQ(uffd_zero_mode(uffd, mem_page(&mem, 4), page_size, 0, &out), -EFAULT);
    CHECK_EQ(out, -EFAULT);
    CHECK(pattern_holds(mem_page(&mem, 2), 3));
    CHECK_EQ(ftruncate(mem.fd, (off_t)mem.len), 0);
    check_traps(uffd, mem_page(&mem, 3)); /* what was cut off is missing now */
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 4), source, page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 4), 1));
    check_traps(uffd, mem_page(&mem, 5));
}

static void truncate_copy_stops_at_end(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);
    int64_t out;

    CHECK_EQ(ftruncate(mem.fd, (off_t)(2 * page_size)), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, source, mem.len, 0, &out), -EAGAIN);
    CHECK_EQ(out, 2 * page_size);
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
}

static void truncate_under_waiter(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    pthread_t thread;
    void *sig;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, caught_main, mem_page(&mem, 1)), 0);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    CHECK_EQ(ftruncate(mem.fd, (off_t)page_size), 0);
    CHECK_EQ(uffd_wake(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(pthread_join(thread, &sig), 0);
    CHECK_EQ((intptr_t)sig, SIGBUS);
}

/* A partial last page is a page. */
static void truncate_odd_size(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(ftruncate(mem.fd, (off_t)(page_size + 100)), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(touch_caught(mem_page(&mem, 2), false, NULL), SIGBUS);
    check_traps(uffd, mem_page(&mem, 0));
}

/* The file may be filled behind the mapping: then nothing is missing. */
static void filled_by_write(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 5);
    char *source = source_new(1, 9);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pwrite(mem.fd, source, page_size, (off_t)page_size), page_size);
    CHECK(pattern_holds(mem_page(&mem, 1), 9));
    char *alias = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
    CHECK(alias != MAP_FAILED);
    alias[3 * page_size] = 4;
    check_native(mem_page(&mem, 3), 4);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 4));
    if (KIND(kind) & ANY_SHARED)
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), -EEXIST);
}

/* Allocated is there, too: of such a page, only cachestat(2) tells. */
static void filled_by_allocation(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(1, 9);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(fallocate(mem.fd, 0, (off_t)page_size, (off_t)page_size), 0);
    check_native(mem_page(&mem, 1), 0);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 2));
    if (KIND(kind) & ANY_SHARED)
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), -EEXIST);
}

static void filled_while_waiting(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(1, 9);
    int uffd = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(pwrite(mem.fd, source, page_size, 0), page_size);
    CHECK(!touch_is_done(&touch)); /* nobody tells the waiter */
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)source[0]);
    uffd_check_silent(uffd);
}

/* Reading the file puts no page there. */
static void reading_fills_nothing(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char buffer[100];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    memset(buffer, 1, sizeof(buffer));
    CHECK_EQ(pread(mem.fd, buffer, sizeof(buffer), 0), sizeof(buffer));
    CHECK_EQ(buffer[50], 0);
    check_traps(uffd, mem.addr);
}

/* What COPY puts into a shared mapping is the file's, into a private one is not. */
static void copy_and_the_file(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(1, 9), *read_back = source_new(1, 0);
    int uffd = uffd_open(0);
    bool shared = KIND(kind) & ANY_SHARED;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(pread(mem.fd, read_back, page_size, 0), page_size);
    if (shared)
        CHECK(pattern_holds(read_back, 9));
    else
        CHECK_EQ(read_back[8], 0);
    mem.addr[8] = 0x44;
    CHECK_EQ(pread(mem.fd, read_back, page_size, 0), page_size);
    CHECK_EQ(read_back[8], shared ? 0x44 : 0);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(lseek(mem.fd, 0, SEEK_DATA) == 0, shared);
}

/* The whole range maps the file elsewhere than from its start. */
static void mapped_at_offset(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(1, 2);
    int uffd = uffd_open(0);
    int flags = KIND(kind) & ANY_SHARED ? MAP_SHARED : MAP_PRIVATE;
    char *addr =
        mmap(NULL, 3 * page_size, PROT_READ | PROT_WRITE, flags, mem.fd, (off_t)(4 * page_size));

    CHECK(addr != MAP_FAILED);
    CHECK_EQ(pwrite(mem.fd, "x", 1, (off_t)(5 * page_size)), 1);
    CHECK_EQ(uffd_register(uffd, addr, 3 * page_size), 0);
    check_native(addr + page_size, 'x');
    CHECK_EQ(uffd_copy(uffd, addr, source, page_size), 0);
    check_native(mem_page(&mem, 4), flags == MAP_SHARED ? source[0] : 0);
    check_traps(uffd, addr + 2 * page_size);
    check_native(mem_page(&mem, 0), 0);
}

/* The descriptor is not needed any more once the memory is mapped. */
static void descriptor_closed(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(close(mem.fd), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem.addr);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 2 * page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 2), 2));
    check_traps(uffd, mem_page(&mem, 3));
}

/* Two mappings of one file, each with a context of its own. */
static void two_mappings(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(1, 2);
    char *alias = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
    int one = uffd_open(0), two = uffd_open(0);

    CHECK(alias != MAP_FAILED);
    CHECK_EQ(uffd_register(one, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(two, alias, mem.len), 0);
    check_traps(two, alias);
    check_native(mem.addr, 0); /* the file has it now */
    CHECK_EQ(uffd_copy(one, mem_page(&mem, 1), source, page_size), 0);
    CHECK(pattern_holds(alias + page_size, 2));
    uffd_check_silent(one);
    uffd_check_silent(two);
}

/* A read of a private mapping maps what the file has around the page: it is there then. */
static void read_maps_neighbours(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(pwrite(mem.fd, source, 3 * page_size, 0), 3 * page_size);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0); /* nobody has read yet */
    CHECK(pattern_holds(mem_page(&mem, 0), 1));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), -EEXIST);
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), 0);
}

/* They stay so, although the page that was read for is not had. */
static void read_in_vain_maps_neighbours(enum mem_kind kind)
{
    enum { LAST = 15 }; /* page of 16: the mapping begins where what is mapped around could end */
    struct mem whole = mem_map(kind, 48), mem;
    size_t first = (uintptr_t)whole.addr / page_size, skip = (LAST - first % 16) % 16;
    char *source = source_new(4, 1);
    struct touch touch = {0};
    int uffd = uffd_open(0);

    if ((first + skip) % 512 == 511)
        skip += 16; /* nothing is mapped beyond a page of the page table */
    mem = (struct mem){kind, mem_page(&whole, skip), 4 * page_size, whole.fd};
    CHECK(mmap(mem.addr, mem.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, mem.fd, 0) ==
          mem.addr);
    CHECK_EQ(pwrite(mem.fd, source, 3 * page_size, page_size), 3 * page_size);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), -EEXIST);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* ... but only in its mapping, and what is registered is one of its own. */
static void read_maps_nothing_beside(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(pwrite(mem.fd, source, 4 * page_size, 0), 4 * page_size);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 2), 3));
    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 1));
}

/* ZEROPAGE maps the kernel's page of zeroes, which is no copy of the mapping's own. */
static void punch_zeropage(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, 2 * page_size), 0);
    *mem_page(&mem, 1) = 5; /* one now */
    punch(&mem, 0, 2);
    check_traps(uffd, mem_page(&mem, 0));
    check_native(mem_page(&mem, 1), 5);
}

/* A source that is read into being where the destination is. */
static void copy_onto_itself(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *other = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
    int uffd = uffd_open(0);

    CHECK(other != MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, other, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), other, page_size), 0);
}

/* A source that is mapped by being read, and with it what the file has around: not what is copied.
 */
static void copy_beside_itself(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    char *other = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_PRIVATE, mem.fd, 0);
    int uffd = uffd_open(0);

    CHECK(other != MAP_FAILED);
    CHECK_EQ(pwrite(mem.fd, source, 2 * page_size, 2 * page_size), 2 * page_size);
    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, other + 2 * page_size, 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, other, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, other, source, 3 * page_size), -EAGAIN);
    CHECK(pattern_holds(other, 1));
    CHECK(pattern_holds(other + page_size, 2));
    CHECK(pattern_holds(other + 2 * page_size, 1));
}

static sigjmp_buf cross_jump;
static void *volatile cross_addr;

static void cross_handler(int sig, siginfo_t *info, void *context)
{
    cross_addr = info->si_addr;
    siglongjmp(cross_jump, sig);
}

static void *cross_main(void *arg)
{
    struct sigaction action = {.sa_sigaction = cross_handler, .sa_flags = SA_SIGINFO};
    volatile uint64_t *word = arg;
    int sig;

    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sig = sigsetjmp(cross_jump, 1);
    if (!sig)
        (void)*word;
    return (void *)(intptr_t)sig;
}

/* What is done to the second of two pages while an access across both waits for it. */
typedef void change_page(int uffd, const struct mem *mem);

/* The page that was waited for decides what the access comes to. */
static void change_under_crossing(enum mem_kind kind, change_page *change, int sig)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    pthread_t thread;
    void *result;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    CHECK_EQ(pthread_create(&thread, NULL, cross_main, mem_page(&mem, 1) - 4), 0);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    change(uffd, &mem);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK_EQ((intptr_t)result, sig);
    CHECK(cross_addr == mem_page(&mem, 1));
}

static void truncate_page(int uffd, const struct mem *mem)
{
    CHECK_EQ(ftruncate(mem->fd, 0), 0);
    CHECK_EQ(uffd_unregister(uffd, mem->addr, mem->len), 0);
}

static void forbid_page(int uffd, const struct mem *mem)
{
    CHECK_EQ(mprotect(mem->addr, mem->len, PROT_NONE), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(mem, 1), page_size), 0); /* it is there, too */
}

static void truncate_under_crossing(enum mem_kind kind)
{
    change_under_crossing(kind, truncate_page, SIGBUS);
}

static void forbid_under_crossing(enum mem_kind kind)
{
    change_under_crossing(kind, forbid_page, SIGSEGV);
}

#define FILES    (FILE_PRIVATE | FILE_SHARED)
#define RST_INIT "rst: Initializing a userfaultfd, MISSING_SHMEM"

const struct conf_case file_cases[] = {
    {"file/punch-hole", RST_INIT, FILE_SHARED, .run = punch_shared},
    {"file/punch-hole", RST_INIT, FILE_PRIVATE, .run = punch_private},
    {"file/punch-hole-zeropage", RST_INIT, FILE_PRIVATE, .run = punch_zeropage},
    {"file/read-maps-neighbours", RST_INIT, FILE_PRIVATE, .run = read_maps_neighbours},
    {"file/read-maps-in-vain", RST_INIT, FILE_PRIVATE, .run = read_in_vain_maps_neighbours},
    {"file/read-maps-nothing-beside", RST_INIT, FILE_PRIVATE, .run = read_maps_nothing_beside},
    {"file/copy-onto-itself", RST_INIT, FILE_SHARED, .run = copy_onto_itself},
    {"file/copy-beside-itself", RST_INIT, FILE_SHARED, .run = copy_beside_itself},
    {"file/truncate-under-a-crossing", RST_INIT, FILES, .run = truncate_under_crossing},
    {"file/forbidden-under-a-crossing", RST_INIT, ONE_OF_EACH, .run = forbid_under_crossing},
    {"file/truncate", RST_INIT, FILES, .run = truncate_shrinks},
    {"file/truncate-partial-copy", RST_INIT, FILES, .run = truncate_copy_stops_at_end},
    {"file/truncate-under-a-waiter", RST_INIT, FILES, .run = truncate_under_waiter},
    {"file/truncate-odd-size", RST_INIT, FILES, .run = truncate_odd_size},
    {"file/filled-behind", RST_INIT, FILES, .run = filled_by_write},
    {"file/allocated-behind", RST_INIT, FILES, NEED_CACHESTAT, .run = filled_by_allocation},
    {"file/filled-while-waiting", RST_INIT, FILES, .run = filled_while_waiting},
    {"file/reading-fills-nothing", RST_INIT, FILES, .run = reading_fills_nothing},
    {"file/copy-and-the-file", RST_INIT, FILES, .run = copy_and_the_file},
    {"file/mapped-at-offset", RST_INIT, FILES, .run = mapped_at_offset},
    {"file/descriptor-closed", RST_INIT, FILES, .run = descriptor_closed},
    {"file/two-mappings", RST_INIT, FILE_SHARED, .run = two_mappings},
    {.id = NULL},
};
