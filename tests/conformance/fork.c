/* SPDX-License-Identifier: MIT */
/* fork and exec without UFFD_FEATURE_EVENT_FORK: the child's memory is in no context. */
#include <spawn.h>
#include <sys/syscall.h>

#include "harness.h"

struct family {
    struct mem mem;
    int uffd;
    char *source;
};

static int child_reads_zero(void *arg)
{
    struct family *f = arg;

    for (size_t n = 0; n < 4; n++) {
        volatile char *page = mem_page(&f->mem, n);
        if (n == 1 ? !pattern_holds((void *)page, 1) : *page != 0)
            return 1 + (int)n;
    }
    *mem_page(&f->mem, 2) = 5;
    return *mem_page(&f->mem, 2) == 5 ? 0 : 9;
}

static void child_is_unregistered(enum mem_kind kind)
{
    struct family f = {mem_map(kind, 4), uffd_open(0), source_new(1, 1)};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EQ(uffd_copy(f.uffd, mem_page(&f.mem, 1), f.source, page_size), 0);
    CHECK_EXITED(child_status(child_reads_zero, &f), 0);
    uffd_check_silent(f.uffd); /* none of them was told */
    CHECK(pattern_holds(mem_page(&f.mem, 1), 1));
    if (KIND(kind) & (ANON_PRIVATE | HUGETLB_PRIVATE)) {
        check_traps(f.uffd, mem_page(&f.mem, 2));
        check_traps(f.uffd, mem_page(&f.mem, 0));
    } else { /* the child's touches have filled the file, privately mapped or not */
        check_native(mem_page(&f.mem, 2), KIND(kind) & ANY_SHARED ? 5 : 0);
        check_native(mem_page(&f.mem, 0), 0);
    }
}

static int child_writes(void *arg)
{
    struct family *f = arg;

    memset(f->mem.addr, 7, f->mem.len);
    return 0;
}

static void parent_keeps(enum mem_kind kind)
{
    struct family f = {mem_map(kind, 4), uffd_open(0), source_new(1, 1)};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EQ(uffd_copy(f.uffd, f.mem.addr, f.source, page_size), 0);
    CHECK_EXITED(child_status(child_writes, &f), 0);
    CHECK(pattern_holds(f.mem.addr, 1)); /* private: what the child writes is the child's */
    *mem_page(&f.mem, 0) = 3;
    check_native(mem_page(&f.mem, 0), 3);
    CHECK_EQ(madvise(f.mem.addr, page_size, MADV_DONTNEED), 0);
    check_traps(f.uffd, f.mem.addr);
    if (KIND(kind) & (ANON_PRIVATE | HUGETLB_PRIVATE))
        check_traps(f.uffd, mem_page(&f.mem, 3));
    else /* before it copied the page, the child had the file fill it */
        check_native(mem_page(&f.mem, 3), 0);
}

static int child_touches_some(void *arg)
{
    struct family *f = arg;

    *mem_page(&f->mem, 0) = 4;
    return *mem_page(&f->mem, 1);
}

/* Shared memory is shared: what the child leaves missing is missing here. */
static void shared_with_child(enum mem_kind kind)
{
    struct family f = {mem_map(kind, 4), uffd_open(0), source_new(1, 1)};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EXITED(child_status(child_touches_some, &f), 0);
    check_native(mem_page(&f.mem, 0), 4);
    check_native(mem_page(&f.mem, 1), 0);
    check_traps(f.uffd, mem_page(&f.mem, 2));
    CHECK_EQ(uffd_copy(f.uffd, mem_page(&f.mem, 3), f.source, page_size), 0);
    CHECK_EQ(uffd_copy(f.uffd, mem_page(&f.mem, 0), f.source, page_size), -EEXIST);
}

static int child_closes(void *arg)
{
    struct family *f = arg;

    return close(f->uffd);
}

