/* SPDX-License-Identifier: MIT */
/* The counters of a run, for programs. */
#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <sys/wait.h>

#include "stats.h"

#define STATS_JSON_VERSION 1

#define FIELD(group, key, member)                                                                  \
    {                                                                                              \
        group, key, offsetof(struct uf_stats, member)                                              \
    }

static const struct field {
    const char *group;
    const char *key;
    size_t offset;
} fields[] = {
    FIELD("contexts", "user", contexts_user),
    FIELD("contexts", "kernel", contexts_kernel),
    FIELD("contexts", "refused", refused),
    FIELD("ranges", "registered", registers),
    FIELD("ranges", "unregistered", unregisters),
    FIELD("faults", "missing_read", faults_missing_read),
    FIELD("faults", "missing_write", faults_missing_write),
    FIELD("faults", "wp", faults_wp),
    FIELD("faults", "rwp", faults_rwp),
    FIELD("faults", "minor", faults_minor),
    FIELD("faults", "sigbus", faults_sigbus),
    FIELD("faults", "callback", faults_callback),
    FIELD("faults", "chained", chained),
    FIELD("faults", "readmitted", readmitted),
    FIELD("events", "fork", events_fork),
    FIELD("events", "remap", events_remap),
    FIELD("events", "remove", events_remove),
    FIELD("events", "unmap", events_unmap),
    FIELD("messages", "read", messages),
    FIELD("messages", "withdrawn", withdrawn),
    FIELD("copy", "calls", copy_calls),
    FIELD("copy", "pages", copy_pages),
    FIELD("copy", "bytes", copy_bytes),
    FIELD("copy", "moved", copy_moved),
    FIELD("copy", "left", copy_left),
    FIELD("copy", "ahead", copy_ahead),
    FIELD("zeropage", "calls", zero_calls),
    FIELD("zeropage", "pages", zero_pages),
    FIELD("zeropage", "bytes", zero_bytes),
    FIELD("continue", "calls", continue_calls),
    FIELD("continue", "pages", continue_pages),
    FIELD("continue", "bytes", continue_bytes),
    FIELD("move", "calls", move_calls),
    FIELD("move", "pages", move_pages),
    FIELD("move", "bytes", move_bytes),
    FIELD("poison", "calls", poison_calls),
    FIELD("poison", "pages", poison_pages),
    FIELD("poison", "bytes", poison_bytes),
    FIELD("wake", "calls", wake_calls),
    FIELD("answers", "eexist", eexist),
    FIELD("answers", "eagain", eagain),
    FIELD("vmas", "peak", vmas_peak),
    FIELD("vmas", "budget", vma_budget),
    FIELD("vmas", "chunks_compacted", chunks_compacted),
    FIELD("vmas", "runs_taken_back", runs_taken_back),
    FIELD("wait", "total_ns", wait_ns),
    FIELD("wait", "spin_ended", spin_ended),
};

static json_t *json_program(char **argv)
{
    json_t *array = json_array();

    /* Not every argument is UTF-8, and JSON knows nothing else. */
    for (; *argv; argv++) {
        json_t *word = json_string(*argv);
        json_array_append_new(array, word ? word : json_null());
    }
    return array;
}

static json_t *json_end(int status)
{
    if (WIFEXITED(status))
        return json_pack("{s:i}", "exit", WEXITSTATUS(status));
    return json_pack("{s:i}", "signal", WTERMSIG(status));
}

static json_t *json_latency(const struct uf_stats *stats)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < UF_STATS_BUCKETS; i++) {
        json_t *bucket = json_pack("{s:I}", "count", (json_int_t)stats->latency[i]);

        if (i < UF_STATS_BUCKETS - 1)
            json_object_set_new(bucket, "below_us", json_integer((json_int_t)1 << i));
        else
            json_object_set_new(bucket, "from_us", json_integer((json_int_t)1 << (i - 1)));
        json_array_append_new(array, bucket);
    }
    return array;
}

int stats_print_json(const struct uf_stats *stats, char **argv, int status, FILE *out)
{
    json_t *root = json_object();

    json_object_set_new(root, "version", json_integer(STATS_JSON_VERSION));
    json_object_set_new(root, "program", json_program(argv));
    json_object_set_new(root, "ended", json_end(status));
    json_object_set_new(root, "processes", json_integer((json_int_t)stats->processes));
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const char *at = (const char *)stats + fields[i].offset;
        json_t *group = json_object_get(root, fields[i].group);

        if (!group) {
            group = json_object();
            json_object_set_new(root, fields[i].group, group);
        }
        json_object_set_new(group, fields[i].key,
                            json_integer((json_int_t) * (const uint64_t *)at));
    }
    json_object_set_new(root, "latency", json_latency(stats));
    int err = json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(root);
    return err == 0 && fputc('\n', out) != EOF && fflush(out) == 0 ? 0 : -EIO;
}
