/* SPDX-License-Identifier: MIT */
/*
 * The network between two sides is cut at every message that a migration knows, without a word:
 * packets vanish. It is restored
 *
 *     soon:     TCP has tried again once, and goes on by itself; nobody else has noticed
 *     halfway:  one side has given the links up; the other hears of it then
 *     late:     both have, each by itself (silence_ms)
 *
 * Behind the switch new links are made then, before it the program goes on at the source. Every
 * byte is compared (sides.c).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"
#include "sides.h"
#include "states.h"
#include "workers.h"

#define AT_ONCE 40 /* they mostly wait */
/*
 * Longer than TCP needs for its second try, and than two processes need to begin on a machine with
 * a hundred others: of two processors one gets 3 ms in 150, and takes turns with the other and with
 * the network a dozen times until hands are shaken. What is cut by more than this is seen as such.
 */
#define LIMIT_MS 8000

enum when { SOON, HALFWAY, LATE, WHENS };

static const char *const when_names[] = {"soon", "halfway", "late"};

struct plan {
    const struct state *state;
    enum when when;
    enum uf_backend backend;
};

struct story {
    struct network network;
    struct sides sides;
    struct sides_how how;
    unsigned cuts, asked[2];
    uint64_t tries;
};

static bool make_links(struct story *story, int fds[2][NETWORK_LINKS])
{
    bool wanted[NETWORK_LINKS] = {true, true, true, true};
    int *ends[2] = {fds[0], fds[1]};

    return network_connect(&story->network, wanted, sides_links(&story->how), ends) == 0;
}

/* Whether a line of either side, or of both, can be read; the network's own bell is not heard. */
static bool has_spoken(const struct story *story, bool both)
{
    struct pollfd fds[2] = {{.fd = story->sides.line[0], .events = POLLIN},
                            {.fd = story->sides.line[1], .events = POLLIN}};
    int n = poll(fds, 2, 0);

    return both ? n == 2 : n > 0;
}

/* Until a side says something, or a packet vanishes. */
static void await_any(const struct story *story, bool sides_too)
{
    struct pollfd fds[3] = {{.fd = story->network.event_fd, .events = POLLIN},
                            {.fd = story->sides.line[0], .events = POLLIN},
                            {.fd = story->sides.line[1], .events = POLLIN}};

    if (poll(fds, sides_too ? 3 : 1, SIDES_PATIENCE * 1000) <= 0)
        abort();
}

/* Until a side says something, whatever vanishes meanwhile. */
static void await_line(const struct story *story)
{
    struct pollfd fds[2] = {{.fd = story->sides.line[0], .events = POLLIN},
                            {.fd = story->sides.line[1], .events = POLLIN}};

    if (poll(fds, 2, SIDES_PATIENCE * 1000) <= 0)
        abort();
}

/*
 * The cut, and what is waited for until it is restored. Return: whether it came to that; if not, it
 * does not come later either, when nobody would restore it.
 */
static bool cut_once(struct story *story, enum when when)
{
    uint64_t tries = 0;

    while (!network_swallowed(&story->network, &tries)) {
        if (has_spoken(story, false)) { /* whose last packets may be on their way */
            network_settle(&story->network);
            if (network_take_back(&story->network))
                return false;
            break;
        }
        await_any(story, true);
    }
    while (when == SOON && !tries && !has_spoken(story, true)) {
        await_any(story, false);
        network_swallowed(&story->network, &tries);
    }
    if (when == HALFWAY)
        await_line(story);
    if (when == LATE) {
        struct pollfd line = {.events = POLLIN};

        for (int side = 0; side < 2; side++) {
            line.fd = story->sides.line[side];
            if (poll(&line, 1, SIDES_PATIENCE * 1000) <= 0)
                abort();
        }
    }
    story->cuts++;
    story->tries += tries;
    network_restore(&story->network);
    return true;
}

/* Return: whether both asked for new links, and have them. */
static bool again(struct story *story, const struct network_cut *cut)
{
    int fds[2][NETWORK_LINKS];
    bool both = true;

    for (int side = 0; side < 2; side++) {
        bool asks = sides_await(&story->sides, side) < 0;

        story->asked[side] += asks;
        both &= asks;
    }
    if (cut)
        network_cut_at(&story->network, cut);
    both = both && make_links(story, fds);
    for (int side = 0; side < 2; side++)
        sides_answer_over(&story->sides, &story->how, side, both ? fds[side] : NULL);
    return both;
}

static bool judge(FILE *out, const struct story *story, const struct plan *plan, const int ends[2])
{
    const struct state *state = plan->state;
    const struct sides_told *source = sides_told(0), *sink = sides_told(1);
    unsigned wanted = state->again.type && plan->when != SOON ? 2 : 1;
    bool before = ends[0] == BEFORE_SWITCH, good;
    uint64_t late = sides_late(&sink->stats);
    uint64_t pages = story->how.pages[0] + story->how.pages[1];
    uint64_t dropped = story->how.rounds ? sink->stats.pages_discarded : pages;

    good = expect(out, story->cuts == wanted, "the migration came to this message");
    if (plan->when == SOON) {
        good &= expect(out, !story->asked[0] && !story->asked[1], "nobody noticed");
        good &= expect(out, !source->stats.recoveries && story->tries > 0, "TCP tried again");
    } else if (before) {
        good &= expect(out, state->phase != BEHIND && !story->asked[0], "the source goes on");
        /* The sink, if it was first, may have said so. */
        good &= expect(out,
                       source->result == -ETIMEDOUT || source->result == -ECONNRESET ||
                           source->result == -EPIPE ||
                           (source->result == -EREMOTEIO && plan->when == HALFWAY),
                       "its error is a link's");
        return good & expect(out, ends[1] == BEFORE_SWITCH, "the sink has not resumed");
    }
    good &= expect(out, !before || state->phase != BEHIND, "behind the switch");
    good &= expect(out, ends[0] == ALL_RIGHT && ends[1] == ALL_RIGHT, "both end well");
    good &= expect(out, plan->when == SOON || state->phase != BEFORE, "before the switch");
    /* Zeroes may come, too. What is dropped once more, when it is not known whether it was, is
     * counted once more. */
    good &= expect(out,
                   late <= pages && (late >= dropped || state->at.type == WIRE_SWITCH ||
                                     state->at.type == WIRE_BLOB),
                   "each page that was missing arrived once");
    return good;
}

