/* SPDX-License-Identifier: MIT */
/* Faults and what resolves them: COPY, ZEROPAGE, WAKE; who wakes, what is seen. */
#include <sched.h>

#include "harness.h"

static void resolve_read(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 5);
    int uffd = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem_page(&mem, 1) + 100, false);
    struct uf_msg msg = uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    CHECK_EQ(msg.arg.pagefault.feat.ptid, 0);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)source[100]);
    CHECK(pattern_holds(mem_page(&mem, 1), 5));
    uffd_check_silent(uffd);
}

static void resolve_write(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 5);
    int uffd = uffd_open(0);
    struct touch touch = {.value = 0x3c};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem_page(&mem, 2) + 7, true);
    uffd_next_fault(uffd, mem_page(&mem, 2), UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    touch_join(&touch);
    CHECK_EQ(mem_page(&mem, 2)[7], 0x3c);
    source[7] = 0x3c;
    CHECK_EQ(memcmp(mem_page(&mem, 2), source, page_size), 0);
}

static void resolve_zero(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    struct touch reader = {0}, writer = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&reader, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    CHECK_EQ(touch_join(&reader), 0);
    touch_start(&writer, mem_page(&mem, 1), true);
    uffd_next_fault(uffd, mem_page(&mem, 1), UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), page_size), 0);
    touch_join(&writer);
    check_native(mem_page(&mem, 1), 0x77);
    check_native(mem_page(&mem, 1) + 1, 0);
    /* written after it was zeroed for a reader */
    *mem.addr = 6;
    check_native(mem.addr, 6);
    check_native(mem.addr + page_size - 1, 0);
    uffd_check_silent(uffd);
}

static void resolve_ahead(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(2, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 2 * page_size), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 4), 2 * page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 1));
    CHECK(pattern_holds(mem_page(&mem, 2), 2));
    check_native(mem_page(&mem, 4), 0);
    *mem_page(&mem, 5) = 1;
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 3));
}

static void resolve_many_mib(enum mem_kind kind)
{
    const size_t pages = (24 << 20) / page_size;
    struct mem mem = mem_map(kind, pages + 2);
    char *source = source_new(pages, 100);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, pages * page_size), 0);
    CHECK_EQ(memcmp(mem_page(&mem, 1), source, pages * page_size), 0);
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, pages + 1));
}

static void resolve_zero_many_mib(enum mem_kind kind)
{
    const size_t pages = (24 << 20) / page_size;
    struct mem mem = mem_map(kind, pages);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < pages; n += 100)
        check_native(mem_page(&mem, n), 0);
    memset(mem.addr, 1, 64 * page_size);
    uffd_check_silent(uffd);
}

static void resolve_unaligned_source(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source + 13, 3 * page_size), 0);
    CHECK_EQ(memcmp(mem.addr, source + 13, 3 * page_size), 0);
}

static void resolve_source_kinds(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4), source = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pattern_fill(mem_page(&source, 2), 2); /* the others are not even present */
    CHECK_EQ(mprotect(source.addr, source.len, PROT_READ), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source.addr, 4 * page_size), 0);
    check_native(mem.addr, 0);
    CHECK(pattern_holds(mem_page(&mem, 2), 2));
}

/* ------------------------------------------------------------------ waking */

static void resolve_dontwake(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(1, 5);
    int uffd = uffd_open(0);
    struct touch copied = {0}, zeroed = {0};
    int64_t out;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&copied, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    touch_start(&zeroed, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, source, page_size, UF_COPY_MODE_DONTWAKE, &out), 0);
    CHECK_EQ(out, page_size);
    CHECK_EQ(uffd_zero_mode(uffd, mem_page(&mem, 1), page_size, UF_ZEROPAGE_MODE_DONTWAKE, &out),
             0);
    CHECK_EQ(out, page_size);
    CHECK(pattern_holds(mem.addr, 5)); /* there for everybody else */
    thread_await_sleep(copied.tid);
    thread_await_sleep(zeroed.tid);
    CHECK(!touch_is_done(&copied) && !touch_is_done(&zeroed));
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    CHECK_EQ(touch_join(&copied), (unsigned char)source[0]);
    CHECK(!touch_is_done(&zeroed));
    CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(touch_join(&zeroed), 0);
}

