/* SPDX-License-Identifier: MIT */
/* Futexes whose words lie in hidden memory, and what the kernel does with them when a thread ends.
 */
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>

#include "calls.h"

enum {
    NR_FUTEX_WAITV = 449,
    NR_FUTEX_WAKE = 454,
    NR_FUTEX_WAIT,
    NR_FUTEX_REQUEUE,
};

#define SIZE_U32 2u
#define PRIVATE2 (SIZE_U32 | FUTEX_PRIVATE_FLAG)

struct waitv {
    uint64_t val, uaddr;
    uint32_t flags, reserved;
};

static long futex(uint32_t *word, int op, uint32_t val, const void *timeout, uint32_t *second,
                  uint32_t third)
{
    return syscall(SYS_futex, word, op, val, timeout, second, third);
}

static uint32_t *word_of(struct place *p, uint32_t value)
{
    return PLACE_IN(p, value);
}

/* What becomes of a private word. */
enum outcome {
    LEFT, /* not touched, or just read where it may be */
    ASKED,
    FAILS, /* it would be changed in place, for which the kernel does not wait: EFAULT */
};

#define OWN_TID 0xffffffff /* this thread's, as a value */
#define NOBODY  1          /* as one that is not */

/* One of the two words is placed; the other lies in plain memory and is fit. */
static const struct {
    const char *name;
    int op;
    bool second;
    uint32_t placed, plain; /* values */
    uint32_t val, third;
    int err;
    enum outcome hidden, protected_;
} ops[] = {
    {"wake", FUTEX_WAKE, false, 1, 0, 1, 0, 0, LEFT, LEFT},
    {"wait", FUTEX_WAIT, false, 1, 0, 0, 0, EAGAIN, ASKED, LEFT},
    {"wait until", FUTEX_WAIT, false, 1, 0, 1, 0, ETIMEDOUT, ASKED, LEFT},
    {"wait for bits", FUTEX_WAIT_BITSET, false, 1, 0, 0, 1, EAGAIN, ASKED, LEFT},
    {"wake bits", FUTEX_WAKE_BITSET, false, 1, 0, 1, 1, 0, LEFT, LEFT},
    {"requeue from", FUTEX_REQUEUE, false, 1, 0, 1, 0, 0, LEFT, LEFT},
    {"requeue to", FUTEX_REQUEUE, true, 1, 0, 1, 0, 0, LEFT, LEFT},
    {"compare", FUTEX_CMP_REQUEUE, false, 1, 0, 1, 1, 0, ASKED, LEFT},
    {"compare, unequal", FUTEX_CMP_REQUEUE, false, 1, 0, 1, 2, EAGAIN, ASKED, LEFT},
    {"compare, to", FUTEX_CMP_REQUEUE, true, 1, 0, 1, 0, 0, LEFT, LEFT},
    {"wake one and", FUTEX_WAKE_OP, false, 1, 0, 1, 0, 0, LEFT, LEFT},
    {"wake and change", FUTEX_WAKE_OP, true, 1, 0, 1, 0, 0, FAILS, FAILS},
    {"lock", FUTEX_LOCK_PI, false, 0, 0, 0, 0, 0, FAILS, FAILS},
    {"lock, other clock", FUTEX_LOCK_PI2, false, 0, 0, 0, 0, 0, FAILS, FAILS},
    {"try", FUTEX_TRYLOCK_PI, false, 0, 0, 0, 0, 0, FAILS, FAILS},
    {"unlock", FUTEX_UNLOCK_PI, false, OWN_TID, 0, 0, 0, 0, ASKED, FAILS},
    {"unlock another's", FUTEX_UNLOCK_PI, false, NOBODY, 0, 0, 0, EPERM, ASKED, LEFT},
    {"compare for a lock", FUTEX_CMP_REQUEUE_PI, false, 1, 0, 1, 1, 0, ASKED, LEFT},
    {"requeue to a lock", FUTEX_CMP_REQUEUE_PI, true, 0, 0, 1, 0, 0, FAILS, LEFT},
    {"wait for a lock", FUTEX_WAIT_REQUEUE_PI, false, 1, 0, 1, 0, ETIMEDOUT, ASKED, LEFT},
    {"wait, unequal", FUTEX_WAIT_REQUEUE_PI, false, 1, 0, 2, 0, EAGAIN, ASKED, LEFT},
    {"wait, to a lock", FUTEX_WAIT_REQUEUE_PI, true, 0, 1, 1, 0, ETIMEDOUT, LEFT, LEFT},
};

/* Where others have a timeout, requeues have a number. */
static bool requeues(int op)
{
    return op == FUTEX_REQUEUE || op == FUTEX_CMP_REQUEUE || op == FUTEX_CMP_REQUEUE_PI ||
           op == FUTEX_WAKE_OP;
}