static void child_does_not_release(enum mem_kind kind)
{
    struct family f = {mem_map(MEM_ANON, 4), uffd_open(0), NULL};
    struct touch touch = {0};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    touch_start(&touch, f.mem.addr, false);
    uffd_next_fault(f.uffd, f.mem.addr, 0);
    CHECK_EXITED(child_status(child_closes, &f), 0);
    check_traps(f.uffd, mem_page(&f.mem, 1));
    CHECK(!touch_is_done(&touch));
    uffd_check_silent(f.uffd);
    CHECK_EQ(uffd_zero(f.uffd, f.mem.addr, page_size), 0);
    touch_join(&touch);
}

/* The child's copy of the descriptor keeps the parent's context, although the parent closes. */
static void child_holds_the_context(enum mem_kind kind)
{
    struct family f = {mem_map(MEM_ANON, 4), uffd_open(0), NULL};
    struct touch touch = {0};
    int gate[2];

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EQ(pipe(gate), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(gate[0]);
    touch_start(&touch, f.mem.addr, false);
    uffd_next_fault(f.uffd, f.mem.addr, 0);
    CHECK_EQ(close(f.uffd), 0);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(close(gate[1]), 0); /* the child ends, and with it the last descriptor */
    CHECK_EXITED(child_wait(pid), 0);
    CHECK_EQ(touch_join(&touch), 0);
}

static int child_own_context(void *arg)
{
    struct family *f = arg;
    struct family own = {f->mem, uffd_open(0), NULL};
    struct touch touch = {0};

    if (uffd_register(own.uffd, own.mem.addr, own.mem.len) != 0) /* nobody has it here */
        return 1;
    touch_start(&touch, mem_page(&own.mem, 2), true);
    uffd_next_fault(own.uffd, mem_page(&own.mem, 2), UF_PAGEFAULT_FLAG_WRITE);
    if (uffd_zero(own.uffd, mem_page(&own.mem, 2), page_size) != 0)
        return 2;
    touch_join(&touch);
    return *mem_page(&own.mem, 2) == 0x77 ? 0 : 3;
}

static void child_registers_anew(enum mem_kind kind)
{
    struct family f = {mem_map(kind, 4), uffd_open(0), NULL};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    check_traps(f.uffd, mem_page(&f.mem, 1));
    CHECK_EXITED(child_status(child_own_context, &f), 0);
    uffd_check_silent(f.uffd);
    check_traps(f.uffd, mem_page(&f.mem, 0));
}

/* fork in a process some of whose threads wait. */
static void fork_while_waiting(enum mem_kind kind)
{
    struct family f = {mem_map(kind, 4), uffd_open(0), source_new(1, 1)};
    struct touch read_one = {0}, unread = {0};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EQ(uffd_copy(f.uffd, mem_page(&f.mem, 1), f.source, page_size), 0);
    touch_start(&read_one, mem_page(&f.mem, 0), false);
    uffd_next_fault(f.uffd, mem_page(&f.mem, 0), 0);
    touch_start(&unread, mem_page(&f.mem, 3), false);
    uffd_await(f.uffd);
    CHECK_EXITED(child_status(child_reads_zero, &f), 0);
    CHECK(!touch_is_done(&read_one) && !touch_is_done(&unread));
    uffd_next_fault(f.uffd, mem_page(&f.mem, 3), 0);
    uffd_check_silent(f.uffd);
    int first = uffd_zero(f.uffd, mem_page(&f.mem, 0), page_size);
    int last = uffd_zero(f.uffd, mem_page(&f.mem, 3), page_size);
    if (KIND(kind) & ANY_SHARED) { /* the child was quicker */
        CHECK_EQ(first, -EEXIST);
        CHECK_EQ(last, -EEXIST);
        CHECK_EQ(uffd_wake(f.uffd, f.mem.addr, f.mem.len), 0);
    } else {
        CHECK_EQ(first, 0);
        CHECK_EQ(last, 0);
    }
    CHECK_EQ(touch_join(&read_one), 0);
    CHECK_EQ(touch_join(&unread), 0);
}

static int grandchild(void *arg)
{
    return child_status(child_reads_zero, arg) == 0 ? 0 : 1;
}

static void fork_twice(enum mem_kind kind)
{
    struct family f = {mem_map(MEM_ANON, 4), uffd_open(0), source_new(1, 1)};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EQ(uffd_copy(f.uffd, mem_page(&f.mem, 1), f.source, page_size), 0);
    for (int i = 0; i < 20; i++)
        CHECK_EXITED(child_status(grandchild, &f), 0);
    check_traps(f.uffd, mem_page(&f.mem, 3));
}

/* Advice about fork keeps its meaning, for pages that were there and for those that come later. */
static int child_wiped(void *arg)
{
    struct family *f = arg;

    return touch_caught(mem_page(&f->mem, 0), false, NULL) == SIGSEGV &&
                   touch_caught(mem_page(&f->mem, 4), false, NULL) == SIGSEGV &&
                   *mem_page(&f->mem, 1) == 0 && *mem_page(&f->mem, 2) == 0 &&
                   *mem_page(&f->mem, 3) == 0 && pattern_holds(mem_page(&f->mem, 6), 3)
               ? 0
               : 1;
}

static void fork_advice(enum mem_kind kind)
{
    struct family f = {mem_map(MEM_ANON, 8), uffd_open(0), source_new(3, 1)};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EQ(uffd_copy(f.uffd, f.mem.addr, f.source, 2 * page_size), 0);
    CHECK_EQ(madvise(mem_page(&f.mem, 0), page_size, MADV_DONTFORK), 0);
    CHECK_EQ(madvise(mem_page(&f.mem, 1), 3 * page_size, MADV_WIPEONFORK), 0);
    CHECK_EQ(madvise(mem_page(&f.mem, 4), 3 * page_size, MADV_DONTFORK), 0);
    CHECK_EQ(madvise(mem_page(&f.mem, 6), page_size, MADV_DOFORK), 0);
    CHECK_EQ(uffd_copy(f.uffd, mem_page(&f.mem, 3), f.source, page_size), 0);
    for (size_t n = 4; n < 7; n++)
        CHECK_EQ(uffd_copy(f.uffd, mem_page(&f.mem, n), f.source + (n - 4) * page_size, page_size),
                 0);
    CHECK_EXITED(child_status(child_wiped, &f), 0);
    CHECK(pattern_holds(mem_page(&f.mem, 3), 1));
    CHECK(pattern_holds(mem_page(&f.mem, 4), 1));
    CHECK(pattern_holds(mem_page(&f.mem, 0), 1));
    CHECK(pattern_holds(mem_page(&f.mem, 1), 2));
    check_traps(f.uffd, mem_page(&f.mem, 2));
    check_traps(f.uffd, mem_page(&f.mem, 7));
}

/* ------------------------------------------------------------------ the inherited descriptor */

static int child_copies(void *arg)
{
    struct family *f = arg;

    return -uffd_copy(f->uffd, f->mem.addr, f->source, page_size);
}

/* An operation on another process: the parent's page is filled. */
static void child_resolves(enum mem_kind kind)
{
    struct family f = {mem_map(MEM_ANON, 1), uffd_open(0), source_new(1, 1)};
    struct touch touch = {0};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    touch_start(&touch, f.mem.addr, false);
    uffd_next_fault(f.uffd, f.mem.addr, 0);
    CHECK_EXITED(child_status(child_copies, &f), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)f.source[0]);
}

