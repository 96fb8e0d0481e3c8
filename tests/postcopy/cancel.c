/* SPDX-License-Identifier: MIT */
/*
 * A source that is canceled while a message is under way, with a scripted sink that gives or takes
 * a few bytes of it now and then: the message has a second, and not one for each of its parts.
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

#define PAGE    ((size_t)4096)
#define BLOB    ((size_t)8 << 20) /* more than a socket takes unread */
#define EACH_MS 250               /* a part */
#define PARTS   20                /* more than there can be in the time that is left */
#define PART    ((size_t)64 << 10)

/* What is under way when the source is canceled. */
enum under_way { ANSWER, STATE, STATE_AGAIN, KINDS };

static const char *const names[KINDS] = {
    "canceled while an answer comes byte by byte",
    "canceled while the state is taken part by part",
    "canceled while it is so over another connection, as the switch was lost",
};

static enum under_way under_way;
static struct uf_source *source;
static int ours, theirs;
static char *state;
static unsigned parts;
static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    *ret_blob = state;
    *ret_len = under_way == ANSWER ? 0 : BLOB;
    return 0;
}

/* ---- the script */

static void say(enum wire_type type, const struct wire_header *as)
{
    script_say(ours, (struct wire_header){.type = type, .offset = as->offset, .length = as->length},
               NULL);
}

static bool skip(size_t len)
{
    static char bytes[PART];

    while (len > 0) {
        ssize_t n = recv(ours, bytes, len < sizeof(bytes) ? len : sizeof(bytes), 0);

        if (n <= 0)
            return false;
        len -= (size_t)n;
    }
    return true;
}

static bool hear(enum wire_type type, struct wire_header *ret)
{
    return script_hear(ours, ret) && ret->type == type && skip(ret->payload);
}

static bool greet(bool first)
{
    struct wire_header header;
    bool good = hear(WIRE_HELLO, &header);

    say(WIRE_HELLO, &header);
    good = good && hear(WIRE_REGIONS, &header);
    say(WIRE_REGIONS, &(struct wire_header){0});
    if (!first)
        return good;
    good = good && hear(WIRE_OFFER, &header);
    say(WIRE_OFFER, &(struct wire_header){0});
    return good;
}

/* Until the source has hung up. */
static void go_on_slowly(void)
{
    const struct wire_header answer = {.type = WIRE_PREPARE};
    struct pollfd end = {.fd = ours, .events = POLLRDHUP};
    struct wire_header header = answer;
    uint8_t bytes[WIRE_HEADER];

    wire_encode(bytes, &header, NULL);
    uf_source_cancel(source);
    for (parts = 0; parts < PARTS && poll(&end, 1, EACH_MS) == 0; parts++) {
        if (under_way == ANSWER && send(ours, bytes + parts, 1, MSG_NOSIGNAL) != 1)
            break;
        if (under_way != ANSWER && !skip(PART))
            break;
    }
    shutdown(ours, SHUT_RDWR);
}

static bool hear_state(void)
{
    struct wire_header header;

    for (size_t have = 0; have < BLOB; have += header.payload) {
        if (!hear(WIRE_BLOB, &header))
            return false;
    }
    return hear(WIRE_SWITCH, &header);
}

static void *run_script(void *arg)
{
    struct wire_header header;
    bool good = greet(true) && hear(WIRE_SYNC, &header) && hear(WIRE_PREPARE, &header);

    if (good && under_way != ANSWER)
        say(WIRE_PREPARE, &(struct wire_header){0});
    if (good && under_way == STATE_AGAIN) {
        int before = ours;

        good = hear_state();
        script_pair(&ours, &theirs);
        shutdown(before, SHUT_RDWR); /* now the source asks for this one */
        good = good && greet(false);
        say(WIRE_STATE, &(struct wire_header){.offset = WIRE_STATE_PREPARED});
        close(before);
    }
    if (good && under_way != ANSWER) /* it is on its way out */
        good = script_hear(ours, &header) && header.type == WIRE_BLOB;
    if (good)
        go_on_slowly();
    else
        shutdown(ours, SHUT_RDWR);
    return NULL;
}

/* ---- */

static int reconnect(void *arg, int error, struct uf_postcopy_links *links)
{
    static int last = -1;

    if (under_way != STATE_AGAIN || theirs == last)
        return -ENOLINK;
    close(links->control.in);
    last = theirs;
    links->control = (struct uf_postcopy_link){theirs, theirs};
    return 0;
}

/* Return: false: the backend is not to be had here. */
static bool run(enum uf_backend backend, char *memory)
{
    struct uf_source_options how = {.backend = backend, .stop = stop, .reconnect = reconnect};
    struct uf_postcopy_links links = {.urgent = {-1, -1}};
    pthread_t thread;
    bool switched;
    int ret;

    script_pair(&ours, &theirs);
    links.control = (struct uf_postcopy_link){theirs, theirs};
    if (uf_source_new(&source, &how) || uf_source_region(source, memory, PAGE, PAGE) ||
        pthread_create(&thread, NULL, run_script, NULL))
        abort();
    ret = uf_source_run(source, &links);
    switched = uf_source_switched(source);
    shutdown(theirs, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(ours);
    close(theirs);
    printf("# %u parts, %d: %s\n", parts, ret, uf_source_error(source));
    if (ret == -EPERM || ret == -ENOSYS) {
        printf("1..0 # SKIP %s\n", uf_source_error(source));
        return false;
    }
    point(ret == -ECANCELED && !switched && parts > 0 && parts < PARTS, names[under_way]);
    uf_source_free(source);
    return true;
}

int main(int argc, char **argv)
{
    enum uf_backend backend =
        argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    char *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    signal(SIGPIPE, SIG_IGN);
    state = calloc(1, BLOB);
    if (memory == MAP_FAILED || !state)
        abort();
    for (under_way = 0; under_way < KINDS; under_way++) {
        if (!run(backend, memory))
            return 0;
    }
    free(state);
    printf("1..%d\n", points);
    return failed;
}
