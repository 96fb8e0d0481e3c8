/* SPDX-License-Identifier: MIT */
/*
 * One side of a migration.
 *
 *     source                                        sink
 *     map, fill
 *     plan, sums of a file's pages            -->   map
 *                                            <--    0, or why not
 *     writer and reader run                         (the engine)
 *     stop: how many writes there were        -->   resume: its own writer and reader go on
 *                                                   end: they stop, all is compared
 *                                            <--    result, samples
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memcp.h"

#define WHY_MAX 200 /* bytes of a refusal; a multiple of 8 */

/* The blob. */
struct state {
    uint64_t writes, reads;
};

struct side {
    struct plan plan;
    const struct side_options *options;
    const struct links *links;
    struct outcome *outcome;
    struct result *result;
    struct memory memory;
    struct worker writer, reader;
    struct series series;
    _Atomic uint64_t switch_ns;
    uint64_t resident_before;
    struct state state;
};

static int fail(struct side *side, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The first reason stays. Return: status. */
static int fail(struct side *side, int status, const char *format, ...)
{
    va_list args;

    if (side->outcome->error[0])
        return status;
    va_start(args, format);
    vsnprintf(side->outcome->error, sizeof(side->outcome->error), format, args);
    va_end(args);
    return status;
}

static uint64_t status_bytes(const char *name)
{
    FILE *file = fopen("/proc/self/status", "re");
    unsigned long long kib = 0;
    char line[256];

    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), ": %llu", &kib);
    }
    if (file)
        fclose(file);
    return kib * 1024;
}

/* Which backend it will be. */
static int probe_backend(struct side *side)
{
    int fd = uf_context_open(O_CLOEXEC | O_NONBLOCK, side->options->backend);

    if (fd < 0)
        return fail(side, EXIT_SETUP, "userfaultfd: %s%s", strerror(errno),
                    side->options->backend == UF_BACKEND_KERNEL
                        ? "; --backend=user works without the kernel's"
                        : "");
    side->result->user_backend = uf_context_backend(fd) == UF_BACKEND_USER;
    uf_context_close(fd);
    return 0;
}

static int map_memory(struct side *side)
{
    bool huge = side->plan.page_bytes > PAGE;
    int ret = memory_map(&side->plan, &side->memory);

    if (ret)
        return fail(side, EXIT_SETUP, "a region of %llu MiB%s: %s%s",
                    (unsigned long long)(side->plan.size >> 20), huge ? " in huge pages" : "",
                    strerror(-ret),
                    huge ? "; /proc/sys/vm/nr_hugepages says how many there are" : "");
    return 0;
}

static void prepare_workers(struct side *side)
{
    side->writer =
        (struct worker){.memory = &side->memory, .pace = side->plan.writer, .writes = true};
    side->reader = (struct worker){
        .memory = &side->memory, .pace = side->plan.reader, .writes_so_far = &side->writer.done};
}

static void begin_series(struct side *side, const char *who,
                         void (*stats)(const void *, struct uf_postcopy_stats *), const void *of)
{
    side->series.stats = stats;
    side->series.side = of;
    side->series.plan = &side->plan;
    side->series.switch_ns = &side->switch_ns;
    side->series.who = who;
    side->series.progress = side->options->progress;
    side->series.progress_json = side->options->progress_json;
}

static void take_stats(struct side *side, const struct uf_postcopy_stats *stats)
{
    struct result *r = side->result;
    uint64_t beyond = status_bytes("VmHWM");

    r->rounds = stats->rounds;
    r->precopy = stats->pages_precopy;
    r->background = stats->pages_background;
    r->urgent = stats->pages_urgent;
    r->zero = stats->pages_zero;
    r->lost = stats->pages_lost;
    r->discarded = stats->pages_discarded;
    r->bytes = stats->bytes;
    r->requests = stats->requests;
    r->requests_dropped = stats->requests_dropped;
    r->downtime_ns = stats->downtime_ns;
    r->total_ns = stats->total_ns;
    r->blocked_ns = stats->blocked_ns;
    memcpy(r->latency, stats->latency, sizeof(r->latency));
    r->memory_bytes = beyond > side->resident_before ? beyond - side->resident_before : 0;
    r->start_ns = side->series.start_ns;
    r->switch_ns = atomic_load(&side->switch_ns);
    r->samples = side->series.count;
}

