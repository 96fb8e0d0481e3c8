/* SPDX-License-Identifier: MIT */
/* The end, for programs. */
#include <errno.h>

#include "memcp.h"

#if !USERFAULT_JSON
int json_write(const struct outcome *outcome, FILE *out)
{
    return -ENOTSUP; /* the option is refused: for the linker */
}
#else
#include <jansson.h>

#define VERSION 1

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *pace(const struct pace *pace)
{
    static const char *const patterns[] = {"seq", "random", "hot"};
    json_t *root = json_pack("{s:s}", "pattern", patterns[pace->pattern]);

    if (!pace->rate) {
        json_decref(root);
        return json_null();
    }
    json_object_set_new(root, "pages_a_second",
                        pace->rate == RATE_MAX ? json_null() : number(pace->rate));
    if (pace->pattern == PATTERN_HOT)
        json_object_set_new(root, "hot_bytes", number(pace->hot_bytes));
    return root;
}

static json_t *plan(const struct plan *plan)
{
    static const char *const tls[] = {NULL, "certificates", "key"};
    static const char *const compress[] = {"off", "auto", "always"};
    json_t *root = json_pack("{s:I,s:I,s:b,s:I,s:I,s:b,s:o,s:o}", "size", (json_int_t)plan->size,
                             "page_size", (json_int_t)plan->page_bytes, "shared", (int)plan->shared,
                             "seed", (json_int_t)plan->seed, "zero_percent",
                             (json_int_t)plan->zero_percent, "from_file", (int)plan->has_table,
                             "writer", pace(&plan->writer), "reader", pace(&plan->reader));

    json_object_set_new(root, "tls", plan->tls ? json_string(tls[plan->tls]) : json_null());
    json_object_set_new(root, "verify", json_boolean(plan->verify));
    json_object_set_new(root, "compress", json_string(compress[plan->compress]));
    return root;
}

static json_t *latency(const struct result *r)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < UF_POSTCOPY_BUCKETS; i++) {
        json_t *bucket = json_pack("{s:I}", "count", (json_int_t)r->latency[i]);
        bool last = i == UF_POSTCOPY_BUCKETS - 1;

        json_object_set_new(bucket, last ? "from_us" : "below_us",
                            number((uint64_t)1 << (last ? i - 1 : i)));
        json_array_append_new(array, bucket);
    }
    return array;
}

static json_t *waited(const struct result *r)
{
    json_t *array = json_array();

    for (uint64_t i = 0; i < r->threads; i++)
        json_array_append_new(array, json_pack("{s:I,s:I,s:I}", "tid", (json_int_t)r->waited[i].tid,
                                               "faults", (json_int_t)r->waited[i].faults,
                                               "blocked_ns", (json_int_t)r->waited[i].blocked_ns));
    return array;
}

static json_t *series(const struct result *r, const struct sample *samples)
{
    json_t *array = json_array();

    for (uint64_t i = 0; i < r->samples; i++) {
        const struct sample *s = &samples[i];

        json_array_append_new(
            array, json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "at_ns", (json_int_t)s->at_ns,
                             "rounds", (json_int_t)s->rounds, "precopy", (json_int_t)s->precopy,
                             "background", (json_int_t)s->background, "urgent",
                             (json_int_t)s->urgent, "zero", (json_int_t)s->zero, "bytes",
                             (json_int_t)s->bytes, "blocked_ns", (json_int_t)s->blocked_ns));
    }
    return array;
}

static json_t *pages(const struct result *r)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "precopy", (json_int_t)r->precopy, "background",
                     (json_int_t)r->background, "urgent", (json_int_t)r->urgent, "zero",
                     (json_int_t)r->zero, "discarded", (json_int_t)r->discarded, "lost",
                     (json_int_t)r->lost);
}

/* What either side counts. */
static json_t *side(const struct result *r, const struct sample *samples)
{
    json_t *root =
        json_pack("{s:s,s:b,s:I,s:o,s:I,s:I}", "backend", r->user_backend ? "user" : "kernel",
                  "switched", (int)r->switched, "rounds", (json_int_t)r->rounds, "pages", pages(r),
                  "bytes", (json_int_t)r->bytes, "requests", (json_int_t)r->requests);

    json_object_set_new(root, "downtime_ns", number(r->downtime_ns));
    json_object_set_new(root, "total_ns", number(r->total_ns));
    json_object_set_new(root, "switch_ns", number(r->switch_ns));
    json_object_set_new(root, "recoveries", number(r->recoveries));
    json_object_set_new(root, "paused_ns", number(r->paused_ns));
    json_object_set_new(root, "memory_bytes", number(r->memory_bytes));
    json_object_set_new(root, "writes", number(r->writes));
    json_object_set_new(root, "reads", number(r->reads));
    json_object_set_new(root, "reads_wrong", number(r->reads_wrong));
    json_object_set_new(root, "series", series(r, samples));
    return root;
}

static void add_sink(json_t *root, const struct result *r)
{
    json_object_set_new(root, "writes_before", number(r->writes_before));
    json_object_set_new(root, "reads_before", number(r->reads_before));
    json_object_set_new(root, "blocked_ns", number(r->blocked_ns));
    json_object_set_new(root, "blocked_threads", waited(r));
    json_object_set_new(root, "latency", latency(r));
    json_object_set_new(root, "latency_p50_below_us", number(latency_below_us(r, 0.5)));
    json_object_set_new(root, "latency_p99_below_us", number(latency_below_us(r, 0.99)));
    json_object_set_new(root, "latency_max_ns", number(r->latency_max_ns));
    json_object_set_new(root, "reader_waits",
                        json_pack("{s:I,s:I,s:I,s:I,s:I}", "count", (json_int_t)r->waits,
                                  "total_ns", (json_int_t)r->wait_ns, "p50_ns",
                                  (json_int_t)touch_quantile_ns(r->touch, 0.5, r->wait_max_ns),
                                  "p99_ns",
                                  (json_int_t)touch_quantile_ns(r->touch, 0.99, r->wait_max_ns),
                                  "max_ns", (json_int_t)r->wait_max_ns));
    json_object_set_new(root, "verified",
                        json_pack("{s:I,s:I,s:I,s:I}", "pages", (json_int_t)r->verified.pages,
                                  "wrong", (json_int_t)r->verified.wrong, "wrong_when_read",
                                  (json_int_t)r->reads_wrong, "lost_when_touched",
                                  (json_int_t)r->reads_lost));
}

int json_write(const struct outcome *outcome, FILE *out)
{
    json_t *root =
        json_pack("{s:i,s:o,s:s,s:i,s:s?}", "version", VERSION, "plan", plan(&outcome->plan),
                  "transport", outcome->transport, "links", (int)outcome->links, "error",
                  outcome->error[0] ? outcome->error : NULL);
    int ret;

    if (outcome->has_source) {
        json_t *source = side(&outcome->source, outcome->source_samples);

        /* only this side knows what was on its way */
        json_object_set_new(source, "requests_dropped", number(outcome->source.requests_dropped));
        json_object_set_new(root, "source", source);
    }
    if (outcome->has_sink) {
        json_t *sink = side(&outcome->sink, outcome->sink_samples);

        add_sink(sink, &outcome->sink);
        json_object_set_new(root, "sink", sink);
    }
    errno = 0;
    ret = root ? json_dumpf(root, out, JSON_COMPACT) : -1;
    if (ret == 0 && fputc('\n', out) != EOF && fflush(out) == 0)
        ret = 0;
    else
        ret = errno ? -errno : -EIO;
    json_decref(root);
    return ret;
}
#endif
