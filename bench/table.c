/* SPDX-License-Identifier: MIT */
/* Medians, the table, and the same as JSON. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "runner.h"

/* Runs further apart than this, in per cent: the machine was not quiet, the verdict has a "?". */
#define SHAKY 30

static int compare_double(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static size_t sorted(const struct bench_column *column, size_t offset, double *values)
{
    for (size_t i = 0; i < column->count; i++)
        memcpy(&values[i], (const char *)&column->sample[i] + offset, sizeof(values[i]));
    qsort(values, column->count, sizeof(values[0]), compare_double);
    return column->count;
}

double bench_median(const struct bench_column *column, size_t offset)
{
    double values[BENCH_RUNS_MAX];
    size_t count = sorted(column, offset, values);

    if (count == 0)
        return 0;
    return count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Distance of the extremes, in per cent of the median. */
static double spread(const struct bench_column *column)
{
    double values[BENCH_RUNS_MAX];
    size_t count = sorted(column, offsetof(struct bench_sample, value), values);

    if (count == 0)
        return 0;
    return 100 * (values[count - 1] - values[0]) / BENCH_MEDIAN(column, value);
}

double bench_ratio(const struct bench_outcome *outcome, enum bench_side side)
{
    double reference = BENCH_MEDIAN(&outcome->side[BENCH_REFERENCE], value);
    double value = BENCH_MEDIAN(&outcome->side[side], value);

    return reference > 0 ? value / reference : 0;
}

/* The same of the fastest runs: what remains of the ratio when neighbours disturb the medians. */
static double best_ratio(const struct bench_outcome *outcome)
{
    double value[2][BENCH_RUNS_MAX];
    size_t count[2];

    for (int side = 0; side < 2; side++)
        count[side] =
            sorted(&outcome->side[side], offsetof(struct bench_sample, value), value[side]);
    if (count[0] == 0 || count[1] == 0)
        return 0;
    if (outcome->row->kind == BENCH_RATE)
        return value[BENCH_OURS][count[1] - 1] / value[BENCH_REFERENCE][count[0] - 1];
    return value[BENCH_OURS][0] / value[BENCH_REFERENCE][0];
}

static bool judge(const struct bench_outcome *outcome)
{
    const struct bench_row *row = outcome->row;
    const struct bench_column *ours = &outcome->side[BENCH_OURS];
    double margin = 1 + row->headroom / 100.0;

    switch (row->kind) {
    case BENCH_TIME:
    case BENCH_PART:
        return bench_ratio(outcome, BENCH_OURS) <= row->goal * margin;
    case BENCH_RATE:
        return bench_ratio(outcome, BENCH_OURS) >= row->goal / margin;
    case BENCH_SCALE:
        return BENCH_MEDIAN(ours, value) >= row->goal / margin;
    case BENCH_LIMIT:
        return BENCH_MEDIAN(ours, value) < row->goal * 1e6 && BENCH_MEDIAN(ours, grow_kib) < 1024;
    }
    return false;
}

static void goal_text(const struct bench_row *row, char *text, size_t size)
{
    const char *sign = row->kind == BENCH_RATE || row->kind == BENCH_SCALE ? ">=" : "<=";

    if (row->goal == 0)
        snprintf(text, size, "-");
    else if (row->kind == BENCH_LIMIT)
        snprintf(text, size, "< %.0f ms", row->goal);
    else if (row->headroom != 0)
        snprintf(text, size, "%.2f+%u%%", row->goal, row->headroom);
    else
        snprintf(text, size, "%s %.2f", sign, row->goal);
}

/* A number in nine columns, with the digits that matter. */
static void print_value(double value, bool known)
{
    if (!known)
        printf(" %9s", "n/a");
    else if (value < 0.1)
        printf(" %9.4f", value);
    else if (value < 10)
        printf(" %9.3f", value);
    else
        printf(" %9.1f", value);
}

static void print_row(const struct bench_outcome *outcome)
{
    const struct bench_row *row = outcome->row;
    const struct bench_column *reference = &outcome->side[BENCH_REFERENCE];
    const struct bench_column *ours = &outcome->side[BENCH_OURS];
    double scale = row->kind == BENCH_RATE || row->kind == BENCH_SCALE ? 1 : 1e-3;
    bool both = reference->count > 0 && ours->count > 0;
    bool shaky = spread(reference) > SHAKY || spread(ours) > SHAKY;
    char goal[32];

    goal_text(row, goal, sizeof(goal));
    printf("  %-24s", row->name);
    print_value(BENCH_MEDIAN(reference, value) * scale, reference->count > 0);
    print_value(BENCH_MEDIAN(ours, value) * scale, ours->count > 0);
    if (both)
        printf(" %7.2f %7.2f", bench_ratio(outcome, BENCH_OURS), best_ratio(outcome));
    else
        printf(" %7s %7s", "n/a", "n/a");
    if (reference->count > 0 && outcome->side[BENCH_BARE].count > 0)
        printf(" %7.2f", bench_ratio(outcome, BENCH_BARE));
    else
        printf(" %7s", row->bare != NULL ? "n/a" : "-");
    printf(" %9s %4s", goal,
           row->goal == 0     ? "-"
           : ours->count == 0 ? "n/a"
           : judge(outcome)   ? (shaky ? "yes?" : "yes")
                              : (shaky ? "NO?" : "NO"));
    if (row->kind != BENCH_SCALE) {
        print_value(BENCH_MEDIAN(reference, cpu_ns) / 1e3, reference->count > 0);
        print_value(BENCH_MEDIAN(ours, cpu_ns) / 1e3, ours->count > 0);
        printf("  %3.0f/%.0f%%", spread(reference), spread(ours));
    }
    putchar('\n');
}

static void print_details(const struct bench_outcome *outcomes, size_t count)
{
    static const char *const sides[BENCH_SIDES] = {"reference", "ours", "bare"};

    for (size_t i = 0; i < count; i++) {
        const struct bench_outcome *outcome = &outcomes[i];

        if (!outcome->selected)
            continue;
        for (int side = 0; side < BENCH_SIDES; side++) {
            if (outcome->side[side].why[0] != '\0')
                printf("%s (%s): %s\n", outcome->row->name, sides[side], outcome->side[side].why);
        }
        if (outcome->row->kind == BENCH_LIMIT || outcome->row->is_long)
            printf("%s: growth %.0f / %.0f KiB, page tables %.0f / %.0f KiB, mappings at the end "
                   "%.0f / %.0f\n",
                   outcome->row->name, BENCH_MEDIAN(&outcome->side[0], grow_kib),
                   BENCH_MEDIAN(&outcome->side[1], grow_kib),
                   BENCH_MEDIAN(&outcome->side[0], pte_kib),
                   BENCH_MEDIAN(&outcome->side[1], pte_kib), BENCH_MEDIAN(&outcome->side[0], vmas),
                   BENCH_MEDIAN(&outcome->side[1], vmas));
    }
}

void bench_print_table(const struct bench_outcome *outcomes, size_t count)
{
    const char *section = NULL;

    printf("  %-24s %9s %9s %7s %7s %7s %9s %4s %9s %9s  %s\n", "", "kernel", "ours", "ratio",
           "best", "bare", "goal", "met", "kernel", "ours", "spread");
    printf("  %-24s %9s %9s %7s %7s %7s %9s %4s %9s %9s  %s\n", "", "", "", "", "ratio", "ratio",
           "", "", "cpu us", "cpu us", "kernel/ours");
    for (size_t i = 0; i < count; i++) {
        if (!outcomes[i].selected)
            continue;
        if (section == NULL || strcmp(section, outcomes[i].row->section) != 0)
            printf("%s\n", outcomes[i].row->section);
        section = outcomes[i].row->section;
        print_row(&outcomes[i]);
    }
    print_details(outcomes, count);
}

static void read_line(const char *path, const char *key, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    char line[256];

    snprintf(text, size, "unknown");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *value = line;

        line[strcspn(line, "\n")] = '\0';
        if (key != NULL &&
            (strncmp(line, key, strlen(key)) != 0 || (value = strchr(line, ':')) == NULL))
            continue;
        snprintf(text, size, "%s", value + (key != NULL ? 2 : 0));
        break;
    }
    if (file != NULL)
        fclose(file);
}

void bench_print_host(FILE *file, bool json)
{
    struct utsname kernel;
    struct sysinfo info;
    char model[128], clock[64], huge[64], load[64];

    uname(&kernel);
    sysinfo(&info);
    read_line("/proc/cpuinfo", "model name", model, sizeof(model));
    read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", NULL, clock,
              sizeof(clock));
    read_line("/sys/kernel/mm/transparent_hugepage/enabled", NULL, huge, sizeof(huge));
    read_line("/proc/loadavg", NULL, load, sizeof(load));
    load[strcspn(load, " ")] = '\0';
    fprintf(file,
            json ? "\"kernel\": \"%s %s\", \"cpus\": %ld, \"model\": \"%s\", \"mib\": %lu, "
                   "\"clock\": \"%s\", \"thp\": \"%s\", \"load\": %s"
                 : "host: %s %s, %ld CPUs, %s, %lu MiB, clock %s, huge pages %s, load %s\n",
            kernel.sysname, kernel.release, sysconf(_SC_NPROCESSORS_ONLN), model,
            (unsigned long)((unsigned long long)info.totalram * info.mem_unit >> 20), clock, huge,
            load);
}