static void take_workers(struct side *side)
{
    struct result *r = side->result;

    r->writes = atomic_load(&side->writer.done);
    r->reads = atomic_load(&side->reader.done);
    r->reads_wrong = side->reader.wrong;
    r->reads_lost = side->reader.lost + side->writer.lost;
    r->waits = side->reader.waits;
    r->wait_ns = side->reader.wait_ns;
    r->wait_max_ns = side->reader.wait_max_ns;
    memcpy(r->touch, side->reader.touch, sizeof(r->touch));
}

/* What the engine has counted, and the workers, and how it ended. */
static void take_result(struct side *side, const struct uf_postcopy_stats *stats, bool switched,
                        int ret)
{
    take_stats(side, stats);
    take_workers(side);
    side->result->switched = switched;
    side->result->failed = (uint64_t)-ret;
}

static void note_switch(struct side *side)
{
    atomic_store(&side->switch_ns, now_ns() - side->series.start_ns);
}

static void verify(struct side *side)
{
    if (memory_verify(&side->memory, side->result->writes, &side->result->verified))
        fail(side, EXIT_SETUP, "no memory to verify with");
}

/* ---- the source */

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct side *side = arg;

    worker_stop(&side->writer);
    worker_stop(&side->reader);
    note_switch(side);
    side->state.writes = htole64(atomic_load(&side->writer.done));
    side->state.reads = htole64(atomic_load(&side->reader.done));
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
        return fail(side, EXIT_SETUP, "%s: %s", path, strerror(-ret));
    if (side->options->spoil)
        side->memory.start[side->options->spoil_page * PAGE + PAGE / 2] ^= 1;
    return 0;
}

/* The sink hears what to expect, and says whether it can. */
static int agree(struct side *side)
{
    const struct uf_postcopy_link *control = &side->links->ends.control;
    uint64_t why_len = 0, why[WHY_MAX / 8 + 1] = {0};
    int ret = words_send(control, &side->plan, WORDS(side->plan));

    if (ret == 0 && side->plan.has_table)
        ret = words_send(control, side->memory.sums, side->memory.pages * WORDS(struct page_sum));
    if (ret == 0)
        ret = words_recv(control, &why_len, 1);
    if (ret == 0 && why_len > WHY_MAX / 8)
        ret = -EPROTO;
    if (ret == 0 && why_len)
        ret = words_recv(control, why, why_len);
    if (ret)
        return fail(side, EXIT_FAILED, "agreeing with the receiver: %s",
                    ret == -ECONNRESET ? "it has closed the connection" : strerror(-ret));
    for (char *at = (char *)why; *at; at++) /* another machine's words, on a terminal */
        *at = *at < ' ' || *at > '~' ? '?' : *at;
    return why_len ? fail(side, EXIT_SETUP, "the receiver: %s", (char *)why) : 0;
}

static void source_stats(const void *source, struct uf_postcopy_stats *ret)
{
    uf_source_stats(source, ret);
}

static int hear_result(struct side *side)
{
    const struct uf_postcopy_link *control = &side->links->ends.control;
    struct outcome *outcome = side->outcome;
    int ret = words_recv(control, &outcome->sink, WORDS(outcome->sink));

    if (ret == 0 && outcome->sink.samples > SAMPLES_MAX)
        ret = -EPROTO;
    if (ret == 0)
        ret = words_recv(control, outcome->sink_samples,
                         outcome->sink.samples * WORDS(struct sample));
    if (ret)
        return fail(side, EXIT_FAILED,
                    "everything moved, but the receiver did not say what it "
                    "found: %s",
                    strerror(-ret));
    outcome->has_sink = true;
    return 0;
}

static int judge(const struct result *r)
{
    return r->verified.wrong || r->reads_wrong || r->reads_lost ? EXIT_WRONG : 0;
}

static int source_failed(struct side *side, const struct uf_source *source)
{
    if (uf_source_switched(source))
        return fail(side, EXIT_FAILED, "failed behind the switch: %s", uf_source_error(source));
    verify(side);
    return fail(side, EXIT_FAILED, "failed before the switch: %s; the memory here is %s",
                uf_source_error(source), side->result->verified.wrong ? "NOT as it was" : "whole");
}

