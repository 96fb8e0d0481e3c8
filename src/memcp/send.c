/* SPDX-License-Identifier: MIT */
/* The source: its memory goes away. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "side.h"

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct side *side = arg;

    worker_stop(&side->writer);
    worker_stop(&side->reader);
    side_note_switch(side);
    side->state.writes = htole64(atomic_load(&side->writer.done));
    side->state.reads = htole64(atomic_load(&side->reader.done));
    side->state.plan = htole64(side->plan_hash);
    *ret_blob = &side->state;
    *ret_len = sizeof(side->state);
    return 0;
}

static int fill_memory(struct side *side)
{
    const char *path = side->options->fill;
    int ret = 0, fd;

    if (!path) {
        memory_fill(&side->memory);
    } else {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        ret = fd < 0 ? -errno : memory_load(&side->memory, fd);
        if (fd >= 0)
            close(fd);
    }
    if (ret)
        return side_fail(side, EXIT_SETUP, "%s: %s", path, strerror(-ret));
    if (side->options->spoil)
        side->memory.start[side->options->spoil_page * PAGE + PAGE / 2] ^= 1;
    return 0;
}

/* Not before all is ready: who is connected to waits for words, and not for ever. */
static int connect_now(struct side *side)
{
    struct links *links = side->links;
    int ret = links->address ? links_connect(links) : 0;

    links->ends.tls = side->options->credentials;
    side->outcome->transport = links->transport;
    side->outcome->links = links_count(&links->ends);
    return ret;
}

/* All that goes by in the clear: which version this is, and whether the rest is to be encrypted. */
static int begin_talk(struct side *side)
{
    const unsigned patience_ms = side->links->options.patience_ms;
    uint64_t ours = side_greeting(side->plan.tls), theirs;
    int ret = words_send(&side->links->talk, &ours, 1, patience_ms);

    if (ret == 0)
        ret = words_recv(&side->links->talk, &theirs, 1, patience_ms);
    if (ret)
        return side_fail(side, EXIT_FAILED, "agreeing with the receiver: %s", words_strerror(ret));
    if (side_mismatch(ours, theirs))
        return side_fail(side, EXIT_SETUP, "the receiver: %s", side_mismatch(ours, theirs));
    return side_secure(side);
}

/* The sink hears what to expect, and says whether it can. */
static int agree(struct side *side)
{
    const unsigned patience_ms = side->links->options.patience_ms;
    uint64_t why_len = 0, why[WHY_MAX / 8 + 1] = {0};
    int ret = begin_talk(side);

    if (ret)
        return ret;
    ret = talk_send(side->links, &side->plan, WORDS(side->plan), patience_ms);
    if (ret == 0 && side->plan.has_table)
        ret = talk_send(side->links, side->memory.sums, side->memory.pages * WORDS(struct page_sum),
                        patience_ms);
    if (ret == 0)
        ret = talk_recv(side->links, &why_len, 1, patience_ms);
    if (ret == 0 && why_len > WHY_MAX / 8)
        ret = -EPROTO;
    if (ret == 0 && why_len)
        ret = talk_recv(side->links, why, why_len, patience_ms);
    if (ret)
        return side_fail(side, EXIT_FAILED, "agreeing with the receiver: %s", words_strerror(ret));
    for (char *at = (char *)why; *at; at++) /* another machine's words, on a terminal */
        *at = *at < ' ' || *at > '~' ? '?' : *at;
    return why_len ? side_fail(side, EXIT_SETUP, "the receiver: %s", (char *)why) : 0;
}

static void source_stats(const void *source, struct uf_postcopy_stats *ret)
{
    uf_source_stats(source, ret);
}

/* The engine's links broke. */
static int reconnect(void *arg, int error, struct uf_postcopy_links *ret)
{
    struct side *side = arg;
    uint64_t deadline_ns = side_note_break(side, error);
    int failed = deadline_ns ? links_connect_again(side->links, deadline_ns) : -ETIMEDOUT;

    *ret = side->links->ends;
    return failed;
}

/* ---- what the sink found */

/* Return: 0; -errno. The sink, which may have to say it again, hears that it was heard. */
static int hear_words(struct side *side)
{
    const unsigned patience_ms = side->links->options.patience_ms;
    const uint64_t heard = HEARD;
    struct outcome *outcome = side->outcome;
    int ret =
        talk_recv(side->links, &outcome->sink, WORDS(outcome->sink), 0); /* it verifies first */

    if (ret == 0 && (outcome->sink.samples > SAMPLES_MAX || outcome->sink.threads > WAITED_MAX))
        ret = -EPROTO;
    if (ret == 0)
        ret = talk_recv(side->links, outcome->sink_samples,
                        outcome->sink.samples * WORDS(struct sample), patience_ms);
    if (ret == 0)
        talk_send(side->links, &heard, 1, patience_ms);
    return ret;
}

