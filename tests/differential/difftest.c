/* SPDX-License-Identifier: MIT */
/*
 * difftest: the same random sequences on the kernel's userfaultfd and on ours; results must agree.
 *
 * See usage below. --self proves that traces are repeatable, --perturb that a difference is found.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "difftest.h"
#include "fuzz.h"

struct options {
    uint64_t features;
    uint64_t seed, count, seconds, batch, jobs, max_differences, progress_s;
    bool self, perturb, huge, fork;
};

static const char usage[] =
    "usage: difftest [OPTION]...\n"
    "Run random sequences of operations on the kernel's userfaultfd and on ours, and compare.\n"
    "\n"
    "  --count N            so many sequences (1000)\n"
    "  --seconds N          for so long instead\n"
    "  --seed S             the first one's; each next has the next (random)\n"
    "  --jobs J             so many pairs at a time (1)\n"
    "  --batch B            so many sequences a process (100)\n"
    "  --max-differences N  stop after so many were shrunk and shown (5)\n"
    "  --progress N         a line to stderr every N seconds, 0: none (60)\n"
    "  --huge               each about hugetlb, not one in sixteen\n"
    "  --fork               each forks, not one in four\n"
    "  --features MASK      of the features that both have, only these (all); 0x9a0: missing "
    "faults;\n"
    "                       without 2, EVENT_FORK, none forks\n"
    "  --launcher COMMAND   what puts our facility under difffuzz (build's userfault run ...)\n"
    "  --difffuzz PATH      what runs the sequences (the one beside this program)\n"
    "  --self               the kernel against the kernel\n"
    "  --perturb            one side lies: the difference must be found, and shrunk well\n"
    "  --help\n"
    "\n"
    "A difference that is a known one is left out of its sequence, and the rest compared again.\n"
    "Exit status: 0 no difference, 1 differences, 2 trouble, 77 a facility is not to be had.\n";

#define MAX_KINDS   256
#define MAX_REASONS 32
#define KIND_SHRUNK 2 /* so many of each kind are shrunk and shown, the others counted */

struct kind {
    _Atomic uint64_t hash, count;
    char text[256];
};

/* Shared by the jobs. */
struct progress {
    _Atomic uint64_t next, done, differences, explained, shown, shrunk_ops;
    struct kind kinds[MAX_KINDS], reasons[MAX_REASONS];
};

static struct setup setup;
static struct options options = {
    .batch = 100, .jobs = 1, .max_differences = 5, .progress_s = 60, .features = ~(uint64_t)0};
static struct progress *progress;
static uint64_t started_ms;

/* found: the outputs of the batch from batch_start in which the sequence differs. */
static void report(uint64_t seed, uint64_t batch_start, const struct output found[2])
{
    struct output out[2];
    char ops[MAX_OPS * 5];
    int left = shrink(&setup, seed, ops, sizeof(ops));

    if (left < 0) {
        printf("difference: sequence %llu, but not when run by itself; in the batch from %llu:\n",
               (unsigned long long)seed, (unsigned long long)batch_start);
        print_pair(&setup, found, seed);
    } else {
        atomic_store(&progress->shrunk_ops, (uint64_t)left);
        printf("difference: sequence %llu, %d operations suffice:\n", (unsigned long long)seed,
               left);
        run_both(&setup, seed, 1, ops, out);
        print_pair(&setup, out, seed);
        output_fini(&out[0]);
        output_fini(&out[1]);
    }
    printf("    replay:\n");
    for (int i = 0; i < 2; i++)
        print_command(&setup, i, left < 0 ? batch_start : seed, left < 0 ? NULL : ops);
    fflush(stdout);
}