static int migrate(struct side *side, struct uf_source *source)
{
    int ret = uf_source_region(source, side->memory.start, side->plan.size, side->plan.page_bytes);
    struct uf_postcopy_stats stats;

    begin_series(side, "source", source_stats, source);
    side->resident_before = status_bytes("VmRSS");
    if (ret == 0)
        ret = worker_start(&side->writer);
    if (ret == 0 && !side->plan.once)
        ret = worker_start(&side->reader);
    if (ret == 0)
        ret = series_start(&side->series);
    if (ret)
        return fail(side, EXIT_SETUP, "starting: %s", strerror(-ret));
    ret = uf_source_run(source, &side->links->ends);
    series_stop(&side->series);
    worker_stop(&side->writer);
    worker_stop(&side->reader);
    uf_source_stats(source, &stats);
    take_result(side, &stats, uf_source_switched(source), ret);
    side->outcome->has_source = true;
    if (ret)
        return source_failed(side, source);
    ret = hear_result(side);
    if (ret)
        return ret;
    return side->result->reads_wrong ? EXIT_WRONG : judge(&side->outcome->sink);
}

static int send_memory(struct side *side)
{
    struct uf_source_options how = {.backend = side->options->backend,
                                    .rounds_max = side->options->rounds,
                                    .downtime_ms = side->options->downtime_ms,
                                    .bandwidth_bytes = side->options->bandwidth,
                                    .stop = stop,
                                    .arg = side};
    struct uf_source *source;
    int ret = probe_backend(side);

    if (ret == 0)
        ret = map_memory(side);
    if (ret == 0)
        ret = fill_memory(side);
    if (ret == 0)
        ret = agree(side);
    if (ret)
        return ret;
    prepare_workers(side);
    if (uf_source_new(&source, &how))
        return fail(side, EXIT_SETUP, "no memory");
    ret = migrate(side, source);
    uf_source_free(source);
    return ret;
}

static void keep_samples(struct side *side, struct sample *to)
{
    memcpy(to, side->series.samples, side->series.count * sizeof(*to));
}

int side_send(struct plan *plan, const struct side_options *options, const struct links *links,
              struct outcome *outcome)
{
    struct side *side = calloc(1, sizeof(*side));
    int ret;

    if (!side)
        return EXIT_SETUP;
    side->plan = outcome->plan = *plan;
    side->options = options;
    side->links = links;
    side->outcome = outcome;
    side->result = &outcome->source;
    ret = send_memory(side);
    keep_samples(side, outcome->source_samples);
    memory_free(&side->memory);
    free(side);
    return ret;
}

/* ---- the sink */

static int resume(void *arg, const void *blob, size_t len)
{
    struct side *side = arg;
    int ret;

    if (len != sizeof(side->state))
        return -EPROTO;
    memcpy(&side->state, blob, len);
    side->result->writes_before = le64toh(side->state.writes);
    side->result->reads_before = le64toh(side->state.reads);
    atomic_store(&side->writer.done, side->result->writes_before);
    atomic_store(&side->reader.done, side->result->reads_before);
    if (side->plan.once)
        side->reader.limit = side->memory.pages;
    note_switch(side);
    ret = worker_start(&side->writer);
    return ret ? ret : worker_start(&side->reader);
}

/* Another program's numbers: each is looked at. Return: NULL; why not. */
static const char *refusal(const struct plan *plan, uint64_t max_size)
{
    if (plan->version != PLAN_VERSION)
        return "this version speaks another language: use the same on both sides";
    if ((plan->page_bytes != PAGE && plan->page_bytes != (size_t)2 << 20) || !plan->size ||
        plan->size % plan->page_bytes)
        return "the size and the page size do not belong together";
    if (plan->size > max_size)
        return "the region is larger than --max-size here";
    if (plan->writer.pattern >= PATTERNS || plan->reader.pattern >= PATTERNS ||
        (plan->writer.pattern == PATTERN_HOT && plan->writer.hot_bytes < PAGE) ||
        (plan->reader.pattern == PATTERN_HOT && plan->reader.hot_bytes < PAGE))
        return "a pattern that is not known here";
    return NULL;
}