/* What a word's page has to suffer. A shared one is looked up as for a write, whatever is done. */
static enum outcome expected(const struct place *p, size_t i, bool shared)
{
    if (p->placing != HIDDEN && p->placing != PROTECTED)
        return LEFT; /* a word is no more than the first page */
    if (shared)
        return ops[i].err == EPERM && p->placing == PROTECTED ? LEFT : ASKED;
    return p->placing == HIDDEN ? ops[i].hidden : ops[i].protected_;
}

static void operation(struct place *p, size_t i, bool shared)
{
    uint32_t plain = ops[i].plain, value = ops[i].placed;
    uint32_t *word = word_of(p, value == OWN_TID ? (uint32_t)gettid() : value);
    struct timespec past = {.tv_nsec = 1};
    enum outcome outcome = expected(p, i, shared);
    unsigned long faults = outcome == ASKED;
    int err = outcome == FAILS ? EFAULT : ops[i].err;

    place_faults(p);
    errno = 0;
    long ret = futex(ops[i].second ? &plain : word, ops[i].op | (shared ? 0 : FUTEX_PRIVATE_FLAG),
                     ops[i].val, requeues(ops[i].op) ? (void *)1 : (void *)&past,
                     ops[i].second ? word : &plain, ops[i].third);
    int got = errno;
    unsigned long asked = place_faults(p);
    if (ret != (err ? -1 : 0) || got != err || asked != faults)
        case_fail(__FILE__, __LINE__, "%s, %s, placing %d: %ld, errno %d, %lu faults; not %d, %lu",
                  ops[i].name, shared ? "shared" : "private", p->placing, ret, got, asked, err,
                  faults);
}

