/* SPDX-License-Identifier: MIT */
/*
 * Stands in for the preloaded library: the launcher's tests look at what the launcher hands over,
 * and must not depend on what the facility does with it.
 *
 * It adds fixed numbers to the statistics and, with STUB_SHOW=FILE, writes the environment that
 * arrived to FILE.
 */
#include <base/stats.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void count(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct uf_stats *stats;

    if (fd < 0)
        return;
    stats = mmap(NULL, sizeof(*stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (stats == MAP_FAILED)
        return;
    if (stats->magic == UF_STATS_MAGIC) {
        __atomic_fetch_add(&stats->processes, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->contexts_user, 2, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->faults_missing_read, 30, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->copy_bytes, 30 * 4096, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->continue_calls, 2, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->continue_pages, 5, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->continue_bytes, 5 * 4096, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->move_calls, 3, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->move_pages, 6, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->move_bytes, 6 * 4096, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->poison_calls, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->poison_pages, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->poison_bytes, 4096, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->latency[4], 29, __ATOMIC_RELAXED);
        __atomic_fetch_add(&stats->latency[UF_STATS_BUCKETS - 1], 1, __ATOMIC_RELAXED);
        stats->wait_ns = UINT64_MAX / 2;
        stats->vmas_peak = 12345678;
    }
    munmap(stats, sizeof(*stats));
}

static void show(const char *path)
{
    FILE *out = fopen(path, "we");

    if (!out)
        return;
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "USERFAULT_", 10) == 0 || strncmp(*entry, "LD_PRELOAD=", 11) == 0)
            fprintf(out, "%s\n", *entry);
    fclose(out);
}

__attribute__((constructor)) static void stub_init(void)
{
    const char *stats = getenv("USERFAULT_STATS"), *file = getenv("STUB_SHOW");

    if (stats)
        count(stats);
    if (file)
        show(file);
}