/* ------------------------------------------------------------------ exec and exit */

static void spawn_and_system(enum mem_kind kind)
{
    struct family f = {mem_map(MEM_ANON, 4), uffd_open(0), NULL};
    char *args[] = {"true", NULL};
    struct touch touch = {0};
    pid_t pid;

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    touch_start(&touch, f.mem.addr, false);
    uffd_next_fault(f.uffd, f.mem.addr, 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(posix_spawnp(&pid, "true", NULL, NULL, args, environ), 0);
        CHECK_EXITED(child_wait(pid), 0);
        CHECK_EXITED(system("exit 3"), 3);
    }
    FILE *pipe = popen("echo ok", "r");
    char line[8] = "";
    CHECK(pipe != NULL && fgets(line, sizeof(line), pipe) != NULL);
    CHECK_EQ(strcmp(line, "ok\n"), 0);
    pclose(pipe);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_zero(f.uffd, f.mem.addr, page_size), 0);
    touch_join(&touch);
    check_traps(f.uffd, mem_page(&f.mem, 3));
}

static int exec_while_waiting(void *arg)
{
    struct family f = {mem_map(MEM_ANON, 1), uffd_open(0), NULL};
    struct touch touch = {0};

    if (uffd_register(f.uffd, f.mem.addr, f.mem.len) != 0)
        return 1;
    touch_start(&touch, f.mem.addr, false);
    uffd_await(f.uffd);
    if (arg)
        _exit(42);
    execlp("sh", "sh", "-c", "exit 43", NULL);
    return 2;
}

