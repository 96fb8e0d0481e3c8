/* SPDX-License-Identifier: MIT */
/*
 * A migration whose links break at each numbered message from the switch on, and are made again:
 * once, again and again, one link or all, with strangers at the other end. Every byte is compared
 * (sides.c), no page goes over twice that had arrived, and nobody hangs.
 *
 *     source (child) --- relay (this process) --- sink (child)
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../pool.h"
#include "relay.h"

enum stranger { OTHER_MIGRATION, OLD_CONNECTION, OTHER_REGIONS, GARBAGE, SILENT, GONE, STRANGERS };

static const char *const stranger_names[] = {
    "one of another migration", "one of an older connection", "one with other regions",
    "one that speaks nonsense", "one that says nothing",      "one that is gone at once"};

struct plan {
    long cut;                       /* which message */
    enum wire_type at;              /* or the first of these */
    bool forget;                    /* the sink seems to lack everything */
    enum relay_where where;         /* how much of it goes through */
    int link;                       /* that breaks; -1: all */
    bool drain;                     /* what went out has been read by then */
    bool give_up;                   /* no new links */
    long then[40];                  /* cuts of the connections that follow; 0: no more */
    enum stranger first, strangers; /* who answers at the first tries: from first on, so many */
    int to;                         /* the side that meets them */
};

struct outcome {
    int ends[2], asked[2];
    int errors[2][STRANGERS + 1]; /* that were asked with first */
    long messages;
    unsigned again;
    bool met, asked_again;
};

static const int stranger_errors[2][STRANGERS] = {
    {-EPROTO, -EPROTO, -EREMOTEIO, -EPROTO, -ETIMEDOUT, -ECONNRESET},
    {-ESTALE, -ESTALE, -EPROTO, -EPROTO, -ETIMEDOUT, -ECONNRESET}};

static int points, failed;

static void say(int fd, struct wire_header header, const void *payload)
{
    uint8_t bytes[WIRE_HEADER];

    wire_encode(bytes, &header, payload);
    if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) == sizeof(bytes) && header.payload)
        send(fd, payload, header.payload, MSG_NOSIGNAL);
}

/* The right words, but for what makes a stranger. A sink hears it unasked, a source as an answer.
 */
static void play(const struct relay *relay, enum stranger who, int side, long connection)
{
    static const uint8_t nonsense[4096] = {0xff, 0x5a};
    uint64_t session = who == OTHER_MIGRATION ? relay->session + 1 : relay->session;
    uint64_t number = who == OLD_CONNECTION ? 0 : (uint64_t)connection;

    for (unsigned i = 0; i < sides_links(relay->how); i++) {
        int fd = relay->ends[side][i];

        if (fd < 0)
            continue;
        if (who == GARBAGE)
            send(fd, nonsense, sizeof(nonsense), MSG_NOSIGNAL);
        else if (who == GONE)
            shutdown(fd, SHUT_RDWR);
        else if (who != SILENT)
            say(fd,
                (struct wire_header){
                    .type = WIRE_HELLO, .region = i, .offset = session, .length = number},
                NULL);
    }
    if (who == OTHER_REGIONS && side == 1)
        say(relay->ends[side][0], (struct wire_header){.type = WIRE_REGIONS, .payload = 32},
            nonsense);
    if (who == OTHER_REGIONS && side == 0)
        say(relay->ends[side][0], (struct wire_header){.type = WIRE_FAILED, .payload = 5}, "other");
}

/* Which connection the source would say this is: it counts its tries. */
static void meet_strangers(struct relay *relay, const struct sides *sides, const struct plan *plan,
                           struct outcome *outcome)
{
    for (unsigned i = 0; i < plan->strangers && outcome->asked[plan->to]; i++) {
        int error;

        sides_answer(sides, relay->how, plan->to, relay->ends[plan->to]);
        play(relay, plan->first + i, plan->to, 1 + i);
        error = sides_await(sides, plan->to);
        outcome->errors[plan->to][i] = error;
        outcome->asked[plan->to] = error < 0 ? outcome->asked[plan->to] + 1 : 0;
        relay_close(relay);
    }
}

/* Return: whether both were given new links. */
static bool restore(struct relay *relay, const struct sides *sides, const struct plan *plan,
                    struct outcome *outcome)
{
    bool both = true;

    for (int side = 0; side < 2; side++) {
        bool asks = sides_await(sides, side) < 0;

        outcome->asked[side] += asks;
        both &= asks;
    }
    relay_close(relay);
    if (both)
        meet_strangers(relay, sides, plan, outcome);
    both &= !plan->give_up;
    for (int side = 0; side < 2; side++)
        sides_answer(sides, relay->how, side, both ? relay->ends[side] : NULL);
    return both;
}

