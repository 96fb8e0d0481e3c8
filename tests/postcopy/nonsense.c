/* SPDX-License-Identifier: MIT */
/*
 * A side whose other side, scripted, says what it may not say there: refused, in words, and the
 * other side hears of it. Behind the switch nothing is a cancellation any more, for the program
 * goes on here. And what may be said is not.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "pack.h"
#include "script.h"

#define PAGE      ((size_t)4096)
#define REGION    PACK_MAX
#define PATIENCE  20 /* seconds; who ends sooner is not waited for */
#define UNLIMITED 0

enum { CONTROL, BACKGROUND, LINKS };

static int ours[LINKS], theirs[LINKS];
static char *memory;
static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static void say(int link, enum wire_type type)
{
    script_say(ours[link], (struct wire_header){.type = type}, NULL);
}

/* The next message, whose payload is not kept. Return: whether it is of this type. */
static bool hear(int link, enum wire_type type, struct wire_header *ret)
{
    static char payload[WIRE_PAYLOAD_MAX];

    return script_hear(ours[link], ret) && ret->type == type &&
           (!ret->payload ||
            recv(ours[link], payload, ret->payload, MSG_WAITALL) == (ssize_t)ret->payload);
}

/* ---- contents of a region, packed: 2 MiB of 'r' */

/* A frame whose header says 2 MiB, and 16 blocks of a byte that is repeated 131072 times. */
static size_t put_frame(uint8_t *to)
{
    static const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0x20, 0};
    size_t at = sizeof(head);

    memcpy(to, head, sizeof(head));
    for (int block = 0; block < 16; block++) {
        to[at++] = block < 15 ? 2 : 3;
        to[at++] = 0;
        to[at++] = 0x10;
        to[at++] = 'r';
    }
    return at;
}

/* Behind it what is skipped, so that it is so long. */
static void put_filled(uint8_t *to, size_t len)
{
    const size_t at = put_frame(to);
    const uint32_t rest = (uint32_t)(len - at - 8);
    const uint8_t head[] = {
        0x50, 0x2a, 0x4d, 0x18, (uint8_t)rest, (uint8_t)(rest >> 8), (uint8_t)(rest >> 16), 0};

    memcpy(to + at, head, sizeof(head));
    memset(to + at + sizeof(head), 0, rest);
}

static void say_packed(size_t len)
{
    static uint8_t payload[REGION];
    const struct wire_header header = {
        .type = WIRE_PACKED, .payload = (uint32_t)len, .length = REGION};

    if (len < 1024)
        put_frame(payload);
    else
        put_filled(payload, len);
    script_say(ours[BACKGROUND], header, payload);
}

/* ---- a sink, and a scripted source */

enum stage { GREETED, PREPARED, SWITCHED };

static const struct sink_test {
    const char *name;
    enum stage stage;
    int link;
    struct wire_header says;
    int error;
    size_t packed; /* bytes, of a region of 2 MiB; 0: not that */
} sink_tests[] = {
    {"CANCEL at first is a cancellation", GREETED, CONTROL, {.type = WIRE_CANCEL}, -ECANCELED},
    {"and before SWITCH", PREPARED, CONTROL, {.type = WIRE_CANCEL}, -ECANCELED},
    {"CANCEL by another link is out of place", GREETED, BACKGROUND, {.type = WIRE_CANCEL}, -EPROTO},
    {"so is CANCEL behind SWITCH", SWITCHED, CONTROL, {.type = WIRE_CANCEL}, -EPROTO},
    {"SWITCH with a region", PREPARED, CONTROL, {.type = WIRE_SWITCH, .region = 1}, -EPROTO},
    {"PREPARE with an offset", GREETED, CONTROL, {.type = WIRE_PREPARE, .offset = 4096}, -EPROTO},
    {"DONE with a length", SWITCHED, BACKGROUND, {.type = WIRE_DONE, .length = 1}, -EPROTO},
    {"73 bytes that unpack to 2 MiB", GREETED, BACKGROUND, {0}, -EPROTO, 73},
    {"a byte less than a 64th", GREETED, BACKGROUND, {0}, -EPROTO, REGION / 64 - 1},
    {"a 64th is taken", GREETED, BACKGROUND, {0}, 0, REGION / 64},
};

static int resumes;

static int resume(void *arg, const void *blob, size_t len)
{
    resumes++;
    return 0;
}