static void *last_thread_main(void *arg)
{
    volatile char *page = arg;

    _exit(*page + 44); /* the process's own main thread is gone by then */
}

static int main_thread_exits(void *arg)
{
    struct family f = {mem_map(MEM_ANON, 1), uffd_open(0), NULL};
    static struct pager pager;
    pthread_t thread;

    if (uffd_register(f.uffd, f.mem.addr, f.mem.len) != 0)
        return 1;
    if (pthread_create(&thread, NULL, last_thread_main, f.mem.addr) != 0)
        return 2;
    uffd_await(f.uffd);
    pager_start(&pager, f.uffd, f.mem.addr, f.mem.len, (uint64_t)-1); /* pattern 0: zeroes */
    pthread_exit(NULL);
}

static void ends_while_waiting(enum mem_kind kind)
{
    CHECK_EXITED(child_status(exec_while_waiting, NULL), 43);
    CHECK_EXITED(child_status(exec_while_waiting, ""), 42);
    CHECK_EXITED(child_status(main_thread_exits, NULL), 44);
}

static int child_copies_over(void *arg)
{
    struct family *f = arg;
    int uffd = uffd_open(0);
    int64_t done;

    if (uffd_register(uffd, f->mem.addr, f->mem.len) != 0)
        return 1;
    if (uffd_copy_mode(uffd, f->mem.addr, f->source, 3 * page_size, 0, &done) != -EAGAIN)
        return 2;
    return done == (int64_t)page_size ? 0 : 3;
}

/* Memory of which a part was filled is one mapping, in the child, too. */
static void child_has_one_mapping(enum mem_kind kind)
{
    struct family f = {mem_map(kind, 4), uffd_open(0), source_new(3, 1)};

    CHECK_EQ(uffd_register(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EQ(uffd_copy(f.uffd, mem_page(&f.mem, 1), f.source, page_size), 0);
    CHECK_EXITED(child_status(child_copies_over, &f), 0);
}

#define RST_FORK "rst: Non-cooperative userfaultfd, fork"
#define MAN_EXEC "execve(2)"

const struct conf_case fork_cases[] = {
    {"fork/child-is-unregistered", RST_FORK, EVERY_KIND | HUGETLB, .run = child_is_unregistered},
    {"fork/parent-keeps", RST_FORK, EVERY_PRIVATE | HUGETLB_PRIVATE, .run = parent_keeps},
    {"fork/shared-with-child", RST_FORK, SHARED | HUGETLB_SHARED, .run = shared_with_child},
    {"fork/child-closes", RST_FORK, .run = child_does_not_release},
    {"fork/child-holds-the-context", RST_FORK, .run = child_holds_the_context},
    {"fork/child-registers-anew", RST_FORK, EVERY_PRIVATE | HUGETLB_PRIVATE,
     .run = child_registers_anew},
    {"fork/child-has-one-mapping", RST_FORK, EVERY_KIND | HUGETLB, .run = child_has_one_mapping},
    {"fork/while-waiting", RST_FORK, ONE_OF_EACH | HUGETLB_OF_EACH, .run = fork_while_waiting},
    {"fork/again-and-again", RST_FORK, .run = fork_twice},
    {"fork/advice", "madvise(2)", .run = fork_advice},
    {"fork/child-resolves", RST_FORK, .run = child_resolves},
    {"exec/spawn-and-system", MAN_EXEC, .run = spawn_and_system},
    {"exec/ends-while-waiting", MAN_EXEC, .run = ends_while_waiting},
    {.id = NULL},
};