static int hear_result(struct side *side)
{
    uint64_t deadline_ns = side_reconnect_until(side);
    char why[WHY_MAX];
    int ret = hear_words(side);

    while (ret && now_ns() < deadline_ns) {
        ret = links_connect_talk(side->links, deadline_ns);
        if (ret == 0)
            ret = talk_secure(side->links, why, sizeof(why));
        if (ret == 0)
            ret = hear_words(side);
    }
    side->outcome->has_sink = ret == 0;
    return ret ? side_fail(side, EXIT_FAILED,
                           "everything moved, but the receiver did not say what it found: %s",
                           words_strerror(ret))
               : 0;
}

static int source_failed(struct side *side, const struct uf_source *source)
{
    if (uf_source_switched(source))
        return side_fail(side, EXIT_FAILED, "failed behind the switch: %s",
                         uf_source_error(source));
    if (memory_verify(&side->memory, side->result->writes, &side->result->verified))
        return side_fail(side, EXIT_FAILED,
                         "failed before the switch: %s; no memory to verify the memory here with",
                         uf_source_error(source));
    return side_fail(side, EXIT_FAILED, "failed before the switch: %s; the memory here is %s",
                     uf_source_error(source),
                     side->result->verified.wrong ? "NOT as it was" : "whole");
}

static int migrate(struct side *side, struct uf_source *source)
{
    int ret = uf_source_region(source, side->memory.start, side->plan.size, side->plan.page_bytes);
    struct uf_postcopy_stats stats;

    side_begin_series(side, "source", source_stats, source);
    side->resident_before = side_status_bytes("VmRSS");
    if (ret == 0)
        ret = worker_start(&side->writer);
    if (ret == 0 && !side->plan.once)
        ret = worker_start(&side->reader);
    if (ret == 0)
        ret = series_start(&side->series);
    if (ret) {
        worker_stop(&side->writer);
        worker_stop(&side->reader);
        return side_fail(side, EXIT_SETUP, "starting: %s", strerror(-ret));
    }
    ret = uf_source_run(source, &side->links->ends);
    series_stop(&side->series);
    worker_stop(&side->writer);
    worker_stop(&side->reader);
    uf_source_stats(source, &stats);
    side_take_result(side, &stats, uf_source_switched(source), ret);
    side->outcome->has_source = true;
    if (ret)
        return source_failed(side, source);
    ret = hear_result(side);
    if (ret)
        return ret;
    if (!side->outcome->sink.verified.pages)
        return side_fail(side, EXIT_SETUP,
                         "everything moved, but the receiver had no memory to verify it with");
    return side->result->reads_wrong ? EXIT_WRONG : side_judge(&side->outcome->sink);
}

static int send_memory(struct side *side)
{
    struct uf_source_options how = {.backend = side->options->backend,
                                    .rounds_max = side->options->rounds,
                                    .downtime_ms = side->options->downtime_ms,
                                    .bandwidth_bytes = side->options->bandwidth,
                                    .verify = side->plan.verify,
                                    .compression = side->plan.compress,
                                    .handshake_ms = side->links->options.patience_ms,
                                    .stop = stop,
                                    .reconnect = side->reconnect_s ? reconnect : NULL,
                                    .arg = side};
    struct uf_source *source;
    int ret = side_probe_backend(side);

    if (ret == 0)
        ret = side_map_memory(side);
    if (ret == 0)
        ret = fill_memory(side);
    if (ret == 0)
        ret = connect_now(side);
    if (ret == 0)
        ret = agree(side);
    if (ret)
        return ret;
    side->plan_hash = side_plan_hash(side);
    side_prepare_workers(side);
    ret = uf_source_new(&source, &how);
    if (ret)
        return side_fail(side, EXIT_SETUP, "starting: %s", strerror(-ret));
    ret = migrate(side, source);
    uf_source_free(source);
    return ret;
}

int side_send(struct plan *plan, const struct side_options *options, struct links *links,
              struct outcome *outcome)
{
    struct side *side = side_new(options, links, outcome, &outcome->source);
    int ret;

    if (!side)
        return EXIT_SETUP;
    side->plan = outcome->plan = *plan;
    side->reconnect_s = plan->reconnect_s;
    side->reconnects = plan->reconnects;
    ret = send_memory(side);
    side_free(side, outcome->source_samples);
    return ret;
}