/* Return: how many of the kind there were before. */
static uint64_t count_text(struct kind *kind, int max, const char *text)
{
    uint64_t hash = 14695981039346656037ull;

    for (const char *p = text; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211ull;
    for (int i = 0; i < max - 1; i++, kind++) {
        uint64_t old = 0;

        if (atomic_compare_exchange_strong(&kind->hash, &old, hash))
            snprintf(kind->text, sizeof(kind->text), "%s", text);
        if (!old || old == hash)
            break;
    }
    return atomic_fetch_add(&kind->count, 1);
}

/* Counts a difference; true when its kind has not been shown often enough. */
static bool count_kind(const char *text)
{
    atomic_fetch_add(&progress->differences, 1);
    return count_text(progress->kinds, MAX_KINDS, text) < KIND_SHRUNK;
}

static void print_kinds(const struct kind *kinds, int max, const char *what)
{
    for (int i = 0; i < max; i++) {
        if (kinds[i].count)
            printf("  %6llu times %s %s\n", (unsigned long long)kinds[i].count, what,
                   kinds[i].text);
    }
}

/* A sequence that differs in a known way: does the rest of it, too? */
static bool rest_differs(uint64_t seed, const struct known *known)
{
    int ops[MAX_OPS], count = list_ops(&setup, seed, ops);

    atomic_fetch_add(&progress->explained, 1);
    count_text(progress->reasons, MAX_REASONS, known->reason);
    ops_remove(ops, &count, known->op);
    return ops_differ(&setup, seed, ops, &count);
}

static bool sequence_differs(const struct output out[2], uint64_t seed, char *kind, size_t size)
{
    struct sequence a = {.start = ""}, b = {.start = ""};
    bool have_a = find_sequence(&out[0], seed, &a), have_b = find_sequence(&out[1], seed, &b);
    struct known known;

    if (!have_a || !have_b || !a.complete || !b.complete) {
        if (have_a && have_b)
            difference_kind(&a, &b, kind, size);
        return true;
    }
    switch (compare_sequences(&a, &b, &known)) {
    case SAME:
        return false;
    case EXPLAINED:
        snprintf(kind, size, "after a known one");
        return rest_differs(seed, &known);
    case DIFFERENT:
    default:
        difference_kind(&a, &b, kind, size);
        return true;
    }
}

/* Returns how many sequences were dealt with: up to and including the first difference. */
static uint64_t run_batch(uint64_t seed, uint64_t count)
{
    struct output out[2];
    char kind[128] = "the end";
    uint64_t dealt = 0;
    bool differ = false;

    run_both(&setup, seed, count, NULL, out);
    while (dealt < count && !differ)
        differ = sequence_differs(out, seed + dealt++, kind, sizeof(kind));
    if (!differ && (out[0].end[0] || out[1].end[0]))
        differ = true;
    if (differ && count_kind(kind)) {
        report(seed + dealt - 1, seed, out);
        atomic_fetch_add(&progress->shown, 1);
    }
    output_fini(&out[0]);
    output_fini(&out[1]);
    return dealt;
}

static bool over(void)
{
    if (atomic_load(&progress->shown) >= options.max_differences)
        return true;
    return options.seconds && now_ms() - started_ms > options.seconds * 1000;
}

static void run_job(void)
{
    while (!over()) {
        uint64_t at = atomic_fetch_add(&progress->next, options.batch), dealt = 0;
        uint64_t size = options.batch;

        if (options.count && at >= options.count)
            return;
        if (options.count && size > options.count - at)
            size = options.count - at;
        while (dealt < size && !over()) {
            uint64_t n = run_batch(options.seed + at + dealt, size - dealt);

            dealt += n;
            atomic_fetch_add(&progress->done, n);
        }
    }
}

static void on_alarm(int sig)
{
    (void)sig; /* wait() answers EINTR */
}

static void print_progress(void)
{
    double seconds = (double)(now_ms() - started_ms) / 1000;
    uint64_t done = atomic_load(&progress->done);

    fprintf(stderr, "%llu sequences, %llu differences, %.0f s, %.0f a second\n",
            (unsigned long long)done, (unsigned long long)atomic_load(&progress->differences),
            seconds, (double)done / seconds);
    alarm((unsigned)options.progress_s);
}

static void run_jobs(void)
{
    struct sigaction act = {.sa_handler = on_alarm};

    sigaction(SIGALRM, &act, NULL);
    for (uint64_t i = 0; i < options.jobs; i++) {
        pid_t pid = fork();

        if (pid < 0) {
            perror("difftest: fork");
            exit(2);
        }
        if (!pid) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            run_job();
            fflush(stdout);
            _exit(0);
        }
    }
    alarm((unsigned)options.progress_s);
    for (;;) {
        int status;
        pid_t pid = wait(&status);

        if (pid < 0 && errno == ECHILD)
            return;
        if (pid < 0 && errno == EINTR)
            print_progress();
        if (pid > 0 && status) {
            fprintf(stderr, "difftest: a job ended with status %x\n", (unsigned)status);
            exit(2);
        }
    }
}

static void split_words(char *text, struct side *side)
{
    int n = 0;

    for (char *word = strtok(text, " "); word && n < MAX_WORDS - 1; word = strtok(NULL, " "))
        side->words[n++] = word;
}

/* Beside this program, in the build tree: difffuzz in the same folder, the launcher two up. */
static void default_paths(char **launcher)
{
    static char self[PATH_MAX], fuzz[PATH_MAX + 16], launch[PATH_MAX + 80];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    self[n > 0 ? n : 0] = '\0';
    slash = strrchr(self, '/');
    if (!slash)
        return;
    *slash = '\0';
    snprintf(fuzz, sizeof(fuzz), "%s/difffuzz", self);
    if (!setup.difffuzz)
        setup.difffuzz = fuzz;
    snprintf(launch, sizeof(launch), "%s/../../userfault run --backend=user --deny-kernel --",
             self);
    if (!*launcher)
        *launcher = launch;
}

