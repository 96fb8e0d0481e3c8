/* SPDX-License-Identifier: MIT */
/* Calls that fault in a range of registered memory: mlock, MADV_POPULATE_READ and _WRITE. */
#include <sched.h>
#include <sys/resource.h>

#include "harness.h"

#define MADV_POPULATE_READ_  22
#define MADV_POPULATE_WRITE_ 23
#define MREMAP_DONTUNMAP_    4

struct call {
    int (*fn)(const struct mem *mem);
    const struct mem *mem;
    int ret, err;
};

static void *call_main(void *arg)
{
    struct call *call = arg;

    call->ret = call->fn(call->mem);
    call->err = errno;
    return NULL;
}

static int do_mlock(const struct mem *mem)
{
    return mlock(mem->addr, mem->len);
}

static int do_populate_read(const struct mem *mem)
{
    return madvise(mem->addr, mem->len, MADV_POPULATE_READ_);
}

static int do_populate_write(const struct mem *mem)
{
    return madvise(mem->addr, mem->len, MADV_POPULATE_WRITE_);
}

/* A message for each page that is missing; the call ends when the last is there. */
static void fault_in(enum mem_kind kind, int (*fn)(const struct mem *), int flags)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(6, 1);
    int uffd = uffd_open(0);
    struct call call = {.fn = fn, .mem = &mem};
    pthread_t thread;

    pattern_fill(mem_page(&mem, 2), 3);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 4), source + 4 * page_size, page_size), 0);
    CHECK_EQ(pthread_create(&thread, NULL, call_main, &call), 0);
    for (size_t n = 0; n < 6; n++) {
        if (n == 2 || n == 4)
            continue;
        struct uf_msg msg = uffd_next(uffd);
        CHECK_EQ(msg.event, UF_EVENT_PAGEFAULT);
        CHECK_EQ(msg.arg.pagefault.address, (uintptr_t)mem_page(&mem, n));
        if (flags >= 0)
            CHECK_EQ(msg.arg.pagefault.flags, flags);
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, n), source + n * page_size, page_size), 0);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(call.ret, 0);
    for (size_t n = 0; n < 6; n++)
        CHECK(pattern_holds(mem_page(&mem, n), n + 1));
    uffd_check_silent(uffd);
}

static void mlock_faults(enum mem_kind kind)
{
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (!is_system_root() && mem_kind_huge(kind) && limit.rlim_cur < 6 * page_size)
        case_skip("only %lu KiB may be locked", (unsigned long)limit.rlim_cur / 1024);
    fault_in(kind, do_mlock, -1);
}

static void populate_read_faults(enum mem_kind kind)
{
    fault_in(kind, do_populate_read, 0);
}

static void populate_write_faults(enum mem_kind kind)
{
    fault_in(kind, do_populate_write, UF_PAGEFAULT_FLAG_WRITE);
}

static void mlock_then_dontneed(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(3, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK_EQ(mlock(mem.addr, mem.len), 0);
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_DONTNEED), EINVAL); /* not what is locked */
    CHECK(pattern_holds(mem.addr, 1));
    CHECK_EQ(munlock(mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    check_traps(uffd, mem_page(&mem, 1));
}

/* Locked memory that is not registered ends it, too: what follows keeps its content. */
static void dontneed_after_locked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(3, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(mlock(mem_page(&mem, 1), page_size), 0);
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_DONTNEED), EINVAL);
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
    CHECK(pattern_holds(mem_page(&mem, 2), 3));
    check_traps(uffd, mem.addr);
}

/* A hole ends mlock: of what follows, nothing is locked. */
static void mlock_up_to_a_hole(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK_EQ(munmap(mem_page(&mem, 1), page_size), 0);
    CHECK_ERRNO(mlock(mem.addr, mem.len), ENOMEM);
    CHECK_ERRNO(madvise(mem.addr, page_size, MADV_DONTNEED), EINVAL);
    CHECK_EQ(madvise(mem_page(&mem, 2), 2 * page_size, MADV_DONTNEED), 0);
    check_traps(uffd, mem_page(&mem, 3));
    CHECK_ERRNO(mlock(mem_page(&mem, 1), 3 * page_size), ENOMEM);
    CHECK_EQ(mlock2(mem_page(&mem, 2), 2 * page_size, MLOCK_ONFAULT), 0);
    CHECK_ERRNO(munlock(mem.addr, mem.len), ENOMEM);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_DONTNEED), 0);
    CHECK_ERRNO(madvise(mem_page(&mem, 2), page_size, MADV_DONTNEED), EINVAL);
}

/* Not all was to be had: it is locked all the same, and what is added to it is brought in. */
static void mlock_failed_grows(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(UF_FEATURE_SIGBUS);
    unsigned char vec[4];
    char *moved;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(mlock(mem.addr, mem.len), ENOMEM);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mincore(mem.addr, page_size, vec), 0);
    CHECK_EQ(vec[0] & 1, 0); /* not by that */
    moved = mremap(mem.addr, page_size, 4 * page_size, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED);
    CHECK_EQ(mincore(moved, 4 * page_size, vec), 0);
    CHECK_EQ(vec[3] & 1, 1);
}

