/* SPDX-License-Identifier: MIT */
/*
 * A source whose connection broke, and a scripted sink that says slowly what it lacks: each message
 * has the time that a step of the handshake has, if it tells of as much as it can.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "script.h"

#define PAGE        ((size_t)4096)
#define MESSAGES    3
#define PAGES       (WIRE_MISSING_MAX * 8 * MESSAGES)
#define FEW         8 /* pages, of which a message is as long as of one */
#define PATIENCE_MS 5000
#define EACH_MS     (PATIENCE_MS / 2)

static int ours, theirs, used;
static size_t at_a_time; /* pages of a message */
static int asked_with[3];
static unsigned asked;
static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    *ret_len = 0;
    return 0;
}

/* ---- the script */

static void say(enum wire_type type, uint64_t offset, uint64_t length)
{
    script_say(ours, (struct wire_header){.type = type, .offset = offset, .length = length}, NULL);
}

static bool hear(enum wire_type type, struct wire_header *ret)
{
    char payload[WIRE_RUN];

    return script_hear(ours, ret) && ret->type == type && ret->payload <= sizeof(payload) &&
           (!ret->payload || recv(ours, payload, ret->payload, MSG_WAITALL) == ret->payload);
}

static bool greet(bool first)
{
    struct wire_header header;
    bool good = hear(WIRE_HELLO, &header);

    say(WIRE_HELLO, header.offset, header.length);
    good = good && hear(WIRE_REGIONS, &header);
    say(WIRE_REGIONS, 0, 0);
    if (first) {
        good = good && hear(WIRE_OFFER, &header);
        say(WIRE_OFFER, 0, 0);
    }
    return good;
}

/* Nothing is; each message when half of its time has passed. Return: whether the source listened.
 */
static bool tell_missing(void)
{
    static const uint8_t bits[WIRE_MISSING_MAX];
    struct pollfd end = {.fd = ours, .events = POLLRDHUP};
    struct wire_header header = {.type = WIRE_MISSING, .length = at_a_time * PAGE};

    header.payload = (uint32_t)((at_a_time + 7) / 8);
    for (size_t page = 0; page < PAGES; page += at_a_time) {
        if (poll(&end, 1, EACH_MS) != 0)
            return false;
        header.offset = page * PAGE;
        script_say(ours, header, bits);
    }
    say(WIRE_READY, 0, 0);
    return true;
}

static void *run_script(void *arg)
{
    struct wire_header header;
    int before = ours;
    bool good = greet(true) && hear(WIRE_SYNC, &header) && hear(WIRE_PREPARE, &header);

    say(WIRE_PREPARE, 0, 0);
    good = good && hear(WIRE_SWITCH, &header);
    script_pair(&ours, &theirs);
    shutdown(before, SHUT_RDWR); /* now the source asks for this one */
    good = good && greet(false);
    say(WIRE_STATE, WIRE_STATE_SWITCHED, 0);
    good = good && tell_missing() && hear(WIRE_DONE, &header);
    if (good)
        say(WIRE_COMPLETE, 0, 0);
    if (good)
        hear(WIRE_BYE, &header);
    shutdown(ours, SHUT_RDWR);
    close(before);
    return NULL;
}

/* ---- */

static int reconnect(void *arg, int error, struct uf_postcopy_links *links)
{
    asked_with[asked++ % 3] = error;
    if (asked > 1)
        return -ENOLINK;
    close(links->control.in);
    used = theirs;
    links->control = (struct uf_postcopy_link){theirs, theirs};
    return 0;
}

/* Return: what uf_source_run() says. */
static int run(enum uf_backend backend, char *memory, size_t pages)
{
    struct uf_source_options how = {
        .backend = backend, .stop = stop, .reconnect = reconnect, .handshake_ms = PATIENCE_MS};
    struct uf_postcopy_links links = {.urgent = {-1, -1}};
    struct uf_source *source;
    pthread_t thread;
    int ret;

    at_a_time = pages;
    asked = 0;
    script_pair(&ours, &theirs);
    used = theirs;
    links.control = (struct uf_postcopy_link){theirs, theirs};
    if (uf_source_new(&source, &how) || uf_source_region(source, memory, PAGES * PAGE, PAGE) ||
        pthread_create(&thread, NULL, run_script, NULL))
        abort();
    ret = uf_source_run(source, &links);
    shutdown(used, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(ours);
    close(used);
    printf("# %d, asked %u times: %s\n", ret, asked, uf_source_error(source));
    uf_source_free(source);
    return ret;
}

int main(int argc, char **argv)
{
    enum uf_backend backend =
        argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int ret;

    signal(SIGPIPE, SIG_IGN);
    if (memory == MAP_FAILED)
        abort();
    ret = run(backend, memory, WIRE_MISSING_MAX * 8);
    point(ret == 0 && asked == 1, "what is missing is told slowly, a step after the other");
    ret = run(backend, memory, FEW);
    point(ret < 0 && asked == 2 && asked_with[1] == -ETIMEDOUT,
          "who tells of a few pages at a time has no more time for that");
    printf("1..%d\n", points);
    return failed;
}