static struct outcome migrate(const struct sides_how *how, const struct plan *plan)
{
    static struct relay relay;
    struct outcome outcome = {0};
    struct sides sides;
    int *ends[2] = {relay.ends[0], relay.ends[1]};
    long cut = plan->cut;

    memset(&relay, 0, sizeof(relay));
    relay.how = how;
    relay.at = plan->at;
    relay.forget = plan->forget;
    sides_start(&sides, how, ends);
    for (int again = 0;; again++) {
        bool cuts = relay_run(&relay, &sides, cut, plan->where);

        outcome.messages += relay.count;
        if (cuts && plan->drain)
            relay_drain(&relay);
        if (cuts)
            relay_cut(&relay, plan->link);
        if (cuts && plan->link >= 0) /* who does not need that link yet goes on with the others */
            relay_run(&relay, &sides, -1, BEFORE);
        if (!restore(&relay, &sides, plan, &outcome))
            break;
        relay.count = 0;
        cut = again < 40 && plan->then[again] ? plan->then[again] : -1;
    }
    for (int side = 0; side < 2; side++)
        outcome.ends[side] = sides_end(&sides, side);
    relay_close(&relay);
    outcome.again = relay.again;
    outcome.met = relay.at_met;
    outcome.asked_again = relay.at_again;
    return outcome;
}

/*
 * What asks for links has switched, or may have, or could not say so: with new ones all ends well.
 * A source that did not goes on, and the sink must not.
 */
/* However often they were named: a page is discarded once, and comes behind the switch. */
static bool counts_once(void)
{
    const struct uf_postcopy_stats *source = &sides_told(0)->stats, *sink = &sides_told(1)->stats;

    if (source->pages_discarded == sink->pages_discarded &&
        source->pages_discarded <= sides_late(source))
        return true;
    printf("# discarded: %llu and %llu pages, of %llu that came later\n",
           (unsigned long long)source->pages_discarded, (unsigned long long)sink->pages_discarded,
           (unsigned long long)sides_late(source));
    return false;
}

static bool judge(const struct plan *plan, const struct outcome *o)
{
    bool exact = plan->drain || plan->cut < 0;

    if (exact && o->again)
        return false;
    if (o->ends[0] == BEFORE_SWITCH)
        return o->ends[1] == BEFORE_SWITCH && (plan->give_up || !o->asked[0]);
    if (plan->give_up)
        return (o->ends[0] == BEHIND_SWITCH || !o->asked[0]) &&
               (o->ends[1] == BEHIND_SWITCH || o->ends[1] == BEFORE_SWITCH ||
                o->ends[1] == ALL_RIGHT);
    return o->ends[0] == ALL_RIGHT && o->ends[1] == ALL_RIGHT && counts_once();
}

/* Whose links are gone is seen by who reads, or by who writes. */
static bool met(int error, int side, enum stranger who)
{
    return error == stranger_errors[side][who] || (who == GONE && error == -EPIPE);
}

static struct outcome point(const struct sides_how *how, const struct plan *plan, const char *name)
{
    struct outcome o = migrate(how, plan);
    bool good = judge(plan, &o);

    for (unsigned i = 0; o.asked[0] && i < plan->strangers; i++)
        good &= met(o.errors[plan->to][i], plan->to, plan->first + i);
    printf("%sok %d - %s\n", good ? "" : "not ", ++points, name);
    if (!good) {
        printf("# %s / %s\n", sides_told(0)->words, sides_told(1)->words);
        printf("# the source ended with %d, asked %d times; the sink with %d, %d; %u pages again\n",
               o.ends[0], o.asked[0], o.ends[1], o.asked[1], o.again);
        for (unsigned i = 0; i < plan->strangers; i++)
            printf("# stranger %u: %s\n", i, strerror(-o.errors[plan->to][i]));
    }
    failed += !good;
    return o;
}

/* ---- sets of points */

static const char *const where_names[] = {"before", "within", "behind"};

static void once_each(const struct sides_how *how, const char *kind, long messages, long step)
{
    char name[128];

    for (long n = 0; n < messages; n += step) {
        for (enum relay_where where = BEFORE; where <= BEHIND; where++) {
            struct plan plan = {.cut = n, .where = where, .link = -1, .drain = true};

            snprintf(name, sizeof(name), "%s: cut %s message %ld of %ld, restored", kind,
                     where_names[where], n, messages);
            point(how, &plan, name);
        }
    }
}

/* Only one link breaks, and what is under way is lost. */
static void one_link(const struct sides_how *how, const char *kind, long messages, long step)
{
    char name[128];

    for (long n = 0; n < messages; n += step) {
        for (int link = 0; link < (int)sides_links(how); link++) {
            struct plan plan = {.cut = n, .where = BEHIND, .link = link};

            snprintf(name, sizeof(name), "%s: link %d alone cut behind message %ld", kind, link, n);
            point(how, &plan, name);
        }
    }
}