/* What lies behind a page that was not to be had is locked, too, but not brought in. */
static void mlock_failed_stops(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(UF_FEATURE_SIGBUS);

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_ERRNO(mlock(mem.addr, mem.len), ENOMEM);
    CHECK_EQ(munlock(mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source_new(1, 1), page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source_new(1, 1), page_size), -EEXIST);
}

/* Copies of what the file has are made up to the page that is not to be had. */
static void mlock_failed_copies(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(pwrite(mem.fd, source, 2 * page_size, 0), 2 * page_size);
    CHECK_EQ(ftruncate(mem.fd, 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mlock(mem_page(&mem, 1), 2 * page_size), -1);
    CHECK_EQ(errno, ENOMEM);
    CHECK_EQ(pwrite(mem.fd, source + page_size, page_size, 0), page_size);
    CHECK_EQ(pwrite(mem.fd, source, page_size, page_size), page_size);
    CHECK(pattern_holds(mem_page(&mem, 0), 2)); /* the file's */
    CHECK(pattern_holds(mem_page(&mem, 1), 2)); /* its own, from before */
    uffd_check_silent(uffd);
}

/* What stays behind of a mapping of which a part was moved is locked no more, all of it. */
static void mlock_left_behind(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(mlock(mem.addr, 3 * page_size), 0);
    CHECK(mremap(mem_page(&mem, 1), page_size, page_size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP_) !=
          MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
}

/* Unlocked, and let go, while mlock waits: it stays so. */
static void mlock_undone(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    struct call call = {.fn = do_mlock, .mem = &mem};
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, call_main, &call), 0);
    uffd_next(uffd);
    CHECK_EQ(munlock(mem.addr, mem.len), 0);
    CHECK_EQ(close(uffd), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(call.ret, 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
}

/* What came before the page that cannot be had was populated: copies that a file's writer spares.
 */
static void populate_up_to_end(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char byte = 1;

    CHECK_EQ(ftruncate(mem.fd, 3 * (off_t)page_size), 0);
    CHECK_EQ(pwrite(mem.fd, "x", 1, 0) + pwrite(mem.fd, "x", 1, (off_t)page_size) +
                 pwrite(mem.fd, "x", 1, 2 * (off_t)page_size),
             3);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(madvise(mem_page(&mem, 1), 3 * page_size, MADV_POPULATE_WRITE_), EFAULT);
    CHECK_EQ(pwrite(mem.fd, &byte, 1, 0), 1);
    CHECK_EQ(pwrite(mem.fd, &byte, 1, 2 * (off_t)page_size), 1);
    CHECK_EQ(*mem_page(&mem, 2), 'x');
    CHECK_EQ(*mem.addr, 1);
}

/* What mlock could not bring in is brought in when it becomes writable, registered memory beside.
 */
static void mlock_then_writable(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    unsigned char there[2] = {0, 0};
    int uffd = uffd_open(UF_FEATURE_SIGBUS);

    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_NONE), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_ERRNO(mlock(mem_page(&mem, 1), 3 * page_size), ENOMEM);
    CHECK_EQ(mprotect(mem_page(&mem, 2), 2 * page_size, PROT_READ | PROT_WRITE), 0);
    CHECK_EQ(mincore(mem_page(&mem, 1), 2 * page_size, there), 0);
    CHECK_EQ(there[0], 0);
    CHECK_EQ(there[1], 1);
}

static void mlock_bad_length(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    /* The limit of who may not lock as much as he likes is asked first. */
    CHECK_ERRNO(mlock(mem_page(&mem, 1), 0 - 2 * page_size), is_system_root() ? EINVAL : ENOMEM);
    CHECK_ERRNO(munlock(mem_page(&mem, 1), 0 - 2 * page_size), EINVAL);
    CHECK_EQ(mlock(mem.addr, 0), 0);
    uffd_check_silent(uffd);
}

static void mlock_without_access(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(mprotect(mem.addr, page_size, PROT_NONE), 0);
    CHECK_ERRNO(mlock(mem.addr, mem.len), ENOMEM); /* before any message of the second */
    uffd_check_silent(uffd);
}

/* Memory locked before it is registered, so that the lock must bear missing pages. */
/* Made writable while mlock waits: from then on it asks for memory to be written to. */
static void mlock_made_writable(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);
    struct call call = {.fn = do_mlock, .mem = &mem};
    pthread_t thread;

    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, call_main, &call), 0);
    CHECK_EQ(uffd_next(uffd).arg.pagefault.flags, 0);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE), 0);
    CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_next(uffd).arg.pagefault.flags, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(call.ret, 0);
}

