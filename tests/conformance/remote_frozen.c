/* SPDX-License-Identifier: MIT */
/*
 * The process of the memory is stopped, and whatever serves for it as well, as in a container that
 * is paused. The kernel's facility serves it all the same; ours says EAGAIN until it goes on.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "monitored.h"
#include "stopping.h"

#define MANY 8 /* threads: more than a channel carries at once */

static pid_t server;

/* @waits: for a manager; of the kernel's facility that is a state of its own, which goes on */
static void freeze_who(const struct monitored *m, bool waits)
{
    CHECK_EQ(kill(m->pid, SIGSTOP), 0);
    if (!waits || conf_env.user_backend)
        await_state(m->pid, 'T');
    do {
        server = server_of(m->pid); /* which has begun, but perhaps has not come to its name */
    } while (!server && conf_env.user_backend);
    if (server) {
        CHECK_EQ(kill(server, SIGSTOP), 0);
        await_state(server, 'T');
    }
}

static void freeze(const struct monitored *m)
{
    freeze_who(m, false);
}

static void thaw(const struct monitored *m)
{
    CHECK_EQ(kill(m->pid, SIGCONT), 0);
    if (server)
        CHECK_EQ(kill(server, SIGCONT), 0);
}

static void finish(const struct monitored *m)
{
    tell(m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m->pid), 0);
}

/* As who is told to try again, which may be on a busy machine, too; it may be done by then. */
static int copy_until(int uffd, char *page, const char *source)
{
    bool again = false;
    int ret;

    while ((ret = uffd_copy(uffd, page, source, page_size)) == -EAGAIN)
        again = true;
    return again && ret == -EEXIST ? 0 : ret;
}

static void serve_page(const struct monitored *m, uint32_t page, char *source)
{
    tell(m, ORDER_READ, page);
    uffd_next_fault(m->uffd, mem_page(&m->mem, page), 0);
    CHECK_EQ(copy_until(m->uffd, mem_page(&m->mem, page), source), 0);
    CHECK_EQ(answer_of(m), (unsigned char)*source);
}

