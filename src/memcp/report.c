/* SPDX-License-Identifier: MIT */
/* The end, for people: at most 80 columns. */
#include <string.h>

#include "memcp.h"

static const char *const patterns[] = {"sequential", "random", "hot"};

const char *size_text(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    while (bytes >= 1024 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

/* The line of one kind of page. */
static void pages_line(const struct outcome *outcome, FILE *out, const char *kind, uint64_t pages)
{
    char text[32];

    fprintf(out, "    %-12s %10llu  %s\n", kind, (unsigned long long)pages,
            size_text((double)(pages * outcome->plan.page_bytes), text, sizeof(text)));
}

static void pages_lines(const struct outcome *outcome, FILE *out, const struct result *r)
{
    char text[32];

    fprintf(out, "  pages of %s\n",
            size_text((double)outcome->plan.page_bytes, text, sizeof(text)));
    pages_line(outcome, out, "precopy", r->precopy);
    pages_line(outcome, out, "discarded", r->discarded);
    pages_line(outcome, out, "background", r->background);
    pages_line(outcome, out, "urgent", r->urgent);
    pages_line(outcome, out, "zero", r->zero);
    if (r->lost)
        pages_line(outcome, out, "lost", r->lost);
}

static void worker_line(const struct outcome *outcome, FILE *out, const char *who,
                        const struct pace *pace, uint64_t before, uint64_t all)
{
    char hot[40] = "", text[32];

    if (!pace->rate)
        return;
    if (pace->pattern == PATTERN_HOT)
        snprintf(hot, sizeof(hot), " %s", size_text((double)pace->hot_bytes, text, sizeof(text)));
    fprintf(out, "  %-10s %s%s: %llu at the source, %llu at the sink\n", who,
            outcome->plan.once && strcmp(who, "reader") == 0 ? "each page once"
                                                             : patterns[pace->pattern],
            hot, (unsigned long long)before, (unsigned long long)(all - before));
}

uint64_t latency_below_us(const struct result *r, double share)
{
    const uint64_t *latency = r->latency;
    uint64_t all = 0, seen = 0;

    for (unsigned i = 0; i < UF_POSTCOPY_BUCKETS; i++)
        all += latency[i];
    for (unsigned i = 0; i < UF_POSTCOPY_BUCKETS; i++) {
        seen += latency[i];
        if (latency[i] && (double)seen >= share * (double)all) /* the last one has no end */
            return i < UF_POSTCOPY_BUCKETS - 1 ? (uint64_t)1 << i : r->latency_max_ns / 1000 + 1;
    }
    return 0;
}

static void latency_lines(FILE *out, const struct result *r)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < UF_POSTCOPY_BUCKETS; i++)
        most = r->latency[i] > most ? r->latency[i] : most;
    if (!most)
        return;
    fprintf(out,
            "  a fault until its page is there:\n    p50 below %llu us, p99 below %llu us, max "
            "%.0f us\n",
            (unsigned long long)latency_below_us(r, 0.5),
            (unsigned long long)latency_below_us(r, 0.99), (double)r->latency_max_ns / 1e3);
    for (unsigned i = 0; i < UF_POSTCOPY_BUCKETS; i++) {
        int width = (int)(r->latency[i] * 40 / most);
        bool last = i == UF_POSTCOPY_BUCKETS - 1;

        if (r->latency[i])
            fprintf(out, "    %s %8llu us %10llu %.*s\n", last ? ">=" : " <",
                    (unsigned long long)1 << (last ? i - 1 : i), (unsigned long long)r->latency[i],
                    width, "########################################");
    }
}

static void blocked_lines(FILE *out, const struct result *r)
{
    fprintf(out, "  blocked    %.1f ms, of all threads\n", (double)r->blocked_ns / 1e6);
    for (uint64_t i = 0; i < r->threads; i++)
        fprintf(out, "    thread %-8llu %10.1f ms, %llu times\n",
                (unsigned long long)r->waited[i].tid, (double)r->waited[i].blocked_ns / 1e6,
                (unsigned long long)r->waited[i].faults);
}

