/* SPDX-License-Identifier: MIT */
/*
 * A side that is at a write which the other side, scripted, does not read: what that says on
 * control, or that it has gone, ends it at once, in the other side's words. So does what was said
 * before the links were closed, however the write ends.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "next.h"
#include "script.h"

#define PAGE      ((size_t)4096)
#define REGION    ((size_t)16 << 20) /* more than sockets take unread */
#define STATE     ((size_t)16 << 20)
#define ROOM      ((int)64 << 10) /* of a socket */
#define PATIENCE  20              /* seconds; who ends sooner is not waited for */
#define WORDS     "there is no room"
#define TOLD      "the other side failed: " WORDS
#define GAVE_UP   "the source gave up"
#define LINKS_MAX 4

enum over { UNIX, TCP, TLS };
/* What is written when the sink says it. */
enum amid { PAGES, LIMITED, STOPPING, STATE_OUT, SWITCHED };
/* Said, and the links stay; said, and they are closed; nothing said, and control is. */
enum end { SAYS, SAYS_AND_CLOSES, CLOSES };

struct way {
    const char *name;
    enum over over;
    unsigned background;
    bool urgent;
    enum amid amid;
    enum end end;
    bool asks; /* behind the switch for pages, more than it reads */
};

static const struct way *way;
static enum uf_backend backend;
static int ours[LINKS_MAX], theirs[LINKS_MAX]; /* as HELLO numbers them; -1: none */
static struct uf_postcopy_talk *talks[LINKS_MAX];
static struct uf_postcopy_tls *tls[2]; /* ours, theirs */
static char *memory, *state;
static struct uf_source *source;
static struct uf_sink *sink;
static _Atomic bool ended;   /* the source's thread */
static sem_t stopping, said; /* the program waits for the sink's words before it has stopped */
static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

/* ---- links */

static void connect_tcp(int *ret_ours, int *ret_theirs)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t len = sizeof(at);

    *ret_ours = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&at, &len) ||
        connect(*ret_ours, (struct sockaddr *)&at, len) ||
        (*ret_theirs = accept(listener, NULL, NULL)) < 0)
        abort();
    close(listener);
}

static void narrow(int fd)
{
    const int room = ROOM;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* all of a message goes */
}

static void make_links(struct uf_postcopy_links *ret)
{
    *ret = (struct uf_postcopy_links){.urgent = {-1, -1}, .background_count = way->background};
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        ours[i] = theirs[i] = -1;
        if (i == 1 ? !way->urgent : i >= 2 + way->background)
            continue;
        if (way->over == UNIX)
            script_pair(&ours[i], &theirs[i]);
        else
            connect_tcp(&ours[i], &theirs[i]);
        narrow(ours[i]);
        narrow(theirs[i]);
        *(i == 0   ? &ret->control
          : i == 1 ? &ret->urgent
                   : &ret->background[i - 2]) = (struct uf_postcopy_link){theirs[i], theirs[i]};
    }
    ret->tls = way->over == TLS ? tls[1] : NULL;
}

static void close_ours(void)
{
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        uf_postcopy_talk_free(talks[i]);
        talks[i] = NULL;
        if (ours[i] >= 0)
            close(ours[i]);
        ours[i] = -1;
    }
}

static void close_theirs(void)
{
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        if (theirs[i] >= 0)
            close(theirs[i]);
    }
}

static bool secure(void)
{
    char words[200] = "";
    int ret = 0;

    for (unsigned i = 0; ret == 0 && way->over == TLS && i < LINKS_MAX; i++) {
        struct uf_postcopy_link ends = {ours[i], ours[i]};

        if (ours[i] >= 0)
            ret = uf_postcopy_talk_new(&talks[i], &ends, tls[0], PATIENCE * 1000, words,
                                       sizeof(words));
    }
    if (ret)
        printf("# %s\n", words);
    return ret == 0;
}

/* The file is read again when hands are shaken. */
static void make_tls(void)
{
    static const char key[] = "test:00112233445566778899aabbccddeeff\n";
    const char *words;
    char path[64];
    int fd = memfd_create("key", 0);

    if (fd < 0 || write(fd, key, sizeof(key) - 1) != sizeof(key) - 1)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    for (int side = 0; side < 2; side++) {
        struct uf_postcopy_tls_options how = {
            .server = side == 0, .psk_file = path, .psk_identity = side ? "test" : NULL};

        if (uf_postcopy_tls_new(&tls[side], &how, &words))
            printf("# no TLS: %s\n", words);
    }
}

/* ---- the sink's script */