static int answer(struct side *side, const char *why)
{
    const struct uf_postcopy_link *control = &side->links->ends.control;
    uint64_t words[1 + WHY_MAX / 8] = {0};

    if (why) {
        words[0] = WHY_MAX / 8;
        memcpy(words + 1, why, strnlen(why, WHY_MAX - 1));
    }
    return words_send(control, words, 1 + words[0]);
}

static int hear_sums(struct side *side)
{
    size_t count = side->memory.pages;

    side->memory.sums = malloc(count * sizeof(*side->memory.sums));
    if (!side->memory.sums)
        return -ENOMEM;
    return words_recv(&side->links->ends.control, side->memory.sums,
                      count * WORDS(struct page_sum));
}

static int hear_plan(struct side *side)
{
    int ret = words_recv(&side->links->ends.control, &side->plan, WORDS(side->plan));
    const char *why;

    if (ret)
        return fail(side, EXIT_FAILED, "the sender said nothing: %s",
                    ret == -ECONNRESET ? "it has closed the connection" : strerror(-ret));
    side->outcome->plan = side->plan;
    why = refusal(&side->plan, side->options->max_size);
    ret = why ? fail(side, EXIT_SETUP, "%s", why) : probe_backend(side);
    if (ret == 0)
        ret = map_memory(side);
    if (ret == 0 && side->plan.has_table && hear_sums(side))
        ret = fail(side, EXIT_FAILED, "the sums of the pages did not come");
    if (answer(side, ret ? side->outcome->error : NULL))
        return fail(side, EXIT_FAILED, "the sender is gone");
    return ret;
}

static void sink_stats(const void *sink, struct uf_postcopy_stats *ret)
{
    uf_sink_stats(sink, ret);
}

static int tell_result(struct side *side)
{
    const struct uf_postcopy_link *control = &side->links->ends.control;
    int ret = words_send(control, side->result, WORDS(*side->result));

    if (ret == 0)
        ret = words_send(control, side->series.samples, side->series.count * WORDS(struct sample));
    return ret ? fail(side, EXIT_FAILED, "telling the sender the result: %s", strerror(-ret)) : 0;
}

static int arrive(struct side *side, struct uf_sink *sink)
{
    int ret = uf_sink_region(sink, side->memory.start, side->plan.size, side->plan.page_bytes);
    struct uf_postcopy_stats stats;

    begin_series(side, "sink", sink_stats, sink);
    side->resident_before = status_bytes("VmRSS") + side->plan.size;
    if (ret == 0)
        ret = series_start(&side->series);
    if (ret)
        return fail(side, EXIT_SETUP, "starting: %s", strerror(-ret));
    ret = uf_sink_run(sink, &side->links->ends);
    if (side->reader.limit && ret == 0)
        worker_join(&side->reader);
    worker_stop(&side->reader);
    worker_stop(&side->writer);
    series_stop(&side->series);
    uf_sink_stats(sink, &stats);
    take_result(side, &stats, uf_sink_switched(sink), ret);
    side->outcome->has_sink = true;
    if (ret)
        return fail(side, EXIT_FAILED, "failed %s the switch: %s",
                    side->result->switched ? "behind" : "before", uf_sink_error(sink));
    verify(side);
    ret = tell_result(side);
    return ret ? ret : judge(side->result);
}

static int receive_memory(struct side *side)
{
    struct uf_sink_options how = {.backend = side->options->backend, .resume = resume, .arg = side};
    struct uf_sink *sink;
    int ret = hear_plan(side);

    if (ret)
        return ret;
    prepare_workers(side);
    if (uf_sink_new(&sink, &how))
        return fail(side, EXIT_SETUP, "no memory");
    ret = arrive(side, sink);
    uf_sink_free(sink);
    return ret;
}

int side_receive(const struct side_options *options, const struct links *links,
                 struct outcome *outcome)
{
    struct side *side = calloc(1, sizeof(*side));
    int ret;

    if (!side)
        return EXIT_SETUP;
    side->options = options;
    side->links = links;
    side->outcome = outcome;
    side->result = &outcome->sink;
    ret = receive_memory(side);
    keep_samples(side, outcome->sink_samples);
    memory_free(&side->memory);
    free(side);
    return ret;
}