static void parse(int argc, char **argv, char **launcher)
{
    static const struct option longs[] = {
        {"seed", required_argument, NULL, 's'},
        {"count", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 't'},
        {"jobs", required_argument, NULL, 'j'},
        {"batch", required_argument, NULL, 'b'},
        {"launcher", required_argument, NULL, 'l'},
        {"difffuzz", required_argument, NULL, 'd'},
        {"max-differences", required_argument, NULL, 'm'},
        {"self", no_argument, NULL, 'S'},
        {"perturb", no_argument, NULL, 'P'},
        {"progress", required_argument, NULL, 'p'},
        {"features", required_argument, NULL, 'f'},
        {"huge", no_argument, NULL, 'H'},
        {"fork", no_argument, NULL, 'F'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
        uint64_t value = optarg ? strtoull(optarg, NULL, 0) : 1;

        switch (c) {
        case 's':
            options.seed = value;
            break;
        case 'n':
            options.count = value;
            break;
        case 't':
            options.seconds = value;
            break;
        case 'j':
            options.jobs = value ? value : 1;
            break;
        case 'b':
            options.batch = value ? value : 1;
            break;
        case 'm':
            options.max_differences = value;
            break;
        case 'l':
            *launcher = optarg;
            break;
        case 'd':
            setup.difffuzz = optarg;
            break;
        case 'S':
            options.self = true;
            break;
        case 'P':
            options.self = options.perturb = true;
            break;
        case 'p':
            options.progress_s = value;
            break;
        case 'f':
            options.features = value;
            break;
        case 'H':
            options.huge = true;
            break;
        case 'F':
            options.fork = true;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            fputs(usage, stderr);
            exit(2);
        }
    }
}

static void skip_unless_available(void)
{
    uint64_t features[2];
    char why[256];

    for (int i = 0; i < 2; i++) {
        if (query_features(&setup, i, &features[i], why, sizeof(why))) {
            printf("SKIP: no userfaultfd on side %s: %s\n", setup.side[i].name, why);
            exit(77);
        }
    }
    setup.features = features[0] & features[1] & options.features;
    if (options.huge && !(setup.features & UF_FEATURE_MISSING_HUGETLBFS)) {
        printf("SKIP: no hugetlb\n");
        exit(77);
    }
    if (options.fork && !(setup.features & UF_FEATURE_EVENT_FORK)) {
        printf("SKIP: no EVENT_FORK\n");
        exit(77);
    }
    setup.features |= (options.huge ? FUZZ_ALL_HUGE : 0) | (options.fork ? FUZZ_ALL_FORK : 0);
}

static int verdict(void)
{
    uint64_t differences = atomic_load(&progress->differences);
    uint64_t left = atomic_load(&progress->shrunk_ops);

    printf("%llu sequences from seed %llu, %s against %s, features 0x%llx: %llu differences, "
           "%llu known ones left out, %.1f s\n",
           (unsigned long long)atomic_load(&progress->done), (unsigned long long)options.seed,
           setup.side[0].name, setup.side[1].name, (unsigned long long)setup.features,
           (unsigned long long)differences, (unsigned long long)atomic_load(&progress->explained),
           (double)(now_ms() - started_ms) / 1000);
    print_kinds(progress->kinds, MAX_KINDS, "first");
    print_kinds(progress->reasons, MAX_REASONS, "known:");
    if (!options.perturb)
        return differences ? 1 : 0;
    /* The lie is told by the result of one COPY; open, enable, map and register must precede it. */
    if (differences && left && left <= 6) {
        printf("the lie was found and shrunk to %llu operations\n", (unsigned long long)left);
        return 0;
    }
    printf("the lie was %s\n", differences ? "not shrunk well" : "not found");
    return 1;
}

int main(int argc, char **argv)
{
    char *launcher = NULL;

    options.seed = now_ms() ^ (uint64_t)getpid() << 32;
    parse(argc, argv, &launcher);
    default_paths(&launcher);
    if (!options.count && !options.seconds)
        options.count = 1000;
    setup.side[0].name = "kernel";
    setup.side[1].name = options.perturb ? "liar" : options.self ? "kernel again" : "user";
    setup.side[1].perturb = options.perturb;
    if (!options.self)
        split_words(strdup(launcher), &setup.side[1]);
    if (options.perturb)
        options.max_differences = 1;
    progress =
        mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED) {
        perror("difftest: mmap");
        return 2;
    }
    skip_unless_available();
    printf("seed %llu\n", (unsigned long long)options.seed);
    fflush(stdout);
    started_ms = now_ms();
    run_jobs();
    return verdict();
}
