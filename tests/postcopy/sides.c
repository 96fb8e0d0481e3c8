/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../pool.h"
#include "links.h"
#include "sides.h"

#define THREADS    2
#define LAST       16 /* pages */
#define PAUSE_NS   1000000
#define LINKS_MAX  (2 + UF_POSTCOPY_BACKGROUND_MAX)
#define STATE      100000 /* bytes */
#define GIVE_UP    'g'
#define TAKE_THESE 't'

/* What both processes see: the memory as it was when the source stopped, then as the sink's program
 * has changed it. */
static char *want;
static const struct sides_how *how;
static struct sides_told *told; /* of each side */
static char *start[SIDES_REGIONS];
static int line;
static struct uf_source *source;
static struct uf_postcopy_tls *credentials; /* NULL: none */

static void die(const char *what)
{
    perror(what);
    _exit(WRONG);
}

static size_t pages(void)
{
    return how->pages[0] + how->pages[1];
}

static char *page_at(size_t page)
{
    return page < how->pages[0] ? start[0] + page * how->page
                                : start[1] + (page - how->pages[0]) * how->page;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 17;
}

static char *map(size_t bytes, bool shared, bool huge)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_ANONYMOUS | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE) |
                        (huge ? MAP_HUGETLB : 0),
                    -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

static void map_regions(void)
{
    for (int i = 0; i < SIDES_REGIONS; i++) {
        start[i] = map(how->pages[i] * how->page, how->shared, how->huge);
        if (!start[i])
            _exit(77);
    }
}

/* ---- links, asked for */

static void take_credentials(int side)
{
    struct uf_postcopy_tls_options options = {
        .server = side == 1, .psk_file = how->psk_file, .psk_identity = side ? NULL : "test"};
    int ret = how->psk_file ? uf_postcopy_tls_new(&credentials, &options, NULL) : 0;

    if (ret)
        _exit(ret == -EOPNOTSUPP ? 77 : WRONG);
}

static void put_links(struct uf_postcopy_links *links, const int *fds)
{
    *links = (struct uf_postcopy_links){.control = {fds[0], fds[0]},
                                        .urgent = {fds[1], fds[1]},
                                        .background_count = how->background};
    links->tls = credentials;
    for (unsigned i = 0; i < how->background; i++)
        links->background[i] = (struct uf_postcopy_link){fds[2 + i], fds[2 + i]};
}

static int receive_links(int *fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int[LINKS_MAX]))];
        struct cmsghdr align;
    } control;
    char word;
    struct iovec part = {&word, 1};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    const struct cmsghdr *head;
    int passed[LINKS_MAX];
    unsigned taken = 0;

    if (recvmsg(line, &msg, MSG_CMSG_CLOEXEC) != 1 || word == GIVE_UP)
        return -ECONNABORTED;
    head = CMSG_FIRSTHDR(&msg);
    memcpy(passed, CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
    for (unsigned i = 0; i < sides_links(how); i++)
        fds[i] = i == 1 && !how->urgent ? -1 : passed[taken++];
    return 0;
}

static int reconnect(void *arg, int error, struct uf_postcopy_links *links)
{
    int fds[LINKS_MAX], ret;

    close_links(links);
    if (source && how->cancels)
        uf_source_cancel(source);
    if (error >= 0 || send(line, &error, sizeof(error), MSG_NOSIGNAL) != sizeof(error))
        return -EPIPE;
    ret = receive_links(fds);
    if (ret == 0)
        put_links(links, fds);
    return ret;
}

static void tell(int side, int result, const struct uf_postcopy_stats *stats, const char *words)
{
    told[side] = (struct sides_told){.stats = *stats, .result = result};
    snprintf(told[side].words, sizeof(told[side].words), "%s", words);
}

/* ---- the source */

static _Atomic bool stopping;
static char *kept; /* at stop() */
static pthread_t threads[THREADS];