static void say(unsigned link, struct wire_header header, const char *payload)
{
    uint8_t bytes[WIRE_HEADER];

    if (!talks[link]) {
        script_say(ours[link], header, payload);
        return;
    }
    wire_encode(bytes, &header, payload);
    uf_postcopy_talk_send(talks[link], bytes, sizeof(bytes), PATIENCE * 1000);
    if (payload)
        uf_postcopy_talk_send(talks[link], payload, header.payload, PATIENCE * 1000);
}

static bool take(unsigned link, void *to, size_t len)
{
    if (talks[link])
        return uf_postcopy_talk_recv(talks[link], to, len, PATIENCE * 1000) == 0;
    return recv(ours[link], to, len, MSG_WAITALL) == (ssize_t)len;
}

/* Up to a message of this type, and past it. */
static bool hear(unsigned link, enum wire_type type, struct wire_header *ret)
{
    static char payload[WIRE_PAYLOAD_MAX];
    uint8_t bytes[WIRE_HEADER];

    do {
        if (!take(link, bytes, sizeof(bytes)) || wire_decode(bytes, ret) ||
            (ret->payload && !take(link, payload, ret->payload)))
            return false;
    } while (ret->type != type);
    return true;
}

static bool greet(void)
{
    struct wire_header header;
    bool good = secure();

    for (unsigned i = 0; good && i < LINKS_MAX; i++)
        good = ours[i] < 0 || hear(i, WIRE_HELLO, &header);
    for (unsigned i = 0; good && i < LINKS_MAX; i++) {
        header.region = i;
        if (ours[i] >= 0)
            say(i, header, NULL);
    }
    good = good && hear(0, WIRE_REGIONS, &header);
    say(0, (struct wire_header){.type = WIRE_REGIONS}, NULL);
    good = good && hear(0, WIRE_OFFER, &header);
    say(0, (struct wire_header){.type = WIRE_OFFER}, NULL);
    return good;
}

/* The source's socket takes hardly more, so the source is at a write, or soon is; or it has ended.
 */
static void await_full(unsigned link)
{
    struct pollfd full = {.fd = theirs[link], .events = POLLOUT};

    while (!atomic_load(&ended) && poll(&full, 1, 0) > 0 && full.revents & POLLOUT)
        sched_yield();
}

static void await_first_pages(void)
{
    struct uf_postcopy_stats stats;

    do {
        sched_yield();
        uf_source_stats(source, &stats);
    } while (!stats.pages_precopy && !atomic_load(&ended));
}

/* All links are empty when the program has stopped; what is next to go out is the state. */
static bool play_to_switch(void)
{
    struct wire_header header;
    bool good = true;

    for (unsigned i = 2; good && i < LINKS_MAX; i++)
        good = ours[i] < 0 || hear(i, WIRE_SYNC, &header);
    good = good && hear(0, WIRE_PREPARE, &header);
    say(0, (struct wire_header){.type = WIRE_PREPARE}, NULL);
    if (way->amid <= STATE_OUT)
        return good;
    good = good && hear(0, WIRE_SWITCH, &header);
    say(0, (struct wire_header){.type = WIRE_READY}, NULL);
    for (uint64_t page = 1; way->asks && page <= 64; page++) /* from the end: they are not sent */
        say(0,
            (struct wire_header){
                .type = WIRE_REQUEST, .offset = REGION - page * PAGE, .length = PAGE},
            NULL);
    return good;
}

static bool play(void)
{
    const unsigned pages = way->background ? 2 : 0;

    if (!greet())
        return false;
    if (way->amid >= STOPPING && !play_to_switch())
        return false;
    if (way->amid == LIMITED)
        await_first_pages();
    else if (way->amid == STOPPING)
        sem_wait(&stopping);
    else
        await_full(way->amid == STATE_OUT ? 0 : pages);
    if (way->asks)
        await_full(0);
    if (way->end == CLOSES)
        shutdown(ours[0], SHUT_WR);
    else
        say(0, (struct wire_header){.type = WIRE_FAILED, .payload = sizeof(WORDS) - 1}, WORDS);
    if (way->end == SAYS_AND_CLOSES)
        close_ours();
    if (way->amid == STOPPING)
        sem_post(&said);
    return true;
}

/* ---- the source */

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    if (way->amid == STOPPING) {
        sem_post(&stopping);
        sem_wait(&said);
    }
    *ret_blob = state;
    *ret_len = way->amid == STATE_OUT ? STATE : 0;
    return 0;
}

static void *run_source(void *links)
{
    static int ret;

    ret = uf_source_run(source, links);
    atomic_store(&ended, true);
    return &ret;
}

