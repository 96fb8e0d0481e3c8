/* SPDX-License-Identifier: MIT */
/* Clocks, percentiles, what /proc says of the process, and how a measurement ends. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "measure.h"

uint64_t bench_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bench_watch_start(struct bench_watch *watch)
{
    getrusage(RUSAGE_SELF, &watch->self);
    getrusage(RUSAGE_CHILDREN, &watch->children);
    watch->wall_ns = bench_now_ns();
}

static uint64_t between_ns(struct timeval from, struct timeval to)
{
    int64_t us = (int64_t)(to.tv_sec - from.tv_sec) * 1000000 + (to.tv_usec - from.tv_usec);

    return (uint64_t)us * 1000u;
}

void bench_watch_stop(const struct bench_watch *watch, struct bench_result *result)
{
    struct rusage self, children;

    result->wall_ns = bench_now_ns() - watch->wall_ns;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    result->user_ns = between_ns(watch->self.ru_utime, self.ru_utime) +
                      between_ns(watch->children.ru_utime, children.ru_utime);
    result->sys_ns = between_ns(watch->self.ru_stime, self.ru_stime) +
                     between_ns(watch->children.ru_stime, children.ru_stime);
}

static int compare_ns(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

void bench_percentiles(uint64_t *ns, size_t count, struct bench_result *result)
{
    if (count == 0)
        return;
    qsort(ns, count, sizeof(*ns), compare_ns);
    result->p50_ns = ns[count / 2];
    result->p99_ns = ns[count - 1 - count / 100];
}

long bench_status_kib(const char *name)
{
    size_t length = strlen(name);
    char line[256];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");

    if (file == NULL)
        return 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            kib = strtol(line + length + 1, NULL, 10);
    }
    fclose(file);
    return kib;
}

_Noreturn void bench_fail(int status, const char *what)
{
    int error = errno;

    if (error != 0)
        fprintf(stderr, "bench-measure: %s: %s\n", what, strerror(error));
    else
        fprintf(stderr, "bench-measure: %s\n", what);
    /* Threads may be waiting on faults that nobody will resolve: leave without ceremony. */
    fflush(NULL);
    _Exit(status);
}

static unsigned long count_vmas(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    unsigned long count = 0;
    int byte;

    while (file != NULL && (byte = getc_unlocked(file)) != EOF)
        count += byte == '\n';
    if (file != NULL)
        fclose(file);
    return count;
}

void bench_report(const char *backend, const struct bench_result *result)
{
    double units = (double)result->units;

    printf("BENCH backend=%s units=%lu mean_ns=%.1f p50_ns=%.1f p99_ns=%.1f cpu_ns=%.1f "
           "user_ns=%.1f sys_ns=%.1f grow_kib=%ld vmas=%lu pte_kib=%ld rss_kib=%ld\n",
           backend, result->units, (double)result->wall_ns / units, (double)result->p50_ns,
           (double)result->p99_ns, (double)(result->user_ns + result->sys_ns) / units,
           (double)result->user_ns / units, (double)result->sys_ns / units, result->grow_kib,
           count_vmas(), bench_status_kib("VmPTE"), bench_status_kib("VmRSS"));
}
