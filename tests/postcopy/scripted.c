/* SPDX-License-Identifier: MIT */
/*
 * A scripted source and a sink. A page comes twice, by two links, the second time first; and at the
 * end the source says a checksum of its region: none, the right one, another one, none though it
 * had said that it would. Or more is dropped than there is, or comes behind the switch.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "digest.h"
#include "script.h"

#define PAGE  4096
#define LINKS 3

static int ours[LINKS], theirs[LINKS]; /* control, two of background */
static char *memory;
static char resumed_with;
static int points, failed;

enum checksum { UNASKED, RIGHT, WRONG, WITHHELD, UNASKED_AND_TWICE, UNASKED_AND_DROPPED_TWICE };

static int resume(void *arg, const void *blob, size_t len)
{
    resumed_with = memory[PAGE - 1];
    return 0;
}

static void say(int link, enum wire_type type, uint64_t offset, uint64_t length,
                const void *payload, uint32_t len)
{
    struct wire_header header = {.type = type, .payload = len, .offset = offset, .length = length};

    if (type == WIRE_HELLO)
        header.region = link ? (uint32_t)link + 1 : 0;
    script_say(ours[link], header, payload);
}

/* Return: whether it came. */
static bool hear(int link, enum wire_type type)
{
    struct wire_header header;
    char words[128];

    if (!script_hear(ours[link], &header))
        return false;
    if (header.payload && read(ours[link], words, sizeof(words)) < 0)
        return false;
    return header.type == type;
}

/* It is read if it may be; if the sink keeps the order, it must not be. */
static bool is_read(int link)
{
    int left = 1;

    for (int i = 0; i < 2000 && left; i++) {
        if (ioctl(theirs[link], FIONREAD, &left))
            return false;
        sched_yield();
    }
    return !left;
}

/* The region is of two pages: the first as it comes last, the second of zeroes. */
static bool end_script(enum checksum checksum, const char *content)
{
    const bool twice = checksum == UNASKED_AND_TWICE;
    uint8_t sum[DIGEST_BYTES];

    if (!hear(0, WIRE_PREPARE) || !hear(0, WIRE_READY) || (twice && !hear(0, WIRE_RESUMED)))
        return false;
    for (int i = 0; i < (twice ? 3 : 1); i++)
        say(1, WIRE_ZERO, PAGE, PAGE, NULL, 0);
    wire_put_sum(sum, digest_of(content, PAGE, 0, 1) + (checksum == WRONG));
    if (checksum == RIGHT || checksum == WRONG)
        say(0, WIRE_DIGEST, 0, 0, sum, sizeof(sum));
    for (int i = 0; i < LINKS; i++)
        say(i, WIRE_DONE, 0, 0, NULL, 0);
    return (twice || hear(0, WIRE_RESUMED)) &&
           hear(0, checksum <= RIGHT ? WIRE_COMPLETE : WIRE_FAILED);
}

static bool is_unasked(enum checksum checksum)
{
    return checksum == UNASKED || checksum >= UNASKED_AND_TWICE;
}

static bool begin_script(enum checksum checksum)
{
    uint8_t region[WIRE_RUN];

    for (int i = 0; i < LINKS; i++)
        say(i, WIRE_HELLO, 12345, 0, NULL, 0);
    for (int i = 0; i < LINKS; i++) {
        if (!hear(i, WIRE_HELLO))
            return false;
    }
    wire_put_run(region, &(struct wire_run){2 * PAGE, PAGE});
    say(0, WIRE_REGIONS, 0, 0, region, sizeof(region));
    say(0, WIRE_OFFER, is_unasked(checksum) ? 0 : WIRE_OFFER_DIGEST, 0, NULL, 0);
    return hear(0, WIRE_REGIONS) && hear(0, WIRE_OFFER);
}

/* A page after the other, and the first one again. */
static bool is_dropped_once(void)
{
    uint8_t run[WIRE_RUN];
    bool once;

    once = hear(0, WIRE_PREPARE);
    for (int page = 0; page < 3; page++) {
        wire_put_run(run, &(struct wire_run){page % 2 * PAGE, PAGE});
        say(0, WIRE_DISCARD, 0, 0, run, sizeof(run));
        say(0, WIRE_PREPARE, 0, 0, NULL, 0);
        once = once && hear(0, page < 2 ? WIRE_PREPARE : WIRE_FAILED);
    }
    return once;
}

