/* SPDX-License-Identifier: MIT */
/*
 * Either side is killed (SIGKILL) at every message that a migration knows, when that is on its way
 * and has not arrived: packets vanish from it on, the process is killed, the network is restored.
 * The other side is not to hang, says what happened, and has what was not on the dead side: all of
 * it at the source; what had arrived at the sink, and SIGBUS for the rest, which is named
 * (sides.c). Nobody comes in the dead side's place.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"
#include "sides.h"
#include "states.h"
#include "workers.h"

#define AT_ONCE  40   /* they mostly wait */
#define LIMIT_MS 8000 /* vanish.c */

struct plan {
    const struct state *state;
    int victim;
    enum uf_backend backend;
};

struct story {
    struct network network;
    struct sides sides;
    struct sides_how how;
    int ends[2];
};

static bool make_links(struct story *story, int fds[2][NETWORK_LINKS])
{
    bool wanted[NETWORK_LINKS] = {true, true, true, true};
    int *ends[2] = {fds[0], fds[1]};

    return network_connect(&story->network, wanted, sides_links(&story->how), ends) == 0;
}

/* Until the message is on its way. Return: false: a side has ended, or asks for links, before. */
static bool came(struct story *story)
{
    struct pollfd fds[3] = {{.fd = story->network.event_fd, .events = POLLIN},
                            {.fd = story->sides.line[0], .events = POLLIN},
                            {.fd = story->sides.line[1], .events = POLLIN}};
    uint64_t tries;

    while (!network_swallowed(&story->network, &tries)) {
        if (poll(fds, 3, SIDES_PATIENCE * 1000) <= 0)
            abort();
        if (!fds[1].revents && !fds[2].revents)
            continue;
        network_settle(&story->network); /* its last packets may be on their way */
        return !network_take_back(&story->network);
    }
    return true;
}

/* The first connection is lost at a message, and both ask for another one. */
static bool lose_first(struct story *story, const struct network_cut *next)
{
    int fds[2][NETWORK_LINKS];
    bool both = came(story);

    for (int side = 0; side < 2; side++)
        both &= sides_await(&story->sides, side) < 0;
    network_restore(&story->network);
    network_cut_at(&story->network, next);
    both = both && make_links(story, fds);
    for (int side = 0; side < 2; side++)
        sides_answer_over(&story->sides, &story->how, side, both ? fds[side] : NULL);
    return both;
}

static void end_both(struct story *story, int victim)
{
    kill(story->sides.pid[victim], SIGKILL);
    story->ends[victim] = sides_end(&story->sides, victim);
    network_restore(&story->network);
    while (sides_await(&story->sides, !victim) < 0)
        sides_answer_over(&story->sides, &story->how, !victim, NULL);
    story->ends[!victim] = sides_end(&story->sides, !victim);
}

/* A sink has not resumed before SWITCH came. */
static bool sink_right(FILE *out, const struct story *story, const struct state *state)
{
    const bool either = state->at.type == WIRE_BLOB || state->at.type == WIRE_SWITCH;
    const bool late = state->phase == BEHIND;
    const uint64_t lost = sides_told(SINK)->stats.pages_lost;
    const int end = story->ends[SINK];
    bool good = expect(out, late || either || end == BEFORE_SWITCH, "the sink does not run");

    good &= expect(out, !late || either || end != BEFORE_SWITCH, "the sink runs");
    /* What is named is compared with what its readers could not have (sides.c). */
    if (end == BEHIND_SWITCH && state->at.type == WIRE_REQUEST)
        good &= expect(out, lost > 0, "pages are lost");
    return good & expect(out, end == BEHIND_SWITCH || !lost, "none are");
}

/* A source does not know behind SWITCH whether the sink has run, until it hears COMPLETE. */
static bool source_right(FILE *out, const struct story *story, const struct state *state)
{
    const bool last = state->at.type == WIRE_COMPLETE || state->at.type == WIRE_BYE ||
                      state->again.type == WIRE_COMPLETE;
    const int end = story->ends[SOURCE];
    bool good = expect(out, state->phase != BEFORE || end == BEFORE_SWITCH, "the source goes on");

    good &= expect(out, state->phase != BEHIND || end != BEFORE_SWITCH, "it does not");
    return good & expect(out, last || end != ALL_RIGHT, "nor is it content");
}

static enum worker_result judge(FILE *out, const struct story *story, const struct plan *plan)
{
    const struct sides_told *told = sides_told(!plan->victim);
    const int dead = story->ends[plan->victim];
    /* Who says BYE waits for nothing any more, and may have ended. */
    bool good = expect(
        out, dead == 128 + SIGKILL || (dead == ALL_RIGHT && plan->state->at.type == WIRE_BYE),
        "it is killed");

    good &= plan->victim == SOURCE ? sink_right(out, story, plan->state)
                                   : source_right(out, story, plan->state);
    good &= expect(out, !told->result == !*told->words, "what happened is said");
    fprintf(out, "the %s ended with %d (%d, %s)\n", plan->victim ? "source" : "sink",
            story->ends[!plan->victim], told->result, told->words);
    return good ? WORKER_GOOD : WORKER_BAD;
}

static enum worker_result migrate(FILE *out, struct story *story, const struct plan *plan,
                                  char *ret_why)
{
    int fds[2][NETWORK_LINKS], *theirs[2] = {fds[0], fds[1]};
    const struct network_cut *again = &plan->state->again;
    bool good;

    network_cut_at(&story->network, &plan->state->at);
    if (!make_links(story, fds))
        return WORKER_BAD;
    sides_start_over(&story->sides, &story->how, theirs);
    good = (!again->type || lose_first(story, again)) && came(story);
    end_both(story, plan->victim);
    if (story->ends[0] == 77 || story->ends[1] == 77) {
        strcpy(ret_why, "this backend is not to be had here");
        return WORKER_SKIP;
    }
    if (!expect(out, good, "the migration came to this message"))
        return WORKER_BAD;
    return judge(out, story, plan);
}

static enum worker_result run(const void *arg, FILE *out, char ret_why[128])
{
    static struct story story;
    const struct plan *plan = arg;
    enum worker_result result;
    const char *why;

    why = network_open(&story.network, &(struct path_how){0}, 1);
    if (why) {
        snprintf(ret_why, 128, "%s", why);
        return WORKER_SKIP;
    }
    story.how = states_how(plan->state, plan->backend, LIMIT_MS);
    result = migrate(out, &story, plan, ret_why);
    network_close(&story.network);
    return result;
}

/* usage: killed kernel|user [WORD]: at those with the word in their name only */
int main(int argc, char **argv)
{
    static struct plan plans[2 * STATES];
    static struct worker_point points[2 * STATES];
    enum uf_backend backend =
        argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    const char *only = argc > 2 ? argv[2] : "";
    unsigned count = 0;

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < 2 * STATES; i++) {
        struct worker_point *point = &points[count];

        plans[count] = (struct plan){&states[i / 2], i % 2, backend};
        *point = (struct worker_point){.run = run, .arg = &plans[count]};
        snprintf(point->name, sizeof(point->name), "the %s is killed at %s",
                 i % 2 ? "sink" : "source", states[i / 2].name);
        count += strstr(point->name, only) != NULL;
    }
    return workers_run(points, count, AT_ONCE) != 0;
}