/* Return: what it returns; ETIME: nothing, until the links were closed. */
static int join(pthread_t thread)
{
    struct timespec until;
    void *ret;
    int late;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    late = pthread_timedjoin_np(thread, &ret, &until);
    for (unsigned i = 0; late && i < LINKS_MAX; i++) {
        if (theirs[i] >= 0)
            shutdown(theirs[i], SHUT_RDWR);
    }
    if (late)
        pthread_join(thread, &ret);
    return late ? ETIME : *(int *)ret;
}

/* Return: false: the backend is not to be had here. */
static bool run(void)
{
    struct uf_source_options how = {.backend = backend,
                                    .stop = stop,
                                    .rounds_max = way->amid <= LIMITED,
                                    .bandwidth_bytes = way->amid == LIMITED ? 1 << 20 : 0};
    struct uf_postcopy_links links;
    const char *words;
    pthread_t thread;
    bool played, good;
    int ret;

    make_links(&links);
    atomic_store(&ended, false);
    if (uf_source_new(&source, &how) || uf_source_region(source, memory, REGION, PAGE) ||
        pthread_create(&thread, NULL, run_source, &links))
        abort();
    played = play();
    if (!played) {
        close_ours();
        sem_post(&said); /* nothing is */
    }
    ret = join(thread);
    words = uf_source_error(source);
    printf("# %d: %s\n", ret, words);
    if (ret == -EPERM || ret == -ENOSYS) {
        printf("1..0 # SKIP %s\n", words);
        return false;
    }
    good = played && uf_source_switched(source) == (way->amid == SWITCHED);
    if (way->end == CLOSES)
        point(good && ret < 0 && strstr(words, "control"), way->name);
    else
        point(good && ret == -EREMOTEIO && !strcmp(words, TOLD), way->name);
    close_ours();
    close_theirs();
    uf_source_free(source);
    return true;
}

static const struct way ways[] = {
    {"pages on a background link", UNIX, 1, false, PAGES, SAYS, false},
    {"the same, by two", UNIX, 2, true, PAGES, SAYS, false},
    {"the same, by control", UNIX, 0, false, PAGES, SAYS, false},
    {"the same, while the limit is waited for", UNIX, 2, true, LIMITED, SAYS, false},
    {"the same, over TCP", TCP, 2, true, PAGES, SAYS, false},
    {"the same, by TLS", TLS, 2, true, PAGES, SAYS, false},
    {"the same, by TLS on control", TLS, 0, false, PAGES, SAYS, false},
    {"pages, and control is closed", UNIX, 2, true, PAGES, CLOSES, false},
    {"the same, over TCP", TCP, 2, true, PAGES, CLOSES, false},
    {"pages, and all is closed behind it", UNIX, 2, true, PAGES, SAYS_AND_CLOSES, false},
    {"the same, by control", UNIX, 0, false, PAGES, SAYS_AND_CLOSES, false},
    {"the same, over TCP", TCP, 2, true, PAGES, SAYS_AND_CLOSES, false},
    {"the same, over TCP by control", TCP, 0, false, PAGES, SAYS_AND_CLOSES, false},
    {"the same, by TLS", TLS, 2, true, PAGES, SAYS_AND_CLOSES, false},
    {"the same, by TLS on control", TLS, 0, false, PAGES, SAYS_AND_CLOSES, false},
    {"nothing, while the program stops", UNIX, 1, true, STOPPING, SAYS, false},
    {"the same, and all is closed behind it", UNIX, 1, true, STOPPING, SAYS_AND_CLOSES, false},
    {"the same, over TCP", TCP, 1, true, STOPPING, SAYS_AND_CLOSES, false},
    {"the same, by TLS", TLS, 0, false, STOPPING, SAYS_AND_CLOSES, false},
    {"the same, and only control is closed", TCP, 1, true, STOPPING, CLOSES, false},
    {"the state", UNIX, 1, true, STATE_OUT, SAYS, false},
    {"the state, and all is closed behind it", TCP, 1, true, STATE_OUT, SAYS_AND_CLOSES, false},
    {"the state, by TLS", TLS, 1, true, STATE_OUT, SAYS, false},
    {"behind the switch", UNIX, 1, true, SWITCHED, SAYS, false},
    {"behind the switch, and all is closed", UNIX, 1, true, SWITCHED, SAYS_AND_CLOSES, false},
    {"behind the switch, by control", UNIX, 0, false, SWITCHED, SAYS, false},
    {"behind the switch, by control, and it is closed", UNIX, 0, false, SWITCHED, SAYS_AND_CLOSES,
     false},
    {"behind the switch, asked for more than is read", UNIX, 1, false, SWITCHED, SAYS, true},
    {"the same, by control", UNIX, 0, false, SWITCHED, SAYS, true},
    {"the same, and it is closed", UNIX, 0, false, SWITCHED, SAYS_AND_CLOSES, true},
    {"the same, by TLS", TLS, 0, false, SWITCHED, SAYS, true},
};