static void write_one(uint64_t *random)
{
    uint64_t r = next_random(random);
    char *page = page_at(r % pages());

    memcpy(page + r % (how->page / 8) * 8, &r, sizeof(r));
    if (r % 32 == 0)
        memset(page, 0, how->page);
}

static void *write_pages(void *arg)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    uint64_t random = (uintptr_t)arg;

    for (unsigned n = 0; !stopping; n++) {
        if (how->burst && n % how->burst == 0) /* a rate, and nothing that is waited for */
            nanosleep(&pause, NULL);
        write_one(&random);
    }
    return NULL;
}

static void start_threads(void *(*routine)(void *arg))
{
    for (uintptr_t i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, routine, (void *)i))
            die("pthread_create");
    }
}

static void join_threads(void)
{
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

/* Behind the last round, whether the writers had a processor then or not: something is discarded.
 */
static void write_last(void)
{
    uint64_t random = THREADS;

    for (size_t i = 0; i < LAST && i < pages(); i++)
        ++*page_at(i);
    for (unsigned n = 0; n < how->last; n++)
        write_one(&random);
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    static char state[STATE];

    stopping = true;
    if (how->rounds) {
        join_threads();
        write_last();
    }
    kept = malloc(pages() * how->page);
    if (!kept)
        die("malloc");
    for (size_t i = 0; i < pages(); i++)
        memcpy(kept + i * how->page, page_at(i), how->page);
    memcpy(want, kept, pages() * how->page);
    memset(state, 's', sizeof(state));
    *ret_blob = state;
    *ret_len = sizeof(state);
    return 0;
}

static int run_source(const struct uf_postcopy_links *links)
{
    struct uf_source_options options = {.backend = how->backend,
                                        .rounds_max = how->rounds,
                                        .downtime_ms = how->downtime_ms,
                                        .bandwidth_bytes = how->bandwidth,
                                        .verify = true,
                                        .stop = stop,
                                        .reconnect = reconnect,
                                        .handshake_ms = how->handshake_ms,
                                        .silence_ms = how->silence_ms};
    struct uf_postcopy_stats stats;
    uint64_t random = 7;
    int ret;

    map_regions();
    for (size_t i = 0; i < pages(); i++) { /* a fifth is zero, and long stretches are */
        for (size_t at = 0; i % 5 && i % 64 < 48 && at < how->page; at += 8) {
            uint64_t r = next_random(&random);

            memcpy(page_at(i) + at, &r, 8);
        }
    }
    ret = uf_source_new(&source, &options);
    for (int i = 0; ret == 0 && i < SIDES_REGIONS; i++)
        ret = uf_source_region(source, start[i], how->pages[i] * how->page, how->page);
    if (ret)
        return WRONG;
    if (how->rounds)
        start_threads(write_pages);
    ret = uf_source_run(source, links);
    if (ret == -EPERM || ret == -ENOSYS)
        return 77;
    uf_source_stats(source, &stats);
    tell(0, ret, &stats, uf_source_error(source));
    for (size_t i = 0; stopping && i < pages(); i++) {
        if (memcmp(page_at(i), kept + i * how->page, how->page))
            return WRONG;
    }
    if (ret && !*uf_source_error(source))
        return WRONG;
    if ((stats.recoveries > 0) > (stats.paused_ns > 0))
        return WRONG;
    ret = ret == 0 ? ALL_RIGHT : uf_source_switched(source) ? BEHIND_SWITCH : BEFORE_SWITCH;
    uf_source_free(source);
    return ret;
}

/* ---- the sink */

static __thread sigjmp_buf bus;
static _Atomic bool resumed, wrong;
static bool *lost; /* a page each */

static void on_bus(int sig)
{
    siglongjmp(bus, 1);
}

/* Each page is of one thread: compared, changed, and the change written down. */
static void use_page(size_t page)
{
    char *at = page_at(page), *should = want + page * how->page;

    if (sigsetjmp(bus, 1)) {
        lost[page] = true;
        return;
    }
    if (memcmp(at, should, how->page)) {
        wrong = true;
        return;
    }
    at[page % how->page] ^= 1;
    should[page % how->page] ^= 1;
}

static void *use_pages(void *arg)
{
    size_t index = (uintptr_t)arg, count = pages();

    for (size_t i = 0; i < count; i++) {
        size_t page = (i * 7 + index * count / THREADS) % count;

        if (page % THREADS == index)
            use_page(page);
    }
    return NULL;
}

static int resume(void *arg, const void *blob, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (((const char *)blob)[i] != 's')
            wrong = true;
    }
    if (len != STATE || resumed)
        wrong = true;
    resumed = true;
    start_threads(use_pages);
    return 0;
}