static void resolve_wake_unresolved(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, true);
    for (int i = 0; i < 5; i++) {
        uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
        uffd_check_silent(uffd);
        CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0); /* it finds the page missing again */
    }
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
    check_native(mem.addr, 0x77);
}

static void resolve_wakes_only_range(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    char *source = source_new(1, 5);
    int uffd = uffd_open(0);
    struct touch one = {0}, other = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&one, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    touch_start(&other, mem_page(&mem, 2), false);
    uffd_next_fault(uffd, mem_page(&mem, 2), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    touch_join(&one);
    CHECK_EQ(uffd_wake(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(uffd_wake(uffd, mem.addr, 2 * page_size), 0);
    CHECK(!touch_is_done(&other));
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    touch_join(&other);
}

#define WAITERS 12

static void resolve_same_page(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    char *source = source_new(1, 5);
    int uffd = uffd_open(0);
    struct touch touches[WAITERS] = {{0}};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < WAITERS; i++) {
        touch_start(&touches[i], mem.addr + 64 * i, false);
        uffd_next_fault(uffd, mem.addr, 0); /* each waiter tells of its own */
    }
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    for (int i = 0; i < WAITERS; i++)
        CHECK_EQ(touch_join(&touches[i]), (unsigned char)source[64 * i]);
    uffd_check_silent(uffd);
}

static void resolve_range_wakes_all(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, WAITERS);
    char *source = source_new(WAITERS, 5);
    int uffd = uffd_open(0);
    struct touch touches[WAITERS] = {{0}};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < WAITERS; i++) {
        touch_start(&touches[i], mem_page(&mem, (size_t)i), false);
        uffd_next_fault(uffd, mem_page(&mem, (size_t)i), 0);
    }
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    for (int i = 0; i < WAITERS; i++)
        CHECK_EQ(touch_join(&touches[i]), (unsigned char)source[(size_t)i * page_size]);
}

static void resolve_unread(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(1, 5);
    int uffd = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_await(uffd);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)source[0]);
    uffd_check_silent(uffd); /* resolved in parallel: not to be read any more */
}

static void resolve_wake_nowhere(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0); /* not registered */
    CHECK_EQ(munmap(mem.addr, mem.len), 0);
    CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0); /* not mapped either */
}

/* ------------------------------------------------------------------ atomicity */

struct watcher {
    volatile uint64_t *words;
    atomic_bool torn;
};

/* Reads both ends and the middle of each page as soon as they can be read at all. */
static void *watcher_main(void *arg)
{
    struct watcher *watcher = arg;
    const size_t per_page = page_size / sizeof(uint64_t);

    for (size_t n = 0; n < 256; n++) {
        volatile uint64_t *page = watcher->words + n * per_page;
        uint64_t last = page[per_page - 1], first = page[0], middle = page[per_page / 2];
        if (first != n + 1 || last != n + 1 || middle != n + 1)
            atomic_store(&watcher->torn, true);
    }
    return NULL;
}

static void fill_words(char *page, uint64_t word)
{
    for (size_t i = 0; i < page_size / sizeof(word); i++)
        ((uint64_t *)page)[i] = word;
}

static void resolve_atomic(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 256);
    char *source = source_new(1, 0);
    int uffd = uffd_open(0);
    struct watcher watchers[2] = {{(void *)mem.addr, false}, {(void *)mem.addr, false}};
    pthread_t threads[2];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, watcher_main, &watchers[i]), 0);
    for (size_t n = 0; n < 256; n++) {
        fill_words(source, n + 1);
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, n), source, page_size), 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK(!watchers[i].torn);
    }
}

/* ------------------------------------------------------------------ a hidden source */

struct copy_call {
    int uffd;
    void *dst, *src;
    size_t len;
    int ret;
    int64_t copied;
};

static void *copy_main(void *arg)
{
    struct copy_call *call = arg;

    call->ret = uffd_copy_mode(call->uffd, call->dst, call->src, call->len, 0, &call->copied);
    return NULL;
}