static enum worker_result migrate(FILE *out, struct story *story, const struct plan *plan,
                                  char *ret_why)
{
    const struct network_cut *next = &plan->state->at, *again_at = &plan->state->again;
    int fds[2][NETWORK_LINKS], *theirs[2] = {fds[0], fds[1]}, ends[2];

    network_cut_at(&story->network, next);
    if (!make_links(story, fds))
        return WORKER_BAD;
    sides_start_over(&story->sides, &story->how, theirs);
    do {
        const bool came = next && cut_once(story, plan->when);

        if (next && !came)
            fprintf(out, "no such message\n");
        next = came && next != again_at && again_at->type ? again_at : NULL;
    } while (again(story, next));
    for (int side = 0; side < 2; side++)
        ends[side] = sides_end(&story->sides, side);
    if (ends[0] == 77 || ends[1] == 77) {
        strcpy(ret_why, "this backend is not to be had here");
        return WORKER_SKIP;
    }
    if (judge(out, story, plan, ends))
        return WORKER_GOOD;
    for (int side = 0; side < 2; side++)
        fprintf(out, "the %s ended with %d (%d, %s), asked %u times\n", side ? "sink" : "source",
                ends[side], sides_told(side)->result, sides_told(side)->words, story->asked[side]);
    return WORKER_BAD;
}

/*
 * A link breaks that this test did not cut, before the message that it waits for: then that is not
 * cut any more, when nobody would look. (Both sides would be cut off from each other for good.)
 */
static enum worker_result break_unasked(FILE *out, struct story *story, const struct plan *plan,
                                        char *ret_why)
{
    int fds[2][NETWORK_LINKS], *theirs[2] = {fds[0], fds[1]}, ends[2];
    bool good;

    network_cut_at(&story->network, &plan->state->at);
    if (!make_links(story, fds))
        return WORKER_BAD;
    sides_start_over(&story->sides, &story->how, theirs);
    good = expect(out, cut_once(story, LATE), "it breaks");
    network_cut_at(&story->network, &plan->state->again);
    good &= expect(out, !cut_once(story, LATE), "the message did not come");
    while (again(story, NULL))
        continue;
    for (int side = 0; side < 2; side++)
        ends[side] = sides_end(&story->sides, side);
    if (ends[0] == 77 || ends[1] == 77) {
        strcpy(ret_why, "this backend is not to be had here");
        return WORKER_SKIP;
    }
    good &= expect(out, ends[0] == ALL_RIGHT && ends[1] == ALL_RIGHT, "both end well");
    good &= expect(out, story->asked[0] == 1 && story->asked[1] == 1, "it broke once");
    return good ? WORKER_GOOD : WORKER_BAD;
}

static enum worker_result run_with(const struct plan *plan, FILE *out, char *ret_why,
                                   enum worker_result (*part)(FILE *out, struct story *story,
                                                              const struct plan *plan,
                                                              char *ret_why))
{
    static struct story story;
    const char *why;
    enum worker_result result;

    story = (struct story){0};
    why = network_open(&story.network, &(struct path_how){0}, 1);
    if (why) {
        snprintf(ret_why, 128, "%s", why);
        return WORKER_SKIP;
    }
    story.how = states_how(plan->state, plan->backend, plan->when == SOON ? 0 : LIMIT_MS);
    result = part(out, &story, plan, ret_why);
    network_close(&story.network);
    return result;
}

static enum worker_result run(const void *arg, FILE *out, char ret_why[128])
{
    return run_with(arg, out, ret_why, migrate);
}

static enum worker_result run_unasked(const void *arg, FILE *out, char ret_why[128])
{
    return run_with(arg, out, ret_why, break_unasked);
}

#define POINTS_MAX (STATES * WHENS + 1)

static const struct state unasked = {"an unasked break",
                                     2,
                                     BEHIND,
                                     {SINK, CONTROL, WIRE_READY, 1},
                                     {SOURCE, CONTROL, WIRE_DIGEST, 1}};

int main(int argc, char **argv)
{
    static struct plan plans[POINTS_MAX];
    static struct worker_point points[POINTS_MAX];
    enum uf_backend backend =
        argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    const char *only = argc > 2 ? argv[2] : "";
    unsigned count = 0;

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < STATES; i++) {
        for (enum when when = 0; when < WHENS; when++) {
            struct worker_point *point = &points[count];

            if (when == SOON && states[i].again.type)
                continue;
            plans[count] = (struct plan){&states[i], when, backend};
            *point = (struct worker_point){.run = run, .arg = &plans[count]};
            snprintf(point->name, sizeof(point->name), "cut at %s, restored %s", states[i].name,
                     when_names[when]);
            count += strstr(point->name, only) != NULL;
        }
    }
    plans[count] = (struct plan){&unasked, LATE, backend};
    points[count] = (struct worker_point){"no cut when nobody looks", run_unasked, &plans[count]};
    count += strstr(points[count].name, only) != NULL;
    return workers_run(points, count, AT_ONCE) != 0;
}
