/* SPDX-License-Identifier: MIT */
/*
 * Migrations through networks that are far, slow and bad, between two namespaces: every byte is
 * compared while threads write on both sides (sides.c), no page goes over twice, and what the
 * network is said to do it did. No time is asserted but what no network could be quicker than.
 *
 * Delays are one way: 20 ms are a round trip of 40.
 *
 * usage: distance kernel|user [WORD [N]]: those with the word in their name, as netem; N at a time,
 * and no more pages than it takes, for an emulated processor
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "network.h"
#include "sides.h"
#include "workers.h"

#define AT_ONCE 3
#define SEED    20261126
#define FEW     203 /* pages: of their packets 1 % are some */

struct row {
    const char *name;
    struct path_how network;
    size_t pages; /* of the first region; the other has half as many */
};

static const struct row rows[] = {
    {"no delay", {0}, 1801},
    {"1 ms", {.delay_us = 1000}, 1801},
    {"20 ms", {.delay_us = 20000}, 901},
    {"1 ms, 1 % lost", {.delay_us = 1000, .loss = 10000}, 901},
    {"1 ms, 5 % overtaken", {.delay_us = 1000, .held_back = 50000, .held_longer_us = 3000}, 901},
    {"1 ms, 100 Mbit/s", {.delay_us = 1000, .rate = 100000000, .queue = 65536}, 901},
    {"20 ms, 100 Mbit/s, 1 % lost, 5 % overtaken",
     {.delay_us = 20000,
      .loss = 10000,
      .held_back = 50000,
      .held_longer_us = 5000,
      .rate = 100000000,
      .queue = 65536},
     203},
};

static const struct {
    const char *name;
    struct sides_how how;
} kinds[] = {
    {"precopy", {.urgent = true, .background = 1, .rounds = 2}},
    {"no precopy, five links", {.urgent = true, .background = 3}},
    {"shared, one link", {.shared = true, .rounds = 1}},
};

struct plan {
    const struct row *row;
    struct sides_how how;
    bool veth, tls;
};

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Of a migration that was not interrupted. */
static bool counts_right(FILE *out, const struct sides_how *how)
{
    const struct uf_postcopy_stats *source = &sides_told(0)->stats, *sink = &sides_told(1)->stats;
    uint64_t pages = how->pages[0] + how->pages[1], answered = 0;
    bool good;

    for (int i = 0; i < UF_POSTCOPY_BUCKETS; i++)
        answered += sink->latency[i];
    /* Behind precopy: what was discarded, and zeroes, which were never sent. */
    good = expect(out,
                  how->rounds
                      ? sides_late(source) >= source->pages_discarded && sides_late(source) <= pages
                      : sides_late(source) == pages,
                  "each page that is missing is sent once");
    good &= expect(out, sides_late(sink) == sides_late(source), "and arrives once");
    good &= expect(out, sink->pages_precopy == source->pages_precopy, "as those of precopy do");
    good &= expect(out, sink->pages_discarded == source->pages_discarded, "and what is dropped");
    good &= expect(out, !sink->pages_lost && !source->pages_lost, "nothing is lost");
    good &= expect(out, !sink->recoveries && !source->recoveries, "no connection broke");
    good &= expect(out, source->requests == source->requests_dropped + source->pages_urgent,
                   "a request is answered or dropped");
    good &= expect(out, source->requests <= sink->requests, "none comes that was not made");
    good &= expect(out, answered <= sink->requests, "who waited has asked");
    fprintf(
        out,
        "%llu rounds, pages: %llu precopy, %llu background, %llu urgent, %llu zero; %.0f ms, of "
        "which it stood still %.1f\n",
        (unsigned long long)source->rounds, (unsigned long long)source->pages_precopy,
        (unsigned long long)source->pages_background, (unsigned long long)source->pages_urgent,
        (unsigned long long)source->pages_zero, (double)source->total_ns / 1e6,
        (double)source->downtime_ns / 1e6);
    return good;
}

/* What the network did is what it was told to, each way or together. */
static bool acted(FILE *out, struct network *network, const struct path_how *how)
{
    const struct uf_postcopy_stats *source = &sides_told(0)->stats;
    struct path_counts there = network_counts(network, 0), back = network_counts(network, 1);
    double shortest_ns =
        how->rate ? (double)source->pages_precopy * 4096 * 8e9 / (double)how->rate : 0;
    bool good = expect(out, there.passed && back.passed, "packets pass");

    good &= expect(out,
                   !(how->delay_us || how->rate) ||
                       (there.delayed >= there.passed && back.delayed >= back.passed),
                   "all of them late");
    good &= expect(out, (there.lost > 0) == (how->loss > 0), "some are lost");
    good &= expect(out, (there.overtaken > 0) >= (how->held_back > 0), "some are overtaken");
    good &= expect(out, how->held_back || !(there.overtaken + back.overtaken), "or none");
    good &= expect(out, how->queue || !(there.overflowed + back.overflowed), "no queue, none full");
    good &= expect(out, (double)source->total_ns >= shortest_ns, "not faster than the link");
    fprintf(out,
            "packets there and back: %llu and %llu passed, %llu and %llu late, %llu and %llu lost, "
            "%llu and %llu overtaken, %llu and %llu found the queue full\n",
            (unsigned long long)there.passed, (unsigned long long)back.passed,
            (unsigned long long)there.delayed, (unsigned long long)back.delayed,
            (unsigned long long)there.lost, (unsigned long long)back.lost,
            (unsigned long long)there.overtaken, (unsigned long long)back.overtaken,
            (unsigned long long)there.overflowed, (unsigned long long)back.overflowed);
    return good;
}