static void reader_lines(FILE *out, const struct result *r)
{
    if (!r->waits)
        return;
    fprintf(out,
            "  the reader waited %llu times, %.1f ms in all:\n"
            "    p50 %.0f us, p99 %.0f us, max %.0f us\n",
            (unsigned long long)r->waits, (double)r->wait_ns / 1e6,
            (double)touch_quantile_ns(r->touch, 0.5, r->wait_max_ns) / 1e3,
            (double)touch_quantile_ns(r->touch, 0.99, r->wait_max_ns) / 1e3,
            (double)r->wait_max_ns / 1e3);
}

static void verified_line(FILE *out, const struct result *r, uint64_t reads_wrong)
{
    if (!r->verified.pages)
        return;
    fprintf(out, "  verified   %llu pages of 4 KiB, %llu wrong",
            (unsigned long long)r->verified.pages, (unsigned long long)r->verified.wrong);
    if (r->verified.wrong)
        fprintf(out, ", the first of them page %llu", (unsigned long long)r->verified.first_wrong);
    fprintf(out, ";\n             %llu wrong when read, %llu lost\n",
            (unsigned long long)reads_wrong, (unsigned long long)r->reads_lost);
}

static const char *backend_of(const struct result *r)
{
    return r->user_backend ? "user" : "kernel";
}

static void head_lines(const struct outcome *outcome, FILE *out, const struct result *r)
{
    char size[32], rate[32];
    double seconds = (double)r->total_ns / 1e9;

    fprintf(out, "%s of %s %s memory in %.3f s, %s/s\n",
            size_text((double)outcome->plan.size, size, sizeof(size)),
            outcome->plan.shared ? "shared" : "private",
            outcome->plan.page_bytes > PAGE ? "huge" : "anonymous", seconds,
            size_text(seconds > 0 ? (double)r->bytes / seconds : 0, rate, sizeof(rate)));
    fprintf(out, "  links      %u, %s%s\n  backend    ", outcome->links, outcome->transport,
            outcome->plan.tls ? ", TLS" : "");
    if (outcome->has_source)
        fprintf(out, "%s at the source%s", backend_of(&outcome->source),
                outcome->has_sink ? ", " : "\n");
    if (outcome->has_sink)
        fprintf(out, "%s at the sink\n", backend_of(&outcome->sink));
}

void report_print(const struct outcome *outcome, FILE *out)
{
    const struct result *source = &outcome->source, *sink = &outcome->sink;
    const struct result *r = outcome->has_source ? source : sink;
    char text[32];

    head_lines(outcome, out, r);
    if (outcome->has_source)
        fprintf(out, "  precopy    %llu rounds; downtime %.2f ms\n",
                (unsigned long long)source->rounds, (double)source->downtime_ns / 1e6);
    pages_lines(outcome, out, r);
    fprintf(out, "  on the links %s; %llu requests",
            size_text((double)r->bytes, text, sizeof(text)), (unsigned long long)r->requests);
    if (outcome->has_source) /* only that knows */
        fprintf(out, ", %llu of them for what was on its way",
                (unsigned long long)r->requests_dropped);
    fputc('\n', out);
    if (r->recoveries)
        fprintf(out, "  recovered  %llu times, %.1f ms without a connection\n",
                (unsigned long long)r->recoveries, (double)r->paused_ns / 1e6);
    if (!outcome->has_sink)
        return;
    worker_line(outcome, out, "writer", &outcome->plan.writer, sink->writes_before, sink->writes);
    worker_line(outcome, out, "reader", &outcome->plan.reader, sink->reads_before, sink->reads);
    reader_lines(out, sink);
    latency_lines(out, sink);
    blocked_lines(out, sink);
    verified_line(out, sink, sink->reads_wrong + source->reads_wrong);
}
