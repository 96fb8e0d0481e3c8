/* SPDX-License-Identifier: MIT */
/* userfault-bench: which rows, how often, in which order. */
#include <fnmatch.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

static void usage(FILE *file)
{
    fputs("usage: userfault-bench [OPTIONS]\n"
          "  --rows=GLOB      only these rows, as 'fault.*' (--list names them)\n"
          "  --runs=N         runs of each side, alternating (5; 3 with --quick)\n"
          "  --quick          fewer pages and runs\n"
          "  --long           also the rows that take minutes\n"
          "  --json=FILE      every run, for machines\n"
          "  --same           the kernel against itself: the noise of this machine\n"
          "  --launcher=FILE  the userfault command (found beside this program)\n"
          "  --preload=FILE   load this library without a launcher\n"
          "  --list           names of the rows\n",
          file);
}

static void list_rows(void)
{
    for (size_t i = 0; i < bench_row_count; i++) {
        if (i == 0 || strcmp(bench_rows[i].section, bench_rows[i - 1].section) != 0)
            printf("%s\n", bench_rows[i].section);
        printf("  %s%s\n", bench_rows[i].name, bench_rows[i].is_long ? " (with --long)" : "");
    }
}

static void parse(int argc, char **argv, struct bench_settings *settings)
{
    static const struct option longs[] = {
        {"rows", 1, NULL, 'r'},     {"runs", 1, NULL, 'n'},    {"quick", 0, NULL, 'q'},
        {"long", 0, NULL, 'l'},     {"json", 1, NULL, 'j'},    {"same", 0, NULL, 's'},
        {"launcher", 1, NULL, 'L'}, {"preload", 1, NULL, 'p'}, {"list", 0, NULL, 't'},
        {"help", 0, NULL, 'h'},     {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (option) {
        case 'r':
            settings->rows = optarg;
            break;
        case 'n':
            settings->runs = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'q':
            settings->quick = true;
            break;
        case 'l':
            settings->with_long = true;
            break;
        case 'j':
            settings->json = optarg;
            break;
        case 's':
            settings->same = true;
            break;
        case 'L':
            snprintf(settings->launcher, sizeof(settings->launcher), "%s", optarg);
            break;
        case 'p':
            settings->preload = optarg;
            break;
        case 't':
            list_rows();
            exit(0);
        default:
            usage(option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
    }
    if (settings->runs == 0)
        settings->runs = settings->quick ? 3 : 5;
    if (settings->runs > BENCH_RUNS_MAX)
        settings->runs = BENCH_RUNS_MAX;
}

/* The build tree has the command one folder up, an installed tree beside. */
static void find_launcher(struct bench_settings *settings)
{
    static const char *const places[] = {"..", "../src/cli", "."};

    for (size_t i = 0; settings->launcher[0] == '\0' && i < 3; i++) {
        snprintf(settings->launcher, sizeof(settings->launcher), "%s/%s/userfault",
                 settings->directory, places[i]);
        if (access(settings->launcher, X_OK) != 0)
            settings->launcher[0] = '\0';
    }
}

static struct bench_outcome *find(struct bench_outcome *outcomes, const char *name)
{
    for (size_t i = 0; i < bench_row_count; i++) {
        if (strcmp(outcomes[i].row->name, name) == 0)
            return &outcomes[i];
    }
    abort();
}

static void select_rows(const struct bench_settings *settings, struct bench_outcome *outcomes)
{
    for (size_t i = 0; i < bench_row_count; i++) {
        const struct bench_row *row = &bench_rows[i];

        outcomes[i].row = row;
        outcomes[i].selected =
            (settings->with_long || !row->is_long) &&
            (settings->rows == NULL || fnmatch(settings->rows, row->name, 0) == 0);
    }
    for (size_t i = 0; i < bench_row_count; i++) {
        for (int half = 0; outcomes[i].selected && half < 2; half++) {
            if (bench_rows[i].of[half] != NULL)
                find(outcomes, bench_rows[i].of[half])->selected = true;
        }
    }
}

/* Which side goes first changes with every run: neither always finds the machine warm. */
static void measure(const struct bench_settings *settings, struct bench_outcome *outcome)
{
    struct bench_column *bare = &outcome->side[BENCH_BARE];
    unsigned runs = outcome->row->is_long && settings->runs > 1 ? 1 : settings->runs;

    for (unsigned run = 0; run < 2 * runs; run++) {
        enum bench_side side = (enum bench_side)((run ^ (run / 2)) & 1);
        struct bench_column *column = &outcome->side[side];

        if (column->why[0] == '\0')
            bench_run(settings, outcome->row, side, column);
        if (run % 2 == 1 && outcome->row->bare != NULL && bare->why[0] == '\0')
            bench_run(settings, outcome->row, BENCH_BARE, bare);
    }
}

/* Pages a second of the second row over those of the first: the inverse of the times. */
static void derive(struct bench_outcome *outcomes, struct bench_outcome *outcome)
{
    const struct bench_outcome *from = find(outcomes, outcome->row->of[0]);
    const struct bench_outcome *to = find(outcomes, outcome->row->of[1]);

    for (int side = 0; side < 2; side++) {
        double before = BENCH_MEDIAN(&from->side[side], value);
        double after = BENCH_MEDIAN(&to->side[side], value);

        if (before <= 0 || after <= 0)
            continue;
        outcome->side[side].sample[0].value = before / after;
        outcome->side[side].count = 1;
    }
}

/* The same runs, another number of each. */
static void take_part(struct bench_outcome *outcomes, struct bench_outcome *outcome)
{
    const struct bench_outcome *from = find(outcomes, outcome->row->of[0]);

    for (int side = 0; side < BENCH_SIDES; side++) {
        struct bench_column *column = &outcome->side[side];

        *column = from->side[side];
        for (size_t i = 0; i < column->count; i++)
            memcpy(&column->sample[i].value, (const char *)&column->sample[i] + outcome->row->part,
                   sizeof(column->sample[i].value));
    }
}

int main(int argc, char **argv)
{
    struct bench_settings settings = {.runs = 0};
    struct bench_outcome *outcomes = calloc(bench_row_count, sizeof(*outcomes));
    char self[400] = "";
    bool failed = false, measured = false;
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (outcomes == NULL || length < 0)
        return 1;
    *strrchr(self, '/') = '\0';
    settings.directory = self;
    parse(argc, argv, &settings);
    find_launcher(&settings);
    select_rows(&settings, outcomes);
    /* The reference must not find our library, however this program was started. */
    unsetenv("LD_PRELOAD");

    bench_print_host(stdout, false);
    printf("runs: %u of each side, alternating, medians%s\n", settings.runs,
           settings.same ? "; the kernel against itself" : "");
    for (size_t i = 0; i < bench_row_count; i++) {
        if (!outcomes[i].selected)
            continue;
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r\033[K%s", outcomes[i].row->name);
        if (outcomes[i].row->kind == BENCH_SCALE)
            derive(outcomes, &outcomes[i]);
        else if (outcomes[i].row->kind == BENCH_PART)
            take_part(outcomes, &outcomes[i]);
        else
            measure(&settings, &outcomes[i]);
        for (int side = 0; side < BENCH_SIDES; side++)
            failed |= outcomes[i].side[side].failed;
        measured |= outcomes[i].side[0].count > 0 || outcomes[i].side[1].count > 0;
    }
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    bench_print_table(outcomes, bench_row_count);
    if (settings.json != NULL &&
        bench_write_json(settings.json, &settings, outcomes, bench_row_count) != 0) {
        fprintf(stderr, "userfault-bench: cannot write %s\n", settings.json);
        failed = true;
    }
    free(outcomes);
    /* 77: no facility answered, and every row says why. */
    return failed ? 1 : measured ? 0 : 77;
}