static bool play_source(enum checksum checksum)
{
    static char old[PAGE], new[PAGE];
    bool kept;

    memset(old, 'o', PAGE);
    memset(new, 'n', PAGE);
    if (!begin_script(checksum))
        return false;
    say(2, WIRE_ROUND, 0, 0, NULL, 0);
    while (!is_read(2))
        ;
    say(2, WIRE_PAGES, 0, PAGE, new, PAGE);
    kept = !is_read(2);
    say(1, WIRE_PAGES, 0, PAGE, old, PAGE);
    say(1, WIRE_ROUND, 0, 0, NULL, 0);
    say(1, WIRE_SYNC, 0, 0, NULL, 0);
    say(2, WIRE_SYNC, 0, 0, NULL, 0);
    say(0, WIRE_PREPARE, 0, 0, NULL, 0);
    if (checksum == UNASKED_AND_DROPPED_TWICE)
        return kept && is_dropped_once();
    say(0, WIRE_SWITCH, 0, 0, NULL, 0);
    return end_script(checksum, new) && kept;
}

static void *run_sink(void *arg)
{
    struct uf_postcopy_links links = {
        .control = {theirs[0], theirs[0]},
        .urgent = {-1, -1},
        .background = {{theirs[1], theirs[1]}, {theirs[2], theirs[2]}},
        .background_count = 2,
    };
    static int ret;

    ret = uf_sink_run(arg, &links);
    for (int i = 0; i < LINKS; i++)
        shutdown(theirs[i], SHUT_RDWR); /* a script that waits goes on */
    return &ret;
}

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static void make_links(void)
{
    for (int i = 0; i < LINKS; i++)
        script_pair(&ours[i], &theirs[i]);
}

static void close_links(void)
{
    for (int i = 0; i < LINKS; i++) {
        close(ours[i]);
        close(theirs[i]);
    }
}

/* Return: false: the backend is not to be had here. */
static bool run(enum uf_backend backend, enum checksum checksum)
{
    static const char *const names[] = {
        "no checksum was agreed on", "a checksum that is right",
        "a checksum that is not",    "a checksum that is not sent",
        "more pages than there are", "more is dropped than there is"};
    static const int ends[] = {0, 0, -EBADMSG, -EPROTO, -EPROTO, -EPROTO};
    const char expected = checksum == UNASKED_AND_DROPPED_TWICE ? 0 : 'n';
    struct uf_sink_options how = {.backend = backend, .resume = resume};
    struct uf_sink *sink;
    pthread_t thread;
    bool played;
    void *ret;

    resumed_with = 0;
    make_links();
    if (uf_sink_new(&sink, &how) || uf_sink_region(sink, memory, 2 * PAGE, PAGE) ||
        pthread_create(&thread, NULL, run_sink, sink))
        abort();
    played = play_source(checksum);
    for (int i = 0; i < LINKS && !played; i++)
        shutdown(ours[i], SHUT_RDWR); /* or it would wait */
    pthread_join(thread, &ret);
    close_links();
    if (*(int *)ret == -EPERM || *(int *)ret == -ENOSYS) {
        printf("1..0 # SKIP %s\n", uf_sink_error(sink));
        return false;
    }
    if (*(int *)ret)
        printf("# %s\n", uf_sink_error(sink));
    point(played,
          "the script is played to its end, and what follows ROUND waits for the other link");
    point(resumed_with == expected, "the newer content of a page is the last");
    point(*(int *)ret == ends[checksum], names[checksum]);
    uf_sink_free(sink);
    return true;
}

int main(int argc, char **argv)
{
    enum uf_backend backend =
        argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;

    signal(SIGPIPE, SIG_IGN);
    memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int checksum = UNASKED; checksum <= UNASKED_AND_DROPPED_TWICE; checksum++) {
        if (!run(backend, checksum))
            return 0;
    }
    printf("1..%d\n", points);
    return failed;
}