/* One that is known already. Return: a page to copy */
static char *begin(struct monitored *m, enum mem_kind kind)
{
    char *source = source_new(1, 1);

    monitored_start(m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_page(m, 2, source);
    return source;
}

/* Ours says that nothing is done, and has done nothing. */
static void check_late_copy(const struct monitored *m, uint32_t page, const char *source)
{
    int64_t copied = 0;
    int ret = uffd_copy_mode(m->uffd, mem_page(&m->mem, page), source, page_size, 0, &copied);

    CHECK_EQ(ret, conf_env.user_backend ? -EAGAIN : 0);
    CHECK_EQ(copied, conf_env.user_backend ? -EAGAIN : (int64_t)page_size);
}

static void check_read(const struct monitored *m, uint32_t page, const char *source)
{
    tell(m, ORDER_READ, page);
    CHECK_EQ(answer_of(m), (unsigned char)*source);
}

/* Nobody waits for the page; it is there when the process has gone on, and what follows is too. */
static void copies(enum mem_kind kind)
{
    struct monitored m;
    char *source = begin(&m, kind);

    for (uint32_t page = 0; page < 2; page++) {
        freeze(&m);
        check_late_copy(&m, page, source);
        thaw(&m);
        CHECK_EQ(copy_until(m.uffd, mem_page(&m.mem, page), source),
                 conf_env.user_backend ? 0 : -EEXIST);
        check_read(&m, page, source);
    }
    serve_page(&m, 3, source);
    finish(&m);
}

/* A thread waits for it: what is answered to the manager is what becomes of the page. */
static void resolves(enum mem_kind kind)
{
    struct monitored m;
    char *source = begin(&m, kind);

    for (uint32_t page = 0; page < 2; page++) {
        tell(&m, ORDER_READ, page);
        uffd_next_fault(m.uffd, mem_page(&m.mem, page), 0);
        freeze(&m);
        int ret = uffd_copy(m.uffd, mem_page(&m.mem, page), source, page_size);
        CHECK(ret == 0 || (ret == -EAGAIN && conf_env.user_backend));
        thaw(&m);
        if (ret == -EAGAIN)
            CHECK_EQ(copy_until(m.uffd, mem_page(&m.mem, page), source), 0);
        CHECK_EQ(answer_of(&m), (unsigned char)*source);
    }
    finish(&m);
}

/* The manager has never asked it for anything. */
static void hello(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    freeze(&m);
    check_late_copy(&m, 0, source);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(uffd_wake(m.uffd, m.mem.addr, m.mem.len), 0);
    uffd_check_silent(m.uffd);
    thaw(&m);
    CHECK_EQ(copy_until(m.uffd, mem_page(&m.mem, 0), source), conf_env.user_backend ? 0 : -EEXIST);
    check_read(&m, 0, source);
    serve_page(&m, 2, source);
    finish(&m);
}

/* It has asked for nothing, and closes its descriptor again. */
static void hello_closed(enum mem_kind kind)
{
    struct monitored m;
    char byte;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    freeze(&m);
    CHECK_EQ(uffd_wake(m.uffd, m.mem.addr, m.mem.len), 0);
    CHECK_EQ(close(m.uffd), 0);
    thaw(&m);
    tell(&m, ORDER_CLOSE, 0);
    CHECK_EQ(answer_of(&m), 0);
    tell(&m, ORDER_READ, 0); /* the last close: nobody waits */
    CHECK_EQ(answer_of(&m), 0);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EQ(read(m.sock, &byte, 1), 0);
    CHECK_EXITED(child_wait(m.pid), 0);
}

/* Nothing to be read, several times; what comes later is told. */
static void reads_nothing(enum mem_kind kind)
{
    struct monitored m;
    char *source = begin(&m, kind);

    freeze(&m);
    uffd_check_silent(m.uffd);
    uffd_check_silent(m.uffd);
    thaw(&m);
    serve_page(&m, 3, source);
    finish(&m);
}

/* A message is there that only its process has: it is told when that goes on, and once. */
static void reads_later(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    struct uf_msg msg;
    ssize_t n;

    monitored_start(&m, kind, UF_FEATURE_EVENT_REMOVE, UF_REGISTER_MODE_MISSING);
    serve_page(&m, 2, source);
    tell(&m, ORDER_DROP, 2);
    uffd_await(m.uffd);
    freeze_who(&m, true);
    n = read(m.uffd, &msg, sizeof(msg));
    if (conf_env.user_backend)
        CHECK(n == -1 && errno == EAGAIN);
    thaw(&m);
    msg = n == -1 ? uffd_next(m.uffd) : msg;
    CHECK_EQ(msg.event, UF_EVENT_REMOVE);
    CHECK_EQ(msg.arg.remove.start, (uintptr_t)mem_page(&m.mem, 2));
    CHECK_EQ(answer_of(&m), 0);
    serve_page(&m, 3, source);
    finish(&m);
}

static void *read_blocking(void *arg)
{
    const struct monitored *m = arg;
    struct uf_msg msg;

    CHECK_EQ(read(m->uffd, &msg, sizeof(msg)), sizeof(msg));
    CHECK_EQ(msg.event, UF_EVENT_PAGEFAULT);
    CHECK_EQ(msg.arg.pagefault.address, (uintptr_t)mem_page(&m->mem, 3));
    return NULL;
}

/* Who waits for a message goes on waiting. */
static void reads_blocking(enum mem_kind kind)
{
    struct monitored m;
    char *source = begin(&m, kind);
    pthread_t thread;

    CHECK_EQ(fcntl(m.uffd, F_SETFL, 0), 0);
    freeze(&m);
    CHECK_EQ(pthread_create(&thread, NULL, read_blocking, &m), 0);
    check_late_copy(&m, 0, source);
    thaw(&m);
    tell(&m, ORDER_READ, 3);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(copy_until(m.uffd, mem_page(&m.mem, 3), source), 0);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    finish(&m);
}

struct asker {
    const struct monitored *m;
    const char *source;
    uint32_t page;
    pthread_t thread;
};

static void *ask_late(void *arg)
{
    const struct asker *asker = arg;

    check_late_copy(asker->m, asker->page, asker->source);
    return NULL;
}

/* More threads than there are ways to ask: nobody hangs, and each one's page is done afterwards. */
static void many(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct asker askers[MANY];
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(uffd_wake(m.uffd, m.mem.addr, m.mem.len), 0);
    freeze(&m);
    for (uint32_t i = 0; i < MANY; i++) {
        askers[i] = (struct asker){&m, source, i, 0};
        CHECK_EQ(pthread_create(&askers[i].thread, NULL, ask_late, &askers[i]), 0);
    }
    for (uint32_t i = 0; i < MANY; i++)
        CHECK_EQ(pthread_join(askers[i].thread, NULL), 0);
    thaw(&m);
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_EQ(copy_until(m.uffd, mem_page(&m.mem, i), source),
                 conf_env.user_backend ? 0 : -EEXIST);
        check_read(&m, i, source);
    }
    finish(&m);
}

