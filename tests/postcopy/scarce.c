/* SPDX-License-Identifier: MIT */
/*
 * From the moment on when the program stops nothing more is to be had: no thread, no descriptor, no
 * memory. That is no time to fail, for no program could go on. Calls of the engine's come here
 * first. A source and a sink, both in this process.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include <userfault/postcopy.h>

#include "move.h"
#include "next.h"

#define REFUSED 3 /* connections */
#define MORE    4 /* background links of a later one */

/* ---- in the library's place */

static _Atomic bool scarce;
static _Atomic unsigned refused;

static bool is_refused(int error)
{
    if (!atomic_load(&scarce))
        return false;
    atomic_fetch_add(&refused, 1);
    errno = error;
    return true;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*begin_at)(void *),
                   void *arg)
{
    static int (*_Atomic next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    if (!next)
        next = (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))next_of(
            "pthread_create");
    return is_refused(EAGAIN) ? EAGAIN : next(thread, how, begin_at, arg);
}

int eventfd(unsigned count, int flags)
{
    static int (*_Atomic next)(unsigned, int);

    if (!next)
        next = (int (*)(unsigned, int))next_of("eventfd");
    return is_refused(EMFILE) ? -1 : next(count, flags);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    static void *(*_Atomic next)(void *, size_t, int, int, int, off_t);

    if (!next)
        next = (void *(*)(void *, size_t, int, int, int, off_t))next_of("mmap");
    return is_refused(ENOMEM) ? MAP_FAILED : next(at, len, protection, flags, fd, offset);
}

/* NOLINTBEGIN(bugprone-reserved-identifier): the names by which the C library has its own */
extern void *__libc_malloc(size_t len);
extern void *__libc_calloc(size_t count, size_t len);
extern void *__libc_realloc(void *old, size_t len);

void *malloc(size_t len)
{
    return is_refused(ENOMEM) ? NULL : __libc_malloc(len);
}

void *calloc(size_t count, size_t len)
{
    return is_refused(ENOMEM) ? NULL : __libc_calloc(count, len);
}

void *realloc(void *old, size_t len)
{
    return is_refused(ENOMEM) ? NULL : __libc_realloc(old, len);
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* ---- */

static int stop_and_refuse(void *arg, const void **ret_blob, size_t *ret_len)
{
    *ret_blob = NULL; /* which takes memory; but without the sink says so in time */
    *ret_len = 0;
    atomic_store(&refused, 0);
    atomic_store(&scarce, true);
    return 0;
}

static void run_scarce(struct move *move, const char *name)
{
    move->how.stop = stop_and_refuse;
    move->how.verify = true;
    begin(move);
    run(move);
    atomic_store(&scarce, false);
    point(is_right(move), name);
    printf("# refused: %u\n", atomic_load(&refused));
}

static void check_links(void)
{
    struct move move = {.kind = MAP_PRIVATE, .how = {.rounds_max = 3}};

    run_scarce(&move, "a switch where nothing more is to be had");
    end(&move);
}

static void check_packed(void)
{
    struct move move = {.kind = MAP_SHARED,
                        .how = {.rounds_max = 1, .compression = UF_POSTCOPY_COMPRESS_ALWAYS}};

    run_scarce(&move, "pages that would go packed");
    end(&move);
}

/* ---- the only link */

static void check_one_link(void)
{
    struct move move = {.kind = MAP_PRIVATE, .how = {.stop = stop_and_refuse}};

    prepare(&move);
    for (unsigned i = 0; i < 2; i++) {
        hang_up(move.links[i].urgent.in);
        close(move.links[i].urgent.in);
        close(move.links[i].background[0].in);
        move.links[i].urgent = (struct uf_postcopy_link){-1, -1};
        move.links[i].background_count = 0;
    }
    if (pthread_create(&move.thread, NULL, run_sink, &move))
        abort();
    run(&move);
    atomic_store(&scarce, false);
    point(is_right(&move), "all of it over one link");
    end(&move);
}

/* ---- another connection, of more links than the first */

static struct uf_postcopy_links next_links[2];
static _Atomic unsigned attempts[2];

static void pair_more(void)
{
    pair_links(next_links);
    for (unsigned i = 1; i < MORE; i++)
        pair_link(&next_links[0].background[i], &next_links[1].background[i]);
    next_links[0].background_count = next_links[1].background_count = MORE;
}

static pthread_barrier_t both; /* come for a connection; then have new links */

/* Of each side, the source makes the links; what is left of an attempt is not used again. */
static int reconnect(unsigned side, struct uf_postcopy_links *links)
{
    unsigned attempt = atomic_fetch_add(&attempts[side], 1);

    pthread_barrier_wait(&both);
    if (side == 0) {
        if (attempt > 0) {
            close_links(&next_links[0]);
            close_links(&next_links[1]);
        }
        pair_more();
        atomic_store(&scarce, attempt + 1 < REFUSED);
    }
    pthread_barrier_wait(&both);
    *links = next_links[side];
    return 0;
}

static int reconnect_source(void *arg, int error, struct uf_postcopy_links *links)
{
    return reconnect(0, links);
}

static int reconnect_sink(void *arg, int error, struct uf_postcopy_links *links)
{
    return reconnect(1, links);
}

static int resume_and_break(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;

    each_link(&move->links[1], hang_up);
    return 0;
}

static void check_reconnected(void)
{
    struct move move = {.kind = MAP_PRIVATE,
                        .how = {.reconnect = reconnect_source, .bandwidth_bytes = 64 << 20},
                        .sink_how = {.reconnect = reconnect_sink, .resume = resume_and_break}};

    pthread_barrier_init(&both, NULL, 2);
    run_scarce(&move, "a connection for which there are no threads is no end: another one is made");
    point(move.sink_stats.recoveries == 1 && atomic_load(&attempts[0]) >= REFUSED,
          "as often as it takes");
    pthread_barrier_destroy(&both);
    close_links(&next_links[0]);
    close_links(&next_links[1]);
    end(&move);
}

int main(int argc, char **argv)
{
    if (!can_begin(argc, argv))
        return 0;
    check_links();
    check_packed();
    check_one_link();
    check_reconnected();
    printf("1..%d\n", points);
    return failed;
}