static void operations(struct place *p)
{
    uint32_t own = 0;

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        operation(p, i, false);
        operation(p, i, true);
    }
    CHECK_ERRNO(futex(unmapped(), FUTEX_WAIT_PRIVATE, 8, NULL, NULL, 0), EFAULT);
    CHECK_ERRNO(futex(unmapped(), FUTEX_WAKE, 8, NULL, NULL, 0), EFAULT);
    CHECK_ERRNO(futex(&own, FUTEX_WAIT_PRIVATE, 0, unmapped(), NULL, 0), EFAULT);
    CHECK_ERRNO(futex(unmapped(), FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    CHECK_ERRNO(futex(&own, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, unmapped(), 0), EFAULT);
    struct timespec soon = {.tv_nsec = 1}, *timeout = PLACE_IN(p, soon);
    CHECK_ERRNO(futex(&own, FUTEX_WAIT_PRIVATE, 0, timeout, NULL, 0), ETIMEDOUT);
}

static bool absent(long nr)
{
    return syscall(nr, 0, 0, 0, 0, 0, 0) == -1 && errno == ENOSYS;
}

/* The calls that came later. */
static void later(struct place *p)
{
    struct timespec past = {.tv_sec = 1};
    struct waitv list[2] = {{.val = 1, .uaddr = (uintptr_t)word_of(p, 1), .flags = PRIVATE2},
                            {.val = 2, .uaddr = (uintptr_t)word_of(p, 3), .flags = SIZE_U32}};

    if (absent(NR_FUTEX_WAITV))
        case_skip("no futex_waitv here");
    CHECK_ERRNO(syscall(NR_FUTEX_WAITV, place_in(p, list, sizeof list), 2, 0, NULL, 0), EAGAIN);
    list[1].uaddr = (uintptr_t)word_of(p, 2);
    CHECK_ERRNO(syscall(NR_FUTEX_WAITV, place_in(p, list, sizeof list), 2, 0, PLACE_IN(p, past),
                        CLOCK_MONOTONIC),
                ETIMEDOUT);
    list[1].uaddr = (uintptr_t)unmapped();
    CHECK_ERRNO(syscall(NR_FUTEX_WAITV, list, 2, 0, NULL, 0), EFAULT);
    if (absent(NR_FUTEX_WAIT))
        return;
    uint32_t *word = word_of(p, 7);
    place_faults(p);
    CHECK_EQ(syscall(NR_FUTEX_WAKE, word, ~0u, 1, PRIVATE2), 0);
    CHECK_EQ(place_faults(p), 0);
    CHECK_EQ(syscall(NR_FUTEX_WAKE, word, ~0u, 1, SIZE_U32), 0);
    CHECK_ERRNO(syscall(NR_FUTEX_WAIT, word_of(p, 7), 8, ~0u, PRIVATE2, NULL, 0), EAGAIN);
    CHECK_ERRNO(
        syscall(NR_FUTEX_WAIT, word_of(p, 7), 7, ~0u, SIZE_U32, PLACE_IN(p, past), CLOCK_MONOTONIC),
        ETIMEDOUT);
    list[0] = (struct waitv){7, (uintptr_t)word_of(p, 7), PRIVATE2, 0};
    list[1] = (struct waitv){0, (uintptr_t)word_of(p, 0), PRIVATE2, 0};
    CHECK_EQ(syscall(NR_FUTEX_REQUEUE, place_in(p, list, sizeof list), 0, 1, 1), 0);
    CHECK_ERRNO(syscall(NR_FUTEX_REQUEUE, unmapped(), 0, 1, 1), EFAULT);
    CHECK_ERRNO(syscall(NR_FUTEX_WAIT, unmapped(), 8, ~0u, PRIVATE2, NULL, 0), EFAULT);
}

static void call_futex_words(enum mem_kind kind)
{
    place_each(kind, operations);
    place_each(kind, later);
}

struct sleeper {
    uint32_t *word;
    long nr;
    struct waitv *list;
    atomic_int tid;
};

static void *sleeper_main(void *arg)
{
    struct sleeper *s = arg;

    atomic_store(&s->tid, gettid());
    if (s->nr == NR_FUTEX_WAITV)
        CHECK_EQ(syscall(s->nr, s->list, 1, 0, NULL, 0), 0);
    else
        CHECK_EQ(futex(s->word, FUTEX_WAIT_PRIVATE, 7, NULL, NULL, 0), 0);
    return NULL;
}

/* A thread that has come to wait there is woken. */
static void woken(struct place *p)
{
    const long nrs[] = {SYS_futex, NR_FUTEX_WAITV};
    pthread_t thread;

    for (size_t i = 0; i < 2; i++) {
        uint32_t *word = word_of(p, 7);
        struct waitv list = {7, (uintptr_t)word, PRIVATE2, 0};
        struct sleeper s = {.word = word, .nr = nrs[i], .list = PLACE_IN(p, list)};

        if (absent(nrs[i]))
            continue;
        CHECK_EQ(pthread_create(&thread, NULL, sleeper_main, &s), 0);
        while (futex(word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 0)
            sched_yield();
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
}

static void call_futex_woken(enum mem_kind kind)
{
    place_each(kind, woken);
}

/* ---- robust lists */

struct robust_lock {
    struct robust_list link;
    uint32_t word;
};

struct ending {
    struct robust_list_head *head;
    uint32_t *word; /* taken, by hand; or NULL */
    int uffd;
    void *page; /* to be protected before the end */
};

static void *ending_main(void *arg)
{
    struct ending *ending = arg;

    if (ending->word)
        *ending->word = (uint32_t)gettid();
    if (ending->page)
        CHECK_EQ(uffd_writeprotect(ending->uffd, ending->page, page_size, UF_WRITEPROTECT_MODE_WP),
                 0);
    CHECK_EQ(syscall(SYS_set_robust_list, ending->head, sizeof *ending->head), 0);
    return NULL;
}

static void end_in(struct ending ending)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, ending_main, &ending), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void end_with(struct robust_list_head *head, uint32_t *word)
{
    end_in((struct ending){.head = head, .word = word});
}

/* The head of a list of one. */
static struct robust_list_head to_lock(struct robust_lock *lock)
{
    return (struct robust_list_head){.list = {&lock->link},
                                     .futex_offset = (long)offsetof(struct robust_lock, word)};
}

/*
 * A thread that ends waits for nobody, and nobody is asked: the kernel gives up the list where it
 * meets a page that is not there, or may not write.
 */
static void call_robust_lists(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    struct robust_lock here = {0}, *there = (struct robust_lock *)mem_page(&mem, 1);
    struct robust_list_head head, *hidden = (struct robust_list_head *)mem_page(&mem, 0);
    char *source = calloc(1, page_size);

    head = to_lock(&here);
    here.link.next = &head.list;
    end_with(&head, &here.word); /* as a matter of course */
    CHECK_EQ(here.word & FUTEX_OWNER_DIED, FUTEX_OWNER_DIED);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len,
                                UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP, NULL),
             0);
    end_with(hidden, &here.word);
    CHECK_EQ(here.word & FUTEX_OWNER_DIED, 0);

    head.list.next = &there->link; /* the lock is hidden */
    end_with(&head, NULL);
    uffd_check_silent(uffd);

    there = (struct robust_lock *)source;
    there->link.next = &head.list;
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    there = (struct robust_lock *)mem_page(&mem, 1);
    end_with(&head, &there->word); /* it is there */
    CHECK_EQ(there->word & FUTEX_OWNER_DIED, FUTEX_OWNER_DIED);
    uffd_check_silent(uffd);
    free(source);
    close(uffd);
}

/* A protected lock stays as it is, too. */
static void call_robust_protected(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);
    struct robust_lock *lock = (struct robust_lock *)mem.addr;
    struct robust_list_head head = to_lock(lock);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len,
                                UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP, NULL),
             0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    lock->link.next = &head.list;
    end_in((struct ending){&head, &lock->word, uffd, mem.addr});
    CHECK(lock->word != 0);
    CHECK_EQ(lock->word & FUTEX_OWNER_DIED, 0);
    uffd_check_silent(uffd);
    close(uffd);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_futex_cases[] = {
    {"call/futex-words", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_futex_words},
    {"call/futex-woken", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_futex_woken},
    {"call/robust-lists", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_robust_lists},
    {"call/robust-protected", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_robust_protected},
    {.id = NULL},
};