static bool greet_sink(void)
{
    struct wire_header header = {.type = WIRE_HELLO, .offset = 12345};
    uint8_t region[WIRE_RUN];

    script_say(ours[CONTROL], header, NULL);
    header.region = 2;
    script_say(ours[BACKGROUND], header, NULL);
    wire_put_run(region, &(struct wire_run){REGION, PAGE});
    script_say(ours[CONTROL], (struct wire_header){.type = WIRE_REGIONS, .payload = sizeof(region)},
               region);
    script_say(ours[CONTROL], (struct wire_header){.type = WIRE_OFFER, .offset = WIRE_OFFER_PACKED},
               NULL);
    return hear(BACKGROUND, WIRE_HELLO, &header) && hear(CONTROL, WIRE_HELLO, &header) &&
           hear(CONTROL, WIRE_REGIONS, &header) && hear(CONTROL, WIRE_OFFER, &header);
}

static bool come_to(enum stage stage)
{
    struct wire_header header;
    bool good = greet_sink();

    if (good && stage >= PREPARED) {
        say(BACKGROUND, WIRE_SYNC);
        say(CONTROL, WIRE_PREPARE);
        good = hear(CONTROL, WIRE_PREPARE, &header);
    }
    if (good && stage >= SWITCHED) {
        say(CONTROL, WIRE_SWITCH);
        good = hear(CONTROL, WIRE_READY, &header) && hear(CONTROL, WIRE_RESUMED, &header);
    }
    return good;
}

static bool end_well(void)
{
    struct wire_header header;

    say(BACKGROUND, WIRE_SYNC);
    say(CONTROL, WIRE_PREPARE);
    say(CONTROL, WIRE_SWITCH);
    say(CONTROL, WIRE_DONE);
    say(BACKGROUND, WIRE_DONE);
    return hear(CONTROL, WIRE_PREPARE, &header) && hear(CONTROL, WIRE_READY, &header) &&
           hear(CONTROL, WIRE_RESUMED, &header) && hear(CONTROL, WIRE_COMPLETE, &header);
}

static bool play_source(const struct sink_test *test)
{
    struct wire_header header;

    if (!come_to(test->stage))
        return false;
    if (test->packed)
        say_packed(test->packed);
    else
        script_say(ours[test->link], test->says, NULL);
    if (test->error == 0)
        return end_well();
    return test->error != -EPROTO || hear(CONTROL, WIRE_FAILED, &header);
}

/* ---- a source, and a scripted sink */

enum event { SAYS, FAILS, HANGS_UP };

static const struct source_test {
    const char *name;
    bool switched; /* behind READY, or in precopy while the limit of bandwidth is waited for */
    enum event event;
    int link;
    struct wire_header says;
    int error;
} source_tests[] = {
    {"CANCEL of a sink", true, SAYS, CONTROL, {.type = WIRE_CANCEL}, -EPROTO},
    {"RESUMED with a length", true, SAYS, CONTROL, {.type = WIRE_RESUMED, .length = 1}, -EPROTO},
    {"the sink fails while the limit is waited for", false, FAILS, CONTROL, {0}, -EREMOTEIO},
    {"control ends meanwhile", false, HANGS_UP, CONTROL, {0}, -ECONNRESET},
    {"another link ends meanwhile", false, HANGS_UP, BACKGROUND, {0}, -ECONNRESET},
    {"nonsense comes meanwhile", false, SAYS, BACKGROUND, {.type = WIRE_READY}, -EPROTO},
};

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    *ret_len = 0;
    return 0;
}

static bool greet_source(void)
{
    struct wire_header header;

    for (int link = CONTROL; link < LINKS; link++) {
        if (!hear(link, WIRE_HELLO, &header))
            return false;
        script_say(ours[link],
                   (struct wire_header){
                       .type = WIRE_HELLO, .region = header.region, .offset = header.offset},
                   NULL);
    }
    if (!hear(CONTROL, WIRE_REGIONS, &header))
        return false;
    say(CONTROL, WIRE_REGIONS);
    if (!hear(CONTROL, WIRE_OFFER, &header))
        return false;
    say(CONTROL, WIRE_OFFER);
    return true;
}

static bool let_switch(void)
{
    struct wire_header header;

    if (!hear(BACKGROUND, WIRE_SYNC, &header) || !hear(CONTROL, WIRE_PREPARE, &header))
        return false;
    say(CONTROL, WIRE_PREPARE);
    if (!hear(CONTROL, WIRE_SWITCH, &header))
        return false;
    say(CONTROL, WIRE_READY);
    return true;
}

static bool play_sink(const struct source_test *test)
{
    static const char words[] = "no more";
    struct wire_header header;

    if (!greet_source())
        return false;
    if (test->switched ? !let_switch() : !hear(BACKGROUND, WIRE_PAGES, &header))
        return false;
    if (test->event == SAYS)
        script_say(ours[test->link], test->says, NULL);
    else if (test->event == FAILS)
        script_say(ours[test->link],
                   (struct wire_header){.type = WIRE_FAILED, .payload = sizeof(words) - 1}, words);
    else
        shutdown(ours[test->link], SHUT_RDWR);
    while (test->error == -EPROTO && script_hear(ours[CONTROL], &header)) {
        if (header.type == WIRE_FAILED)
            return true;
    }
    return test->error != -EPROTO;
}