/* What else may be asked for meanwhile, and again. */
static void others(enum mem_kind kind)
{
    struct monitored m;
    char *page;
    int ret;

    begin(&m, kind);
    page = mem_page(&m.mem, 4);
    freeze(&m);
    CHECK_EQ(uffd_unregister(m.uffd, page, page_size), conf_env.user_backend ? -EAGAIN : 0);
    CHECK_EQ(uffd_register(m.uffd, page, page_size), conf_env.user_backend ? -EAGAIN : 0);
    CHECK_EQ(uffd_zero(m.uffd, page, page_size), conf_env.user_backend ? -EAGAIN : 0);
    thaw(&m);
    while ((ret = uffd_zero(m.uffd, page, page_size)) == -EAGAIN) {
    }
    CHECK_EQ(ret, conf_env.user_backend ? 0 : -EEXIST);
    while ((ret = uffd_unregister(m.uffd, page, page_size)) == -EAGAIN) {
    }
    CHECK_EQ(ret, 0);
    while ((ret = uffd_register(m.uffd, page, page_size)) == -EAGAIN) {
    }
    CHECK_EQ(ret, 0);
    tell(&m, ORDER_READ, 4);
    CHECK_EQ(answer_of(&m), 0);
    finish(&m);
}

/* Nobody looks whether waking fails; wrong arguments are told all the same. */
static void wakes(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    char *page;
    int64_t copied;
    int ret;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    page = mem_page(&m.mem, 1);
    tell(&m, ORDER_READ, 1);
    uffd_next_fault(m.uffd, page, 0);
    while ((ret = uffd_copy_mode(m.uffd, page, source, page_size, UF_COPY_MODE_DONTWAKE,
                                 &copied)) == -EAGAIN) {
    }
    CHECK_EQ(ret, 0);
    freeze(&m);
    CHECK_EQ(uffd_wake(m.uffd, page, page_size), 0);
    CHECK_EQ(uffd_wake(m.uffd, page, page_size - 1), -EINVAL);
    thaw(&m);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    finish(&m);
}

/* Told to try again, it waits for a message: none comes but that it may. */
static void tells_again(enum mem_kind kind)
{
    struct monitored m;
    char *source = begin(&m, kind);
    struct uf_msg msg;

    freeze(&m);
    check_late_copy(&m, 0, source);
    uffd_check_silent(m.uffd);
    thaw(&m);
    uffd_await(m.uffd);
    CHECK_ERRNO(read(m.uffd, &msg, sizeof(msg)), EAGAIN);
    CHECK_EQ(copy_until(m.uffd, mem_page(&m.mem, 0), source), 0);
    finish(&m);
}

/* Only what serves for it has been killed: that begins again, when a thread waits. */
static void unserved(enum mem_kind kind)
{
    struct monitored m;
    char *source = begin(&m, kind);

    tell(&m, ORDER_READ, 3);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 3), 0);
    server = server_of(m.pid);
    CHECK_EQ(server != 0, conf_env.user_backend);
    if (server) {
        CHECK_EQ(kill(server, SIGKILL), 0);
        await_state(server, 'Z');
    }
    CHECK_EQ(copy_until(m.uffd, mem_page(&m.mem, 4), source), 0);
    CHECK_EQ(copy_until(m.uffd, mem_page(&m.mem, 3), source), 0);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    check_read(&m, 4, source);
    finish(&m);
}

/* It ends without having gone on: that is no more a matter of time. */
static void killed(enum mem_kind kind)
{
    struct monitored m;
    char *source = begin(&m, kind);

    freeze(&m);
    check_late_copy(&m, 0, source);
    CHECK_EQ(kill(m.pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(m.pid), SIGKILL);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 1), source, page_size), -ESRCH);
    CHECK_EQ(uffd_register(m.uffd, m.mem.addr, page_size), -ENOMEM);
    uffd_check_silent(m.uffd);
    if (server)
        CHECK_EQ(kill(server, SIGKILL), 0);
}

#define RST_OTHER "rst: Non-cooperative userfaultfd, an external manager"

const struct conf_case frozen_cases[] = {
    {"frozen/copy", RST_OTHER, ONE_OF_EACH, NEED_HASTE, .run = copies},
    {"frozen/resolve", RST_OTHER, ONE_OF_EACH, NEED_HASTE, .run = resolves},
    {"frozen/hello", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = hello},
    {"frozen/hello-closed", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = hello_closed},
    {"frozen/read-nothing", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = reads_nothing},
    {"frozen/read-later", RST_OTHER, ONE_OF_EACH, NEED_HASTE, UF_FEATURE_EVENT_REMOVE,
     .run = reads_later},
    {"frozen/read-blocking", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = reads_blocking},
    {"frozen/many", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = many},
    {"frozen/others", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = others},
    {"frozen/wake", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = wakes},
    /* The kernel's facility never puts anybody off. */
    {"frozen/told-again", RST_OTHER, KIND(MEM_ANON), NEED_HASTE | NEED_OURS, .run = tells_again},
    {"frozen/unserved", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = unserved},
    {"frozen/killed", RST_OTHER, KIND(MEM_ANON), NEED_HASTE, .run = killed},
    {.id = NULL},
};
