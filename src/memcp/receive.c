/* SPDX-License-Identifier: MIT */
/* The sink: memory arrives, and is compared. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "side.h"

static int resume(void *arg, const void *blob, size_t len)
{
    struct side *side = arg;
    int ret;

    if (len != sizeof(side->state))
        return -EPROTO;
    memcpy(&side->state, blob, len);
    if (le64toh(side->state.plan) != side->plan_hash)
        return -EBADMSG;
    side->result->writes_before = le64toh(side->state.writes);
    side->result->reads_before = le64toh(side->state.reads);
    atomic_store(&side->writer.done, side->result->writes_before);
    atomic_store(&side->reader.done, side->result->reads_before);
    if (side->plan.once)
        side->reader.limit = side->memory.pages;
    side_note_switch(side);
    ret = worker_start(&side->writer);
    return ret ? ret : worker_start(&side->reader);
}

/* Another program's numbers: each is looked at. Return: NULL; why not. */
static const char *refusal(const struct plan *plan, const struct side_options *options)
{
    if (plan->version != PLAN_VERSION)
        return "this version speaks another language: use the same on both sides";
    if ((plan->page_bytes != PAGE && plan->page_bytes != (size_t)2 << 20) || !plan->size ||
        plan->size % plan->page_bytes)
        return "the size and the page size do not belong together";
    if (plan->size > options->max_size)
        return "the region is larger than --max-size here";
    if (plan->writer.pattern >= PATTERNS || plan->reader.pattern >= PATTERNS ||
        (plan->writer.pattern == PATTERN_HOT && plan->writer.hot_bytes < PAGE) ||
        (plan->reader.pattern == PATTERN_HOT && plan->reader.hot_bytes < PAGE))
        return "a pattern that is not known here";
    if (plan->tls != options->tls)
        return "what was agreed on is not what the sender says now";
    if (plan->reconnect_s > RECONNECT_MAX_S)
        return "no connection is waited for longer than a day";
    if (plan->verify > 1 || plan->compress > UF_POSTCOPY_COMPRESS_ALWAYS)
        return "an option that is not known here";
    return NULL;
}

static int answer(struct side *side, const char *why)
{
    uint64_t words[1 + WHY_MAX / 8] = {0};

    if (why) {
        words[0] = WHY_MAX / 8;
        memcpy(words + 1, why, strnlen(why, WHY_MAX - 1));
    }
    return talk_send(side->links, words, 1 + words[0], side->links->options.patience_ms);
}

static int hear_sums(struct side *side)
{
    size_t count = side->memory.pages;

    side->memory.sums = malloc(count * sizeof(*side->memory.sums));
    if (!side->memory.sums)
        return -ENOMEM;
    return talk_recv(side->links, side->memory.sums, count * WORDS(struct page_sum),
                     side->links->options.patience_ms);
}

/* As the sender's. Both sides know then what does not fit, and say it. */
static int begin_talk(struct side *side)
{
    const unsigned patience_ms = side->links->options.patience_ms;
    uint64_t ours = side_greeting(side->options->tls), theirs;
    int ret = words_recv(&side->links->talk, &theirs, 1, patience_ms);

    if (ret == 0)
        ret = words_send(&side->links->talk, &ours, 1, patience_ms);
    if (ret)
        return side_fail(side, EXIT_FAILED, "the sender said nothing: %s", words_strerror(ret));
    if (side_mismatch(theirs, ours))
        return side_fail(side, EXIT_SETUP, "%s", side_mismatch(theirs, ours));
    return side_secure(side);
}

static int hear_plan(struct side *side)
{
    int ret =
        talk_recv(side->links, &side->plan, WORDS(side->plan), side->links->options.patience_ms);
    const char *why;

    if (ret)
        return side_fail(side, EXIT_FAILED, "the sender said nothing: %s", words_strerror(ret));
    side->outcome->plan = side->plan;
    side->reconnect_s =
        side->options->reconnect_given ? side->options->reconnect_s : side->plan.reconnect_s;
    side->reconnects =
        side->options->reconnect_given ? side->options->reconnects : side->plan.reconnects;
    if (side->links->listener < 0)
        side->reconnect_s = 0;
    else if (!side->reconnect_s)
        links_unlisten(side->links);
    why = refusal(&side->plan, side->options);
    ret = why ? side_fail(side, EXIT_SETUP, "%s", why) : side_probe_backend(side);
    if (ret == 0)
        ret = side_map_memory(side);
    if (ret == 0 && side->plan.has_table && hear_sums(side))
        ret = side_fail(side, EXIT_FAILED, "the sums of the pages did not come");
    if (answer(side, ret ? side->outcome->error : NULL))
        return side_fail(side, EXIT_FAILED, "the sender is gone");
    return ret;
}

static void sink_stats(const void *sink, struct uf_postcopy_stats *ret)
{
    uf_sink_stats(sink, ret);
}

static unsigned sink_threads(const void *sink, struct uf_postcopy_thread *ret, unsigned max)
{
    return uf_sink_threads(sink, ret, max);
}