static void json_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', file);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, file);
    }
    fputc('"', file);
}

static void json_side(FILE *file, const struct bench_column *column)
{
    fprintf(file, "{\"runs\": [");
    for (size_t i = 0; i < column->count; i++) {
        const struct bench_sample *sample = &column->sample[i];

        fprintf(file,
                "%s\n      {\"value\": %.1f, \"cpu_ns\": %.1f, \"p50_ns\": %.1f, \"p99_ns\": %.1f, "
                "\"grow_kib\": %.0f, \"vmas\": %.0f, \"pte_kib\": %.0f, \"rss_kib\": %.0f}",
                i > 0 ? "," : "", sample->value, sample->cpu_ns, sample->p50_ns, sample->p99_ns,
                sample->grow_kib, sample->vmas, sample->pte_kib, sample->rss_kib);
    }
    fprintf(file, "], \"median\": %.1f, \"cpu_ns\": %.1f, \"why\": ", BENCH_MEDIAN(column, value),
            BENCH_MEDIAN(column, cpu_ns));
    json_text(file, column->why);
    fputc('}', file);
}

int bench_write_json(const char *path, const struct bench_settings *settings,
                     const struct bench_outcome *outcomes, size_t count)
{
    static const char *const kinds[] = {"ns", "per_second", "scale", "ns", "ns_limit"};
    FILE *file = fopen(path, "we");
    bool first = true;

    if (file == NULL)
        return -errno;
    fprintf(file, "{\"host\": {");
    bench_print_host(file, true);
    fprintf(file, "},\n \"same\": %s, \"quick\": %s, \"rows\": [",
            settings->same ? "true" : "false", settings->quick ? "true" : "false");
    for (size_t i = 0; i < count; i++) {
        if (!outcomes[i].selected)
            continue;
        fprintf(file,
                "%s\n  {\"name\": \"%s\", \"unit\": \"%s\", \"ratio\": %.4f, \"best_ratio\": %.4f, "
                "\"goal\": %.2f, "
                "\"met\": %s,\n    \"reference\": ",
                first ? "" : ",", outcomes[i].row->name, kinds[outcomes[i].row->kind],
                bench_ratio(&outcomes[i], BENCH_OURS), best_ratio(&outcomes[i]),
                outcomes[i].row->goal,
                outcomes[i].row->goal == 0 || outcomes[i].side[BENCH_OURS].count == 0 ? "null"
                : judge(&outcomes[i])                                                 ? "true"
                                                                                      : "false");
        first = false;
        json_side(file, &outcomes[i].side[BENCH_REFERENCE]);
        fprintf(file, ",\n    \"ours\": ");
        json_side(file, &outcomes[i].side[BENCH_OURS]);
        if (outcomes[i].row->bare != NULL) {
            fprintf(file, ",\n    \"bare\": ");
            json_side(file, &outcomes[i].side[BENCH_BARE]);
        }
        fputc('}', file);
    }
    fprintf(file, "\n]}\n");
    return fclose(file) == 0 ? 0 : -errno;
}