static void mlock_onfault(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(mlock2(mem.addr, mem.len, MLOCK_ONFAULT), 0);
    *mem_page(&mem, 1) = 2;
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 1), 2);
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 3));
    CHECK_EQ(munlock(mem.addr, mem.len), 0);
    check_traps(uffd, mem_page(&mem, 2));
}

static void populate_user_mode(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open_user_mode(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(do_populate_read(&mem), EFAULT);
    CHECK_ERRNO(do_populate_write(&mem), EFAULT);
    uffd_check_silent(uffd);
    check_traps(uffd, mem.addr);
}

/* What is not registered is faulted in before what comes after it is waited for. */
static void populate_in_order(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    struct call call = {.fn = do_populate_read, .mem = &mem};
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), 2 * page_size), 0);
    CHECK_EQ(pthread_create(&thread, NULL, call_main, &call), 0);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, page_size), 0);
    check_native(mem.addr, 0);
    CHECK_EQ(munmap(mem.addr, page_size), 0); /* it was had: no error */
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), page_size), 0);
    uffd_next_fault(uffd, mem_page(&mem, 2), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), page_size), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(call.ret, 0);
}

/* What was populated, and lost while a page was waited for, stays lost. */
static void populate_not_again(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    struct call call = {.fn = do_populate_write, .mem = &mem};
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), page_size), 0);
    CHECK_EQ(pthread_create(&thread, NULL, call_main, &call), 0);
    uffd_next_fault(uffd, mem_page(&mem, 2), UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(madvise(mem.addr, 2 * page_size, MADV_REMOVE), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), page_size), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(call.ret, 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 1));
}

/* What comes first ends it, also before poison. */
static void populate_before_poison(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 1), page_size, 0, NULL), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_POPULATE_WRITE_), EHWPOISON);
    CHECK_EQ(mprotect(mem.addr, page_size, PROT_READ), 0);
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_POPULATE_WRITE_), EINVAL);
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_POPULATE_READ_), EHWPOISON);
}

#define MAN_ADVISE "madvise(2)"
#define MAN_LOCK   "mlock(2)"

const struct conf_case populate_cases[] = {
    {"madvise/populate-read", MAN_ADVISE, EVERY_KIND | HUGETLB, NEED_FULL | NEED_POPULATE,
     .run = populate_read_faults},
    {"madvise/populate-write", MAN_ADVISE, EVERY_KIND | HUGETLB, NEED_FULL | NEED_POPULATE,
     .run = populate_write_faults},
    {"madvise/populate-user-mode", MAN_ADVISE, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_POPULATE,
     .run = populate_user_mode},
    {"madvise/populate-to-the-end", MAN_ADVISE, KIND(MEM_MEMFD_PRIVATE), NEED_POPULATE,
     .run = populate_up_to_end},
    {"madvise/populate-in-order", MAN_ADVISE, ONE_OF_EACH | KIND(MEM_ANON_SHARED),
     NEED_FULL | NEED_POPULATE, .run = populate_in_order},
    {"madvise/populate-before-poison", MAN_ADVISE, ONE_OF_EACH, NEED_POPULATE,
     .features = UF_FEATURE_POISON, .run = populate_before_poison},
    {"madvise/populate-not-again", MAN_ADVISE, SHARED, NEED_FULL | NEED_POPULATE,
     .run = populate_not_again},
    {"mlock/a-message-a-page", MAN_LOCK, EVERY_KIND | HUGETLB, NEED_FULL, .run = mlock_faults},
    {"mlock/failed-grows", MAN_LOCK, KIND(MEM_ANON), .run = mlock_failed_grows},
    {"mlock/failed-stops", MAN_LOCK, ONE_OF_EACH, .run = mlock_failed_stops},
    {"mlock/failed-copies", MAN_LOCK, KIND(MEM_MEMFD_PRIVATE), .run = mlock_failed_copies},
    {"mlock/left-behind", MAN_LOCK, ONE_OF_EACH, .run = mlock_left_behind},
    {"mlock/undone", MAN_LOCK, ONE_OF_EACH, NEED_FULL, .run = mlock_undone},
    {"mlock/dontneed-after", MAN_LOCK, KIND(MEM_ANON), .run = dontneed_after_locked},
    {"mlock/then-writable", MAN_LOCK, KIND(MEM_ANON), .run = mlock_then_writable},
    {"mlock/bad-length", MAN_LOCK, ONE_OF_EACH, .run = mlock_bad_length},
    {"mlock/hole", MAN_LOCK, KIND(MEM_ANON), .run = mlock_up_to_a_hole},
    {"mlock/dontneed", MAN_LOCK, KIND(MEM_ANON), .run = mlock_then_dontneed},
    {"mlock/made-writable", MAN_LOCK, KIND(MEM_ANON), NEED_FULL, .run = mlock_made_writable},
    {"mlock/without-access", MAN_LOCK, ONE_OF_EACH | HUGETLB_OF_EACH, .run = mlock_without_access},
    {"mlock/on-fault", MAN_LOCK, ONE_OF_EACH, .run = mlock_onfault},
    {.id = NULL},
};
