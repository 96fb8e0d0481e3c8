/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stats.h"

#define BAR_WIDTH 40

/* ------------------------------------------------------------------ making the file */

int stats_create(struct uf_stats **ret_stats, char **ret_path)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int fd = memfd_create("userfault-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct uf_stats *stats;

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, sizeof(*stats)) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0)
        goto fail;
    stats = mmap(NULL, sizeof(*stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (stats == MAP_FAILED)
        goto fail;
    /* Through our own descriptor table: it stays open as long as this process watches. */
    if (asprintf(ret_path, "/proc/%d/fd/%d", getpid(), fd) < 0) {
        errno = ENOMEM;
        goto fail;
    }
    stats->magic = UF_STATS_MAGIC;
    *ret_stats = stats;
    return 0;

fail:;
    int err = -errno;
    close(fd);
    return err;
}

/* ------------------------------------------------------------------ for people */

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static const char *size_text(uint64_t bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    snprintf(text, size, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

static uint64_t latency_count(const struct uf_stats *stats)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < UF_STATS_BUCKETS; i++)
        count += stats->latency[i];
    return count;
}

static void print_latency(const struct uf_stats *stats, FILE *out)
{
    static const char bar[] = "########################################";
    uint64_t count = latency_count(stats), most = 0;

    if (count == 0)
        return;
    fprintf(
        out,
        "  waiting     %" PRIu64 " wait%s, %.1f us on average, %" PRIu64 " ended while spinning\n",
        count, plural(count), (double)stats->wait_ns / 1000.0 / (double)count, stats->spin_ended);
    for (unsigned i = 0; i < UF_STATS_BUCKETS; i++)
        if (stats->latency[i] > most)
            most = stats->latency[i];
    for (unsigned i = 0; i < UF_STATS_BUCKETS; i++) {
        uint64_t n = stats->latency[i];

        if (n == 0)
            continue;
        /* The last one takes everything that is longer than those before it. */
        bool last = i == UF_STATS_BUCKETS - 1;
        fprintf(out, "    %s %10" PRIu64 " us %12" PRIu64 " %.*s\n", last ? ">=" : "< ",
                (uint64_t)1 << (last ? i - 1 : i), n, (int)((double)n / (double)most * BAR_WIDTH),
                bar);
    }
}

static void print_faults(const struct uf_stats *s, FILE *out)
{
    fprintf(out, "  faults      %" PRIu64 " missing read, %" PRIu64 " missing write\n",
            s->faults_missing_read, s->faults_missing_write);
    if (s->faults_rwp)
        fprintf(out, "              %" PRIu64 " read-write-protect\n", s->faults_rwp);
    if (s->faults_wp || s->faults_minor)
        fprintf(out, "              %" PRIu64 " write-protect, %" PRIu64 " minor\n", s->faults_wp,
                s->faults_minor);
    if (s->faults_sigbus || s->faults_callback)
        fprintf(out, "              %" PRIu64 " answered by SIGBUS, %" PRIu64 " by callback\n",
                s->faults_sigbus, s->faults_callback);
    if (s->chained)
        fprintf(out, "              %" PRIu64 " signal%s of the program's own passed on\n",
                s->chained, plural(s->chained));
    if (s->events_remap || s->events_remove || s->events_unmap)
        fprintf(out, "  events      %" PRIu64 " remap, %" PRIu64 " remove, %" PRIu64 " unmap\n",
                s->events_remap, s->events_remove, s->events_unmap);
    if (s->events_fork)
        fprintf(out, "              %" PRIu64 " fork\n", s->events_fork);
    fprintf(out, "  messages    %" PRIu64 " read, %" PRIu64 " withdrawn\n", s->messages,
            s->withdrawn);
}

static void print_pages_always(const char *what, uint64_t pages, uint64_t bytes, uint64_t calls,
                               FILE *out)
{
    char text[32];

    fprintf(out, "  %-11s %" PRIu64 " page%s (%s) in %" PRIu64 " call%s\n", what, pages,
            plural(pages), size_text(bytes, text, sizeof(text)), calls, plural(calls));
}

/* Of what many programs never do. */
static void print_pages(const char *what, uint64_t pages, uint64_t bytes, uint64_t calls, FILE *out)
{
    if (calls)
        print_pages_always(what, pages, bytes, calls, out);
}

static void print_resolved(const struct uf_stats *s, FILE *out)
{
    print_pages_always("copied", s->copy_pages, s->copy_bytes, s->copy_calls, out);
    print_pages_always("zeroed", s->zero_pages, s->zero_bytes, s->zero_calls, out);
    print_pages("continued", s->continue_pages, s->continue_bytes, s->continue_calls, out);
    print_pages("moved", s->move_pages, s->move_bytes, s->move_calls, out);
    print_pages("poisoned", s->poison_pages, s->poison_bytes, s->poison_calls, out);
    fprintf(out, "  answers     %" PRIu64 " EEXIST, %" PRIu64 " EAGAIN, %" PRIu64 " wake call%s\n",
            s->eexist, s->eagain, s->wake_calls, plural(s->wake_calls));
}

void stats_print(const struct uf_stats *s, FILE *out)
{
    fprintf(out, "userfault: statistics of the run\n");
    if (s->processes == 0) {
        fprintf(out, "  the program ended without having loaded the facility\n");
        return;
    }
    fprintf(out, "  processes   %" PRIu64 "\n", s->processes);
    fprintf(out,
            "  contexts    %" PRIu64 " on the user backend, %" PRIu64 " on the kernel's, %" PRIu64
            " refused\n",
            s->contexts_user, s->contexts_kernel, s->refused);
    if (s->contexts_kernel)
        fprintf(out, "              (what happens on the kernel's is not counted below)\n");
    fprintf(out, "  ranges      %" PRIu64 " registered, %" PRIu64 " unregistered\n", s->registers,
            s->unregisters);
    print_faults(s, out);
    print_resolved(s, out);
    fprintf(out, "  VMAs        %" PRIu64 " at peak, budget %" PRIu64 "\n", s->vmas_peak,
            s->vma_budget);
    if (s->chunks_compacted || s->runs_taken_back || s->readmitted)
        fprintf(out,
                "              %" PRIu64 " chunks compacted, %" PRIu64 " runs taken back, %" PRIu64
                " pages readmitted\n",
                s->chunks_compacted, s->runs_taken_back, s->readmitted);
    print_latency(s, out);
}