static void resolve_hidden_source(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2), hidden = mem_map(kind, 2);
    char *source = source_new(1, 8);
    int uffd = uffd_open(0), other = uffd_open(0);
    struct copy_call call = {uffd, mem.addr, hidden.addr, 2 * page_size, 0, 0};
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(other, hidden.addr, hidden.len), 0);
    CHECK_EQ(uffd_zero(other, mem_page(&hidden, 0), page_size), 0);
    CHECK_EQ(pthread_create(&thread, NULL, copy_main, &call), 0);
    uffd_next_fault(other, mem_page(&hidden, 1), 0);
    CHECK_EQ(uffd_copy(other, mem_page(&hidden, 1), source, page_size), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(call.ret, 0);
    CHECK_EQ(call.copied, 2 * page_size);
    CHECK(pattern_holds(mem_page(&mem, 1), 8));
}

static void resolve_hidden_source_same(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 8);
    int uffd = uffd_open(0);
    struct copy_call call = {uffd, mem.addr, mem_page(&mem, 2), page_size, 0, 0};
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, copy_main, &call), 0);
    uffd_next_fault(uffd, mem_page(&mem, 2), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(call.ret, 0);
    CHECK(pattern_holds(mem.addr, 8));
}

static void resolve_hidden_source_user_mode(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open_user_mode(0);
    int64_t out;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, mem_page(&mem, 2), page_size, 0, &out), -EFAULT);
    CHECK_EQ(out, -EFAULT);
    uffd_check_silent(uffd);
    check_traps(uffd, mem.addr);
}

#define RST_RES  "rst: Resolving Userfaults"
#define RST_QEMU "rst: QEMU/KVM"
#define MAN_COPY "ioctl_userfaultfd(2): UFFDIO_COPY"
#define MAN_WAKE "ioctl_userfaultfd(2): UFFDIO_WAKE"

const struct conf_case resolve_cases[] = {
    {"resolve/read", RST_RES, EVERY_KIND | HUGETLB, .run = resolve_read},
    {"resolve/write", RST_RES, EVERY_KIND | HUGETLB, .run = resolve_write},
    {"resolve/zeropage", RST_RES, EVERY_KIND | HUGETLB, .run = resolve_zero},
    {"resolve/ahead-of-the-fault", RST_RES, EVERY_KIND | HUGETLB, .run = resolve_ahead},
    {"resolve/many-mib", RST_RES, EVERY_KIND | HUGETLB, .run = resolve_many_mib},
    {"resolve/zeropage-many-mib", RST_RES, ONE_OF_EACH, .run = resolve_zero_many_mib},
    {"resolve/unaligned-source", MAN_COPY, EVERY_KIND | HUGETLB, .run = resolve_unaligned_source},
    {"resolve/source", MAN_COPY, EVERY_KIND | HUGETLB, .run = resolve_source_kinds},
    {"resolve/dontwake", RST_RES, EVERY_KIND | HUGETLB, .run = resolve_dontwake},
    {"resolve/wake-unresolved", MAN_WAKE, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = resolve_wake_unresolved},
    {"resolve/wakes-its-range", MAN_WAKE, .run = resolve_wakes_only_range},
    {"resolve/same-page", RST_RES, ONE_OF_EACH | HUGETLB_OF_EACH, .run = resolve_same_page},
    {"resolve/range-wakes-all", RST_RES, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = resolve_range_wakes_all},
    {"resolve/unread-message", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, .run = resolve_unread},
    {"resolve/wake-nowhere", MAN_WAKE, .run = resolve_wake_nowhere},
    {"resolve/atomic", RST_RES, EVERY_KIND, .run = resolve_atomic},
    {"resolve/hidden-source", MAN_COPY, EVERY_KIND | HUGETLB, NEED_FULL,
     .run = resolve_hidden_source},
    {"resolve/hidden-source-same", MAN_COPY, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL,
     .run = resolve_hidden_source_same},
    {"resolve/hidden-source-user-mode", MAN_COPY, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = resolve_hidden_source_user_mode},
    {.id = NULL},
};