/* ---- the other direction: the source gives up, and the sink is not done yet with its answer */

static _Atomic bool holds; /* the answer to PREPARE, until the source has gone */
static sem_t gone;

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    static ssize_t (*_Atomic next)(int, const void *, size_t, int);

    if (!next)
        next = (ssize_t(*)(int, const void *, size_t, int))next_of("send");
    if (len == WIRE_HEADER && *(const uint8_t *)bytes == WIRE_PREPARE && holds)
        sem_wait(&gone);
    return next(fd, bytes, len, flags);
}

static int resume(void *arg, const void *blob, size_t len)
{
    return 0;
}

/* If it were taken for a connection that broke. */
static int reconnect(void *arg, int error, struct uf_postcopy_links *links)
{
    *(bool *)arg = true;
    return -ENOLINK;
}

static void *run_sink(void *links)
{
    static int ret;

    ret = uf_sink_run(sink, links);
    return &ret;
}

static bool play_source(enum wire_type last)
{
    uint8_t region[WIRE_RUN];
    struct wire_header header;
    bool good;

    say(0, (struct wire_header){.type = WIRE_HELLO, .offset = 12345}, NULL);
    good = hear(0, WIRE_HELLO, &header);
    wire_put_run(region, &(struct wire_run){PAGE, PAGE});
    say(0, (struct wire_header){.type = WIRE_REGIONS, .payload = sizeof(region)},
        (const char *)region);
    good = good && hear(0, WIRE_REGIONS, &header);
    say(0, (struct wire_header){.type = WIRE_OFFER}, NULL);
    good = good && hear(0, WIRE_OFFER, &header);
    say(0, (struct wire_header){.type = WIRE_SYNC}, NULL);
    say(0, (struct wire_header){.type = WIRE_PREPARE}, NULL);
    if (last == WIRE_FAILED)
        say(0, (struct wire_header){.type = last, .payload = sizeof(WORDS) - 1}, WORDS);
    else
        say(0, (struct wire_header){.type = last}, NULL);
    close_ours();
    return good;
}

static void run_given_up(enum over over, bool reconnects, enum wire_type last, const char *name)
{
    const struct way one = {.over = over};
    const int wanted = last == WIRE_CANCEL ? -ECANCELED : -EREMOTEIO;
    bool asked = false, played;
    struct uf_sink_options how = {.backend = backend,
                                  .resume = resume,
                                  .reconnect = reconnects ? reconnect : NULL,
                                  .arg = &asked};
    struct uf_postcopy_links links;
    pthread_t thread;
    char *to = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ret;

    way = &one;
    make_links(&links);
    holds = true;
    if (to == MAP_FAILED || uf_sink_new(&sink, &how) || uf_sink_region(sink, to, PAGE, PAGE) ||
        pthread_create(&thread, NULL, run_sink, &links))
        abort();
    played = play_source(last);
    sem_post(&gone);
    ret = join(thread);
    printf("# %d: %s\n", ret, uf_sink_error(sink));
    point(played && !asked && ret == wanted && !uf_sink_switched(sink) &&
              !strcmp(uf_sink_error(sink), last == WIRE_CANCEL ? GAVE_UP : TOLD),
          name);
    holds = false;
    while (sem_trywait(&gone) == 0)
        ;
    close_theirs();
    uf_sink_free(sink);
    munmap(to, PAGE);
}

int main(int argc, char **argv)
{
    backend = argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    signal(SIGPIPE, SIG_IGN);
    sem_init(&gone, 0, 0);
    sem_init(&stopping, 0, 0);
    sem_init(&said, 0, 0);
    memory = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    state = calloc(1, STATE);
    if (memory == MAP_FAILED || !state)
        abort();
    memset(memory, 'r', REGION);
    make_tls();
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        way = &ways[i];
        if (way->over == TLS && !tls[1])
            continue;
        if (!run())
            return 0;
    }
    run_given_up(UNIX, false, WIRE_CANCEL, "the source gives up while the sink answers");
    run_given_up(UNIX, true, WIRE_CANCEL, "the same is no broken connection");
    run_given_up(TCP, true, WIRE_CANCEL, "the same, over TCP");
    run_given_up(UNIX, true, WIRE_FAILED, "the source fails while the sink answers");
    uf_postcopy_tls_free(tls[0]);
    uf_postcopy_tls_free(tls[1]);
    free(state);
    printf("1..%d\n", points);
    return failed;
}
