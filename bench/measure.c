/* SPDX-License-Identifier: MIT */
/* bench-measure SCENARIO [OPTIONS]: runs one scenario and prints its line. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure.h"

struct scenario {
    const char *name;
    void (*run)(const struct bench_options *options, struct bench_result *result);
};

static const struct scenario scenarios[] = {
    {"fault", bench_fault},         {"copy", bench_bulk},
    {"touch", bench_touch},         {"register", bench_register_huge},
    {"plain", bench_plain},         {"published", bench_published},
    {"protect", bench_protect_all}, {"move", bench_move},
    {"write", bench_first_write},   {"scan", bench_scan},
    {"many", bench_many},           {"fork", bench_fork},
    {"stream", bench_stream},       {"bare", bench_bare},
};

static void usage(FILE *file)
{
    fputs("usage: bench-measure SCENARIO [OPTIONS]\n"
          "  fault, copy, touch, register, plain, published, protect, move, write, scan, many,\n"
          "  fork, stream, bare\n"
          "  --memory=private|shared            anonymous memory, or a memfd\n"
          "  --order=seq|rand                   of the touches\n"
          "  --handler=poll|poll-timed|spin|sigbus\n"
          "  --access=load|store|syscall        how a page is touched\n"
          "  --cause=missing|wp|minor           of the faults\n"
          "  --pages=N --stride=N --threads=N --batch=N --chunk-kib=N --rounds=N\n"
          "  --apart                            pin faulters and handler to two CPUs\n"
          "  --other                            fault, copy: the manager is another process\n"
          "  --sparse                           touch: publish every second page only;\n"
          "                                     protect: memory cut into 30,000 runs\n"
          "  --op=NAME                          plain, published: which system call\n"
          "  --op=look                          scan: without protecting again\n"
          "  --op=NAME                          bare: fault, write, copy, stream, move, scan,\n"
          "                                     protect, many\n"
          "  --op=epoll                         many: and --threads=N processes of one manager\n",
          file);
}

/* The place of @value in @names, or the end of the program. */
static int choice(const char *value, const char *const names[])
{
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0)
            return i;
    }
    fprintf(stderr, "bench-measure: %s is not known\n", value);
    exit(2);
}

static unsigned long number(const char *value)
{
    char *end;
    unsigned long result = strtoul(value, &end, 10);

    if (*value == '\0' || *end != '\0' || result == 0) {
        fprintf(stderr, "bench-measure: %s is not a number above 0\n", value);
        exit(2);
    }
    return result;
}

static void parse(int argc, char **argv, struct bench_options *options)
{
    static const char *const memories[] = {"private", "shared", NULL};
    static const char *const orders[] = {"seq", "rand", NULL};
    static const char *const accesses[] = {"load", "store", "syscall", NULL};
    static const char *const causes[] = {"missing", "wp", "minor", NULL};
    static const char *const handlers[] = {"poll", "poll-timed", "spin", "sigbus", NULL};
    static const struct option longs[] = {
        {"memory", 1, NULL, 'm'},    {"order", 1, NULL, 'o'},  {"handler", 1, NULL, 'h'},
        {"pages", 1, NULL, 'p'},     {"stride", 1, NULL, 's'}, {"threads", 1, NULL, 't'},
        {"batch", 1, NULL, 'b'},     {"op", 1, NULL, 'c'},     {"sparse", 0, NULL, 'x'},
        {"chunk-kib", 1, NULL, 'k'}, {"help", 0, NULL, '?'},   {"rounds", 1, NULL, 'r'},
        {"access", 1, NULL, 'a'},    {"apart", 0, NULL, 'd'},  {"cause", 1, NULL, 'w'},
        {"other", 0, NULL, 'n'},     {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'm':
            options->memory = (enum bench_memory)choice(optarg, memories);
            break;
        case 'o':
            options->random = choice(optarg, orders) == 1;
            break;
        case 'h':
            options->handler = (enum bench_handler)choice(optarg, handlers);
            break;
        case 'a':
            options->access = (enum bench_access)choice(optarg, accesses);
            break;
        case 'w':
            options->cause = (enum bench_cause)choice(optarg, causes);
            break;
        case 'p':
            options->pages = number(optarg);
            break;
        case 's':
            options->stride = number(optarg);
            break;
        case 't':
            options->threads = number(optarg);
            break;
        case 'b':
            options->batch = number(optarg);
            break;
        case 'c':
            options->op = optarg;
            break;
        case 'd':
            options->apart = true;
            break;
        case 'n':
            options->other = true;
            break;
        case 'x':
            options->sparse = true;
            break;
        case 'k':
            options->chunk_kib = number(optarg);
            break;
        case 'r':
            options->rounds = number(optarg);
            break;
        default:
            usage(stderr);
            exit(2);
        }
    }
}

/* The kernel's descriptors say what they are; whatever else answered was the user backend. */
static const char *backend_of(int context)
{
    char path[64], target[64] = "";

    if (context < 0)
        return "none";
    snprintf(path, sizeof(path), "/proc/self/fd/%d", context);
    if (readlink(path, target, sizeof(target) - 1) < 0)
        bench_fail(1, path);
    return strcmp(target, "anon_inode:[userfaultfd]") == 0 ? "kernel" : "user";
}

int main(int argc, char **argv)
{
    struct bench_options options = {
        .pages = 16384, .stride = 1, .threads = 1, .batch = 1, .chunk_kib = 2048};
    struct bench_result result = {.grow_kib = -1, .context = -1};
    const struct scenario *scenario = NULL;

    for (size_t i = 0; argc > 1 && i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (strcmp(argv[1], scenarios[i].name) == 0)
            scenario = &scenarios[i];
    }
    if (scenario == NULL) {
        usage(stderr);
        return 2;
    }
    parse(argc - 1, argv + 1, &options);
    scenario->run(&options, &result);

    bench_report(backend_of(result.context), &result);
    return 0;
}