/* ---- */

static struct uf_postcopy_links links_of(void)
{
    return (struct uf_postcopy_links){
        .control = {theirs[CONTROL], theirs[CONTROL]},
        .urgent = {-1, -1},
        .background = {{theirs[BACKGROUND], theirs[BACKGROUND]}},
        .background_count = 1,
    };
}

static void make_links(void)
{
    const struct timeval patience = {.tv_sec = PATIENCE};

    for (int link = CONTROL; link < LINKS; link++) {
        script_pair(&ours[link], &theirs[link]);
        setsockopt(ours[link], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    }
}

static void hang_up(const int fds[LINKS])
{
    for (int link = CONTROL; link < LINKS; link++)
        shutdown(fds[link], SHUT_RDWR); /* a script, or a side, that waits goes on */
}

static void close_all(void)
{
    for (int link = CONTROL; link < LINKS; link++) {
        close(ours[link]);
        close(theirs[link]);
    }
}

static int ended_with;

static void *run_sink(void *arg)
{
    const struct uf_postcopy_links links = links_of();

    ended_with = uf_sink_run(arg, &links);
    hang_up(theirs);
    return NULL;
}

static void *run_source(void *arg)
{
    const struct uf_postcopy_links links = links_of();

    ended_with = uf_source_run(arg, &links);
    hang_up(theirs);
    return NULL;
}

/* Return: whether the side came to its end by itself. */
static bool join(pthread_t thread)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

static bool is_not_to_be_had(const char *words)
{
    if (ended_with != -EPERM && ended_with != -ENOSYS)
        return false;
    printf("1..0 # SKIP %s\n", words);
    return true;
}

/* Return: false: the backend is not to be had here. */
static bool run_sink_test(enum uf_backend backend, const struct sink_test *test)
{
    const struct uf_sink_options how = {.backend = backend, .resume = resume};
    struct uf_sink *sink;
    pthread_t thread;
    bool played, ended;

    resumes = 0;
    make_links();
    if (uf_sink_new(&sink, &how) || uf_sink_region(sink, memory, REGION, PAGE) ||
        pthread_create(&thread, NULL, run_sink, sink))
        abort();
    played = play_source(test);
    if (!played)
        hang_up(ours);
    ended = join(thread);
    if (!ended) {
        hang_up(ours);
        pthread_join(thread, NULL);
    }
    close_all();
    if (is_not_to_be_had(uf_sink_error(sink)))
        return false;
    printf("# %d: %s\n", ended_with, uf_sink_error(sink));
    point(played && ended && ended_with == test->error &&
              resumes == (test->stage == SWITCHED || test->error == 0) &&
              (test->error || (memory[0] == 'r' && !memcmp(memory, memory + 1, REGION - 1))),
          test->name);
    uf_sink_free(sink);
    return true;
}

static bool run_source_test(enum uf_backend backend, const struct source_test *test)
{
    /* of a byte a second it is waited for longer than anybody does here */
    const struct uf_source_options how = {.backend = backend,
                                          .stop = stop,
                                          .rounds_max = test->switched ? 0 : 1,
                                          .bandwidth_bytes = test->switched ? UNLIMITED : 1};
    struct uf_source *source;
    pthread_t thread;
    bool played, ended;

    make_links();
    memset(memory, 's', REGION);
    if (uf_source_new(&source, &how) || uf_source_region(source, memory, REGION, PAGE) ||
        pthread_create(&thread, NULL, run_source, source))
        abort();
    played = play_sink(test);
    if (!played)
        hang_up(ours);
    ended = join(thread);
    if (!ended) {
        uf_source_cancel(source);
        hang_up(ours);
        pthread_join(thread, NULL);
    }
    close_all();
    if (is_not_to_be_had(uf_source_error(source)))
        return false;
    printf("# %d: %s\n", ended_with, uf_source_error(source));
    point(played && ended && ended_with == test->error &&
              uf_source_switched(source) == test->switched,
          test->name);
    uf_source_free(source);
    return true;
}

int main(int argc, char **argv)
{
    enum uf_backend backend =
        argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;

    signal(SIGPIPE, SIG_IGN);
    memory = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    for (size_t i = 0; i < sizeof(sink_tests) / sizeof(sink_tests[0]); i++) {
        if (sink_tests[i].packed && !pack_available())
            continue;
        if (!run_sink_test(backend, &sink_tests[i]))
            return 0;
    }
    for (size_t i = 0; i < sizeof(source_tests) / sizeof(source_tests[0]); i++) {
        if (!run_source_test(backend, &source_tests[i]))
            return 0;
    }
    printf("1..%d\n", points);
    return failed;
}