static void again_and_again(const struct sides_how *how, const char *kind, long messages,
                            unsigned times)
{
    char name[128];

    for (unsigned seed = 1; seed <= times; seed++) {
        struct plan plan = {.link = -1, .drain = seed % 2};
        unsigned random = seed * 2654435761u;

        plan.cut = random % (unsigned)messages;
        plan.where = seed % 3;
        for (int i = 0; i < 30; i++) {
            random = random * 1664525u + 1013904223u;
            plan.then[i] = 1 + (random >> 16) % 40;
        }
        snprintf(name, sizeof(name), "%s: cut again and again, seed %u", kind, seed);
        point(how, &plan, name);
    }
}

/* The handshake itself, each of its messages. */
static void in_handshake(const struct sides_how *how, const char *kind, long cut)
{
    char name[128];

    for (long n = 1; n < 20; n++) {
        struct plan plan = {.cut = cut, .where = n % 3, .link = -1, .then = {n}};

        snprintf(name, sizeof(name), "%s: cut at message %ld, then at the %ldth of the next", kind,
                 cut, n);
        point(how, &plan, name);
    }
}

static void strangers(const struct sides_how *how, const char *kind, long cut)
{
    char name[128];

    for (enum stranger who = 0; who <= STRANGERS; who++) {
        for (int side = 0; side < 2; side++) {
            struct plan plan = {.cut = cut, .link = -1, .drain = true, .to = side};

            plan.first = who < STRANGERS ? who : 0;
            plan.strangers = who < STRANGERS ? 1 : STRANGERS;
            snprintf(name, sizeof(name), "%s: cut at %ld, the %s meets %s, then the right one",
                     kind, cut, side ? "sink" : "source",
                     who < STRANGERS ? stranger_names[who] : "all of these");
            point(how, &plan, name);
        }
    }
}

static void given_up(const struct sides_how *how, const char *kind, long messages, long step)
{
    char name[128];

    for (long n = 0; n < messages; n += step) {
        struct plan plan = {.cut = n, .where = BEFORE, .link = -1, .give_up = true};

        snprintf(name, sizeof(name), "%s: cut before message %ld, and given up", kind, n);
        point(how, &plan, name);
    }
}

/* A request is lost, and nobody but who asks it again brings the page soon. */
static void lost_request(const struct sides_how *with, const char *kind)
{
    struct sides_how how = *with;
    struct plan plan = {.at = WIRE_REQUEST, .link = -1, .drain = true};
    struct outcome o;
    char name[128];

    how.rounds = 0;
    how.bandwidth = 200000;
    how.pages[0] = 63;
    how.pages[1] = 97;
    snprintf(name, sizeof(name), "%s: a request is lost", kind);
    o = point(&how, &plan, name);
    printf("%sok %d - and made again\n", o.met && o.asked_again ? "" : "not ", ++points);
    failed += !o.met || !o.asked_again;
}

/* Who is canceled while it does not know whether the sink has switched asks it. */
static void canceled(const struct sides_how *with, const char *kind)
{
    struct sides_how how = *with;
    char name[128];

    how.cancels = true;
    for (enum relay_where where = BEFORE; where <= BEHIND; where++) {
        struct plan plan = {.at = WIRE_SWITCH, .where = where, .link = -1, .drain = true};
        struct outcome o;
        bool good;

        snprintf(name, sizeof(name), "%s: cut %s SWITCH, and canceled", kind, where_names[where]);
        o = migrate(&how, &plan);
        good = where == BEHIND ? !o.ends[0] && !o.ends[1]
                               : o.ends[0] == BEFORE_SWITCH && o.ends[1] == BEFORE_SWITCH;
        printf("%sok %d - %s\n", good ? "" : "not ", ++points, name);
        if (!good)
            printf("# the source ended with %d, the sink with %d\n", o.ends[0], o.ends[1]);
        failed += !good;
    }
}

/* What is there comes again, over what the program has written since, which stays. */
static void forgotten(const struct sides_how *how, const char *kind, long messages, long step)
{
    char name[128];

    for (long n = 0; n < messages; n += step) {
        struct plan plan = {.cut = n, .where = BEHIND, .link = -1, .forget = true};

        snprintf(name, sizeof(name), "%s: cut behind message %ld, and all is sent again", kind, n);
        point(how, &plan, name);
    }
}

/* More pages than one MISSING is for. */
static void many_pages(const struct sides_how *with, const char *kind)
{
    struct sides_how how = *with;
    struct plan plan = {.cut = 40, .link = -1, .drain = true};
    char name[128];

    how.rounds = 0;
    how.pages[0] = 5003;
    how.pages[1] = 3001;
    snprintf(name, sizeof(name), "%s: more pages than one message tells of", kind);
    point(&how, &plan, name);
}

