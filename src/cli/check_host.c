/* SPDX-License-Identifier: MIT */
/* Settings and limits of the host. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "check.h"
#include "program.h"

static const char group[] = "Settings";

bool check_read_line(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    bool got = file && fgets(text, (int)size, file);

    if (file)
        fclose(file);
    if (got)
        text[strcspn(text, "\n")] = '\0';
    return got;
}

static void fact_system(struct check *check)
{
    struct utsname name;

    if (uname(&name) == 0)
        check_fact(check, group, "kernel_release", "kernel", VERDICT_NONE, "%.30s %.12s",
                   name.release, name.machine);
}

static void fact_pages(struct check *check)
{
    bool fit;

    check->page_bytes = sysconf(_SC_PAGESIZE);
    fit = check->page_bytes == 4096;
    check_fact(check, group, "page_size", "page size", fit ? VERDICT_YES : VERDICT_NO, "%ld%s",
               check->page_bytes, fit ? "" : ": ours is for pages of 4096 bytes");
}

static void fact_cpus(struct check *check)
{
    cpu_set_t set;

    check->cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set)
                                                               : sysconf(_SC_NPROCESSORS_ONLN);
    check_fact(check, group, "cpus", "processors", VERDICT_NONE, "%ld%s", check->cpus,
               check->cpus == 1 ? ": waiting threads never spin" : "");
}

/* The choice stands in brackets. */
static void fact_thp(struct check *check)
{
    char line[128];
    char *start = NULL;

    if (check_read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line)))
        start = strchr(line, '[');
    if (!start) {
        check_fact(check, group, "thp", "transparent huge pages", VERDICT_NONE, "not there");
        return;
    }
    start[strcspn(start, "]")] = '\0';
    check_fact(check, group, "thp", "transparent huge pages", VERDICT_NONE,
               "%.12s; our ranges are left out", start + 1);
}

/* Ours fills private ones through /proc/self/mem, and announces none without it. */
static void fact_hugepages(struct check *check)
{
    FILE *file = fopen("/proc/meminfo", "re");
    unsigned long total = 0, unused = 0, size_kib = 0;
    char line[128];

    while (file && fgets(line, sizeof(line), file)) {
        sscanf(line, "HugePages_Total: %lu", &total);
        sscanf(line, "HugePages_Free: %lu", &unused);
        sscanf(line, "Hugepagesize: %lu", &size_kib);
    }
    if (file)
        fclose(file);
    check_fact(check, group, "hugepages", "huge pages", VERDICT_NONE,
               "%lu of %lu KiB, %lu free; %s", total, size_kib, unused,
               check->mem_writes ? "both backends" : "kernel backend only");
}

static void fact_mappings(struct check *check)
{
    char value[32];

    if (check_read_line("/proc/sys/vm/max_map_count", value, sizeof(value)))
        check->max_map_count = atol(value);
    if (check->max_map_count <= 0)
        check->max_map_count = 65530; /* the kernel's default, and what the library assumes */
    check_fact(check, group, "max_map_count", "vm.max_map_count", VERDICT_NONE, "%ld",
               check->max_map_count);
    check_fact(check, group, "vma_budget", "VMA budget", VERDICT_NONE, "%ld mappings a process",
               check->max_map_count / 2);
}

static void fact_library(struct check *check)
{
    char *path = NULL;
    int err = preload_find(&path);

    check->library = err == 0;
    check_fact(check, group, "library", "library to preload",
               check->library ? VERDICT_YES : VERDICT_NO, "%s",
               check->library ? "found"
               : path         ? "its path has a space or a colon"
                              : "not found: set USERFAULT_PRELOAD");
    free(path);
}

void check_host(struct check *check)
{
    fact_system(check);
    fact_pages(check);
    fact_cpus(check);
    fact_mappings(check);
    fact_thp(check);
    fact_hugepages(check);
    fact_library(check);
}