/* What is said to be lost is what its readers could not have. */
static bool lost_as_said(const struct uf_sink *sink)
{
    for (size_t i = 0; i < pages(); i++) {
        unsigned region = i >= how->pages[0];
        size_t offset = (i - (region ? how->pages[0] : 0)) * how->page, at;
        bool said = uf_sink_lost(sink, region, offset, &at) > 0 && at == offset;

        if (said != lost[i])
            return false;
    }
    return true;
}

static bool counted_right(const struct uf_sink *sink)
{
    struct uf_postcopy_thread who[256];
    struct uf_postcopy_stats stats;
    unsigned count = uf_sink_threads(sink, who, 256);
    uint64_t blocked_ns = 0, pages_lost = 0;

    uf_sink_stats(sink, &stats);
    for (unsigned i = 0; i < count; i++)
        blocked_ns += who[i].blocked_ns;
    for (size_t i = 0; i < pages(); i++)
        pages_lost += lost[i];
    return count <= THREADS && blocked_ns == stats.blocked_ns && pages_lost == stats.pages_lost &&
           (stats.recoveries > 0) <= (stats.paused_ns > 0);
}

static int run_sink(const struct uf_postcopy_links *links)
{
    struct uf_sink_options options = {.backend = how->backend,
                                      .resume = resume,
                                      .reconnect = reconnect,
                                      .handshake_ms = how->handshake_ms,
                                      .silence_ms = how->silence_ms};
    struct uf_postcopy_stats stats;
    struct uf_sink *sink;
    int ret;

    signal(SIGBUS, on_bus);
    map_regions();
    lost = calloc(pages(), sizeof(*lost));
    ret = uf_sink_new(&sink, &options);
    for (int i = 0; ret == 0 && i < SIDES_REGIONS; i++)
        ret = uf_sink_region(sink, start[i], how->pages[i] * how->page, how->page);
    if (ret || !lost)
        return WRONG;
    ret = uf_sink_run(sink, links);
    if (resumed)
        join_threads();
    uf_sink_stats(sink, &stats);
    tell(1, ret, &stats, uf_sink_error(sink));
    for (size_t i = 0; ret == 0 && i < pages(); i++)
        wrong = wrong || lost[i] || memcmp(page_at(i), want + i * how->page, how->page);
    if (wrong || (ret == 0 && !resumed) || (ret && !*uf_sink_error(sink)) ||
        resumed != uf_sink_switched(sink) || !lost_as_said(sink) || !counted_right(sink))
        return WRONG;
    ret = ret == 0 ? ALL_RIGHT : resumed ? BEHIND_SWITCH : BEFORE_SWITCH;
    uf_sink_free(sink);
    return ret;
}

/* ---- seen from the test */

