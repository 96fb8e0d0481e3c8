/* SPDX-License-Identifier: MIT */
/* What both sides of a migration do alike. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "side.h"

int side_fail(struct side *side, int status, const char *format, ...)
{
    va_list args;

    if (side->outcome->error[0])
        return status;
    va_start(args, format);
    vsnprintf(side->outcome->error, sizeof(side->outcome->error), format, args);
    va_end(args);
    return status;
}

uint64_t side_greeting(uint64_t tls)
{
    return (uint64_t)PLAN_VERSION << 8 | tls;
}

const char *side_mismatch(uint64_t source, uint64_t sink)
{
    const uint64_t wants = source & 0xff, has = sink & 0xff;

    if (source == sink)
        return NULL;
    if (source >> 8 != sink >> 8)
        return "this version speaks another language: use the same on both sides";
    return has == TLS_OFF     ? "the sender wants TLS: start this side with --tls-..., too"
           : wants == TLS_OFF ? "this side wants TLS: send with --tls-..., too"
                              : "one side has certificates, the other one a key";
}

int side_secure(struct side *side)
{
    char why[WHY_MAX] = "";

    return talk_secure(side->links, why, sizeof(why))
               ? side_fail(side, EXIT_FAILED, "TLS on the connection for words: %s", why)
               : 0;
}

uint64_t side_status_bytes(const char *name)
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
int side_probe_backend(struct side *side)
{
    int fd = uf_context_open(O_CLOEXEC | O_NONBLOCK, side->options->backend);

    if (fd < 0)
        return side_fail(side, EXIT_SETUP, "userfaultfd: %s%s", strerror(errno),
                         side->options->backend == UF_BACKEND_KERNEL
                             ? "; --backend=user works without the kernel's"
                             : "");
    side->result->user_backend = uf_context_backend(fd) == UF_BACKEND_USER;
    uf_context_close(fd);
    return 0;
}

int side_map_memory(struct side *side)
{
    bool huge = side->plan.page_bytes > PAGE;
    int ret = memory_map(&side->plan, &side->memory);

    if (ret)
        return side_fail(side, EXIT_SETUP, "a region of %llu MiB%s: %s%s",
                         (unsigned long long)(side->plan.size >> 20), huge ? " in huge pages" : "",
                         strerror(-ret),
                         huge ? "; /proc/sys/vm/nr_hugepages says how many there are" : "");
    return 0;
}

void side_prepare_workers(struct side *side)
{
    side->writer =
        (struct worker){.memory = &side->memory, .pace = side->plan.writer, .writes = true};
    side->reader = (struct worker){
        .memory = &side->memory, .pace = side->plan.reader, .writes_so_far = &side->writer.done};
}

void side_begin_series(struct side *side, const char *who,
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
    uint64_t beyond = side_status_bytes("VmHWM");

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
    r->recoveries = stats->recoveries;
    r->paused_ns = stats->paused_ns;
    memcpy(r->latency, stats->latency, sizeof(r->latency));
    r->latency_max_ns = stats->latency_max_ns;
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

void side_take_result(struct side *side, const struct uf_postcopy_stats *stats, bool switched,
                      int ret)
{
    take_stats(side, stats);
    take_workers(side);
    side->result->switched = switched;
    side->result->failed = (uint64_t)-ret;
}

void side_note_switch(struct side *side)
{
    atomic_store(&side->switch_ns, now_ns() - side->series.start_ns);
}

uint64_t side_reconnect_until(const struct side *side)
{
    return side->reconnect_s ? now_ns() + side->reconnect_s * 1000000000 : 0;
}

/* The time is that of one break, however many links are tried. */
uint64_t side_note_break(struct side *side, int error)
{
    struct uf_postcopy_stats stats;
    bool anew, tell;

    side->series.stats(side->series.side, &stats);
    anew = !side->breaks || stats.recoveries > side->recovered;
    side->recovered = stats.recoveries;
    tell = anew || !side->told_no_good; /* the rest is like it */
    side->told_no_good = !anew;
    if (tell && !side->options->quiet)
        say("%s: %s", anew ? "the connection broke" : "the new connection is no good",
            words_strerror(error));
    if (anew) {
        side->breaks++;
        side->deadline_ns = side_reconnect_until(side);
    }
    return side->reconnects && side->breaks > side->reconnects ? 0
           : now_ns() < side->deadline_ns                      ? side->deadline_ns
                                                               : 0;
}

static uint64_t hash_words(uint64_t hash, const void *words, size_t count)
{
    const uint64_t *from = words;

    for (size_t i = 0; i < count; i++)
        hash = mix(hash ^ mix(from[i] + i));
    return hash;
}

uint64_t side_plan_hash(const struct side *side)
{
    uint64_t hash = hash_words(0, &side->plan, WORDS(side->plan));

    return side->memory.sums
               ? hash_words(hash, side->memory.sums, side->memory.pages * WORDS(struct page_sum))
               : hash;
}

int side_verify(struct side *side)
{
    return memory_verify(&side->memory, side->result->writes, &side->result->verified)
               ? side_fail(side, EXIT_SETUP, "no memory to verify with")
               : 0;
}

int side_judge(const struct result *r)
{
    return r->verified.wrong || r->reads_wrong || r->reads_lost ? EXIT_WRONG : 0;
}

struct side *side_new(const struct side_options *options, struct links *links,
                      struct outcome *outcome, struct result *result)
{
    struct side *side = calloc(1, sizeof(*side));

    if (!side) {
        snprintf(outcome->error, sizeof(outcome->error), "no memory for this side");
        return NULL;
    }
    side->options = options;
    side->links = links;
    side->outcome = outcome;
    side->result = result;
    return side;
}

void side_free(struct side *side, struct sample *ret_samples)
{
    memcpy(ret_samples, side->series.samples, side->series.count * sizeof(*ret_samples));
    memory_free(&side->memory);
    free(side);
}