/* ret_why: where it cannot be tried. */
static enum worker_result migrate(FILE *out, struct network *network, const struct plan *plan,
                                  char *ret_why)
{
    int fds[2][NETWORK_LINKS], *theirs[2] = {fds[0], fds[1]}, ends[2];
    bool wanted[NETWORK_LINKS], good;
    unsigned links = sides_links(&plan->how), made = 0;
    uint64_t before = now_us();
    struct sides sides;

    for (unsigned i = 0; i < links; i++)
        made += wanted[i] = i != 1 || plan->how.urgent;
    if (network_connect(network, wanted, links, theirs)) {
        fprintf(out, "no connection\n");
        return WORKER_BAD;
    }
    good = expect(out, now_us() - before >= 2 * plan->row->network.delay_us * (uint64_t)made,
                  "a handshake takes a round trip");
    sides_start_over(&sides, &plan->how, theirs);
    for (int side = 0; side < 2; side++)
        good &= expect(out, sides_await(&sides, side) == 0, "nobody asks for new links");
    for (int side = 0; side < 2; side++)
        ends[side] = sides_end(&sides, side);
    if (ends[0] == 77 || ends[1] == 77) {
        strcpy(ret_why, "this backend, or its kind of memory, is not to be had here");
        return WORKER_SKIP;
    }
    for (int side = 0; side < 2; side++) {
        good &= expect(out, ends[side] == ALL_RIGHT, side ? "the sink's end" : "the source's end");
        if (ends[side] != ALL_RIGHT)
            fprintf(out, "%d: %d, %s\n", ends[side], sides_told(side)->result,
                    sides_told(side)->words);
    }
    good = good && counts_right(out, &plan->how);
    return good ? WORKER_GOOD : WORKER_BAD;
}

static enum worker_result run(const void *arg, FILE *out, char ret_why[128])
{
    const struct plan *plan = arg;
    struct network network;
    const char *why = plan->veth ? network_open_veth(&network, &plan->row->network)
                                 : network_open(&network, &plan->row->network, SEED);
    enum worker_result result;

    if (why) {
        snprintf(ret_why, 128, "%s", why);
        return WORKER_SKIP;
    }
    result = migrate(out, &network, plan, ret_why);
    if (result == WORKER_GOOD && !plan->veth && !acted(out, &network, &plan->row->network))
        result = WORKER_BAD;
    if (result == WORKER_GOOD && plan->veth &&
        !expect(out, network_veth_acted(&network, &plan->row->network), "netem has lost some"))
        result = WORKER_BAD;
    network_close(&network);
    return result;
}

/* ---- all of them */

#define POINTS_MAX 64

static struct plan plans[POINTS_MAX];
static struct worker_point points[POINTS_MAX];
static unsigned count;

static bool few;
static const char *only = ""; /* what names have to have in them */

static void add(const struct row *row, const char *kind, const struct sides_how *how, bool veth,
                const char *key)
{
    struct plan *plan = &plans[count];
    struct worker_point *point = &points[count];

    *plan = (struct plan){.row = row, .how = *how, .veth = veth};
    plan->how.page = 4096;
    plan->how.pages[0] = few ? FEW : row->pages;
    plan->how.pages[1] = plan->how.pages[0] / 2;
    plan->how.psk_file = key;
    *point = (struct worker_point){.run = run, .arg = plan};
    snprintf(point->name, sizeof(point->name), "%s%s: %s%s", veth ? "veth, netem: " : "", row->name,
             kind, key ? ", TLS" : "");
    count += strstr(point->name, only) != NULL;
}

int main(int argc, char **argv)
{
    enum uf_backend backend =
        argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    const size_t row_count = sizeof(rows) / sizeof(rows[0]);
    unsigned at_once = argc > 3 ? (unsigned)atoi(argv[3]) : AT_ONCE;

    few = argc > 3;
    only = argc > 2 ? argv[2] : only;
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < row_count; i++) {
        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
            struct sides_how how = kinds[k].how;

            how.backend = backend;
            add(&rows[i], kinds[k].name, &how, false, NULL);
            if (k == 0)
                add(&rows[i], kinds[k].name, &how, true, NULL);
            if (k == 0 && i == row_count - 1)
                add(&rows[i], kinds[k].name, &how, false, sides_key());
        }
    }
    return workers_run(points, count, at_once) != 0;
}