/* Return: how many messages it takes from PREPARE on; -1: it is not to be had here. */
static long whole(const struct sides_how *how, const char *kind)
{
    struct plan plan = {.cut = -1};
    struct outcome o = migrate(how, &plan);
    bool good = judge(&plan, &o);

    if (o.ends[0] == 77 || o.ends[1] == 77)
        return -1;
    printf("%sok %d - %s: whole\n", good ? "" : "not ", ++points, kind);
    if (!good)
        printf("# the source ended with %d, the sink with %d; %u pages twice\n", o.ends[0],
               o.ends[1], o.again);
    failed += !good;
    return o.messages;
}

/* Over TLS, whose sessions end as links do: cut at any place of the bytes, handshakes among them.
 */
static void secured(const struct sides_how *with)
{
    struct sides_how how = *with;
    long messages;

    how.psk_file = sides_key();
    how.handshake_ms = 5000;
    messages = whole(&how, "TLS");
    if (messages < 0)
        printf("ok %d - TLS # SKIP built without GnuTLS\n", ++points);
    if (messages > 0) {
        once_each(&how, "TLS", messages, messages / 20 + 1);
        one_link(&how, "TLS", messages, messages / 4 + 1);
        again_and_again(&how, "TLS", messages, 6);
    }
}

/* usage: recover kernel|user [few]: one kind of memory and a few points, for slow builds */
int main(int argc, char **argv)
{
    const bool few = argc > 2;
    static const struct {
        const char *name;
        struct sides_how how;
    } kinds[] = {
        {"private", {.urgent = true, .background = 1, .rounds = 2}},
        {"private, no precopy", {.urgent = true, .background = 1}},
        {"private, one link", {.rounds = 2}},
        {"private, five links", {.urgent = true, .background = 3, .rounds = 2}},
        {"shared", {.shared = true, .urgent = true, .background = 1, .rounds = 2}},
        {"huge", {.huge = true, .urgent = true, .background = 1, .rounds = 2}},
        {"huge, shared", {.huge = true, .shared = true, .background = 1, .rounds = 2}},
    };
    const char *no_huge = NULL;
    bool asked = false; /* for huge pages: others wait for them meanwhile */

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < (few ? 1 : sizeof(kinds) / sizeof(kinds[0])); i++) {
        struct sides_how how = kinds[i].how;
        long messages, step;

        how.backend = argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
        how.page = how.huge ? (size_t)2 << 20 : 4096;
        how.pages[0] = how.huge ? 7 : 203;
        how.pages[1] = how.huge ? 5 : 117;
        how.handshake_ms = 500;
        /* Who writes all the time takes the processors from both sides; as much as that would
         * leave for behind the switch is written when it stops. */
        how.burst = how.huge ? 64 : 1024;
        how.last = 8 * (unsigned)(how.pages[0] + how.pages[1]);
        if (how.huge && !asked)
            no_huge = pool_take((size_t)2 << 20, 2 * 12, false);
        asked |= how.huge;
        if (how.huge && no_huge) {
            printf("ok %d - %s # SKIP %s\n", ++points, kinds[i].name, no_huge);
            continue;
        }
        messages = whole(&how, kinds[i].name);
        if (messages < 0 && i == 0) {
            printf("1..0 # SKIP the backend is not to be had here\n");
            return 0;
        }
        if (messages < 0) {
            printf("ok %d - %s # SKIP this memory is not to be had here\n", ++points,
                   kinds[i].name);
            continue;
        }
        if (messages == 0) { /* it failed before, as was said */
            printf("# %s: no message to cut at\n", kinds[i].name);
            continue;
        }
        step = i == 0 && !few ? 1 : messages / 12 + 1;
        once_each(&how, kinds[i].name, messages, step);
        one_link(&how, kinds[i].name, messages, messages / 6 + 1);
        again_and_again(&how, kinds[i].name, messages, i == 0 && !few ? 20 : 6);
        in_handshake(&how, kinds[i].name, messages / 2);
        given_up(&how, kinds[i].name, messages, messages / 12 + 1);
        forgotten(&how, kinds[i].name, messages, messages / 6 + 1);
        if (!how.huge && (i == 0 || how.shared))
            many_pages(&how, kinds[i].name);
        if (i > 1)
            continue;
        strangers(&how, kinds[i].name, messages / 2);
        canceled(&how, kinds[i].name);
        lost_request(&how, kinds[i].name);
        if (i == 0 && !few) /* GnuTLS is not built for ThreadSanitizer */
            secured(&how);
    }
    pool_give_back();
    printf("1..%d\n", points);
    return failed != 0;
}