/* The engine's links broke; when the source talks instead, it knows that all is here. */
static int reconnect(void *arg, int error, struct uf_postcopy_links *ret)
{
    struct side *side = arg;
    uint64_t deadline_ns = side_note_break(side, error);
    int failed = deadline_ns ? links_accept_again(side->links, deadline_ns) : -ETIMEDOUT;

    *ret = side->links->ends;
    return failed;
}

/*
 * The connection is not secured yet if the source called while the engine was waiting for its
 * links. That it was heard may be what is lost: then this waits for a source that comes again,
 * in vain, and has told it none the less. Return: 0: heard; -errno; ret_told: nothing is left but
 * that.
 */
static int tell_words(struct side *side, bool *ret_told)
{
    const unsigned patience_ms = side->links->options.patience_ms;
    uint64_t heard = 0;
    char why[WHY_MAX];
    int ret = talk_secure(side->links, why, sizeof(why));

    if (ret == 0)
        ret = talk_send(side->links, side->result, WORDS(*side->result), patience_ms);
    if (ret == 0)
        ret = talk_send(side->links, side->series.samples,
                        side->series.count * WORDS(struct sample), patience_ms);
    *ret_told |= ret == 0;
    if (ret == 0)
        ret = talk_recv(side->links, &heard, 1, patience_ms);
    /* On one connection for everything the engine's last word, BYE, lies before it and will do. */
    if (ret == 0 && heard != HEARD && side->links->talk.in != side->links->ends.control.in)
        ret = -EPROTO;
    return ret;
}

static int tell_result(struct side *side)
{
    uint64_t deadline_ns = side_reconnect_until(side);
    bool told = false;
    int ret = tell_words(side, &told);

    while (ret && now_ns() < deadline_ns) {
        ret = links_accept_talk(side->links, deadline_ns);
        if (ret == 0)
            ret = tell_words(side, &told);
    }
    if (ret && told && !side->options->quiet)
        say("the sender did not say that it has heard the result: %s", words_strerror(ret));
    return told ? 0
                : side_fail(side, EXIT_FAILED, "telling the sender the result: %s",
                            words_strerror(ret));
}

static void take_threads(struct result *ret, const struct uf_sink *sink)
{
    struct uf_postcopy_thread threads[WAITED_MAX];
    unsigned count = uf_sink_threads(sink, threads, WAITED_MAX);

    ret->threads = count < WAITED_MAX ? count : WAITED_MAX;
    for (unsigned i = 0; i < ret->threads; i++)
        ret->waited[i] = (struct waited){threads[i].tid, threads[i].faults, threads[i].blocked_ns};
}

static int arrive(struct side *side, struct uf_sink *sink)
{
    int ret = uf_sink_region(sink, side->memory.start, side->plan.size, side->plan.page_bytes);
    struct uf_postcopy_stats stats;
    int verified;

    side_begin_series(side, "sink", sink_stats, sink);
    side->series.threads = sink_threads;
    side->resident_before = side_status_bytes("VmRSS") + side->plan.size;
    if (ret == 0)
        ret = series_start(&side->series);
    if (ret)
        return side_fail(side, EXIT_SETUP, "starting: %s", strerror(-ret));
    ret = uf_sink_run(sink, &side->links->ends);
    if (side->reader.limit && ret == 0)
        worker_join(&side->reader);
    worker_stop(&side->reader);
    worker_stop(&side->writer);
    series_stop(&side->series);
    uf_sink_stats(sink, &stats);
    side_take_result(side, &stats, uf_sink_switched(sink), ret);
    take_threads(side->result, sink);
    side->outcome->has_sink = true;
    if (ret)
        return side_fail(side, EXIT_FAILED, "failed %s the switch: %s",
                         side->result->switched ? "behind" : "before", uf_sink_error(sink));
    verified = side_verify(side);
    ret = tell_result(side);
    return ret ? ret : verified ? verified : side_judge(side->result);
}

static int receive_memory(struct side *side)
{
    struct uf_sink_options how = {.backend = side->options->backend, .resume = resume, .arg = side};
    struct uf_sink *sink;
    int ret = begin_talk(side);

    if (ret == 0)
        ret = hear_plan(side);
    if (ret)
        return ret;
    how.reconnect = side->reconnect_s ? reconnect : NULL;
    how.handshake_ms = side->links->options.patience_ms;
    side->plan_hash = side_plan_hash(side);
    side_prepare_workers(side);
    ret = uf_sink_new(&sink, &how);
    if (ret)
        return side_fail(side, EXIT_SETUP, "starting: %s", strerror(-ret));
    ret = arrive(side, sink);
    uf_sink_free(sink);
    return ret;
}

int side_receive(const struct side_options *options, struct links *links, struct outcome *outcome)
{
    struct side *side = side_new(options, links, outcome, &outcome->sink);
    int ret;

    if (!side)
        return EXIT_SETUP;
    links->ends.tls = options->credentials;
    ret = receive_memory(side);
    side_free(side, outcome->sink_samples);
    return ret;
}