/* Pairs of sockets: ours, and theirs. */
static void make_pairs(int *ours, int *theirs)
{
    for (unsigned i = 0; i < sides_links(how); i++) {
        int fds[2] = {-1, -1};

        if ((i != 1 || how->urgent) && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
            die("socketpair");
        ours[i] = fds[0];
        theirs[i] = fds[1];
    }
}

static void close_all(const int *fds)
{
    for (unsigned i = 0; i < sides_links(how); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

/* ours: the other ends, if the test has them; NULL. */
static void start_side(struct sides *sides, int side, int *const *ours, int *const *theirs)
{
    struct uf_postcopy_links links;
    int lines[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, lines))
        die("socketpair");
    fflush(stdout);
    sides->pid[side] = fork();
    if (sides->pid[side] < 0)
        die("fork");
    if (sides->pid[side]) {
        sides->line[side] = lines[0];
        close(lines[1]);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pool_forget();
    line = lines[1];
    close(lines[0]);
    if (side == 1)
        close(sides->line[0]);
    if (ours) {
        close_all(ours[0]);
        close_all(ours[1]);
    }
    close_all(theirs[!side]);
    take_credentials(side);
    put_links(&links, theirs[side]);
    alarm(SIDES_PATIENCE);
    _exit(side ? run_sink(&links) : run_source(&links));
}

static void map_shared(void)
{
    static size_t bytes;

    if (want)
        munmap(want, bytes);
    bytes = pages() * how->page;
    want = map(bytes, true, false);
    told = told ? told : (void *)map(2 * sizeof(*told), true, false);
    if (!want || !told)
        die("mmap");
    memset(told, 0, 2 * sizeof(*told));
}

static void start_sides(struct sides *sides, int *const *ours, int *const *theirs)
{
    map_shared();
    for (int side = 0; side < 2; side++)
        start_side(sides, side, ours, theirs);
    for (int side = 0; side < 2; side++)
        close_all(theirs[side]);
}

bool sides_start(struct sides *sides, const struct sides_how *with, int *ret_ends[2])
{
    int fds[2][LINKS_MAX], *theirs[2] = {fds[0], fds[1]};

    how = with;
    for (int side = 0; side < 2; side++)
        make_pairs(ret_ends[side], theirs[side]);
    start_sides(sides, ret_ends, theirs);
    return true;
}

void sides_start_over(struct sides *sides, const struct sides_how *with, int *theirs[2])
{
    how = with;
    start_sides(sides, NULL, theirs);
}

int sides_await(const struct sides *sides, int side)
{
    struct pollfd fd = {.fd = sides->line[side], .events = POLLIN};
    int error;

    if (poll(&fd, 1, SIDES_PATIENCE * 1000) <= 0)
        return 1; /* it hangs: its alarm is about to end it */
    return recv(sides->line[side], &error, sizeof(error), 0) == sizeof(error) ? error : 0;
}

void sides_answer(const struct sides *sides, const struct sides_how *with, int side, int *ret_ends)
{
    int theirs[LINKS_MAX];

    how = with;
    if (ret_ends)
        make_pairs(ret_ends, theirs);
    sides_answer_over(sides, with, side, ret_ends ? theirs : NULL);
}

void sides_answer_over(const struct sides *sides, const struct sides_how *with, int side,
                       int *theirs)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int[LINKS_MAX]))];
        struct cmsghdr align;
    } control = {0};
    char word = theirs ? TAKE_THESE : GIVE_UP;
    struct iovec part = {&word, 1};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    int passed[LINKS_MAX] = {0};
    unsigned count = 0;

    how = with;
    if (theirs) {
        for (unsigned i = 0; i < sides_links(how); i++) {
            if (theirs[i] >= 0)
                passed[count++] = theirs[i];
        }
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(&control.align), passed, count * sizeof(int));
    }
    sendmsg(sides->line[side], &msg, MSG_NOSIGNAL); /* who is gone needs none */
    if (theirs)
        close_all(theirs);
}

const char *sides_key(void)
{
    static const char key[] = "test:00112233445566778899aabbccddeeff\n";
    static char path[64];
    int fd = memfd_create("key", 0);

    if (fd < 0 || write(fd, key, strlen(key)) != (ssize_t)strlen(key))
        die("a key");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return path;
}

const struct sides_told *sides_told(int side)
{
    return &told[side];
}

int sides_end(const struct sides *sides, int side)
{
    int status;

    if (waitpid(sides->pid[side], &status, 0) < 0)
        die("waitpid");
    close(sides->line[side]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
