/* SPDX-License-Identifier: MIT */
/* One run: the command line of a side, its output with a time limit, the numbers in it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

#define OUTPUT_MAX 16384

static long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Reads until the last writer has closed. Returns false at the time limit. */
static bool collect(int from, unsigned seconds, char *output, size_t size)
{
    long deadline = now_ms() + (long)seconds * 1000;
    size_t used = 0;
    char spill[1024];

    for (;;) {
        struct pollfd fd = {.fd = from, .events = POLLIN};
        long left = deadline - now_ms();
        bool full = used + 1 >= size;
        ssize_t got;

        if (left <= 0)
            return false;
        if (poll(&fd, 1, (int)left) <= 0)
            continue;
        got = read(from, full ? spill : output + used, full ? sizeof(spill) : size - 1 - used);
        if (got <= 0)
            return true;
        if (!full)
            used += (size_t)got;
        output[used] = '\0';
    }
}

/* Before exec, so that a library that counts its CPUs as it is loaded counts one. */
static void confine(void)
{
    cpu_set_t allowed, chosen;
    int cpu = 0;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return;
    while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed))
        cpu++;
    CPU_ZERO(&chosen);
    CPU_SET(cpu, &chosen);
    sched_setaffinity(0, sizeof(chosen), &chosen);
}

int bench_spawn(char *const argv[], unsigned seconds, bool one_cpu, char *output, size_t size)
{
    int ends[2], status;
    bool ended;
    pid_t child;

    output[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        if (one_cpu)
            confine();
        execvp(argv[0], argv);
        dprintf(STDERR_FILENO, "cannot run %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return -1;
    }
    setpgid(child, child);
    ended = collect(ends[0], seconds, output, size);
    close(ends[0]);
    if (!ended)
        kill(-child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return ended ? status : -1;
}

static double field(const char *line, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = strstr(line, name); at != NULL; at = strstr(at + 1, name)) {
        if (at[-1] == ' ' && at[length] == '=')
            return strtod(at + length + 1, NULL);
    }
    return 0;
}

static bool parse_measure(const char *output, struct bench_sample *sample)
{
    const char *line = strstr(output, "BENCH ");

    if (line == NULL || sscanf(line, "BENCH backend=%15s", sample->backend) != 1)
        return false;
    sample->value = field(line, "mean_ns");
    sample->cpu_ns = field(line, "cpu_ns");
    sample->p50_ns = field(line, "p50_ns");
    sample->p99_ns = field(line, "p99_ns");
    sample->total_ns = field(line, "total_ns");
    sample->down_ns = field(line, "down_ns");
    sample->grow_kib = field(line, "grow_kib");
    sample->vmas = field(line, "vmas");
    sample->pte_kib = field(line, "pte_kib");
    sample->rss_kib = field(line, "rss_kib");
    return sample->value > 0;
}

/* "stress-ng: metrc: [PID] userfaultfd OPS REAL USER SYSTEM OPS/S ..." */
static bool parse_stress(const char *output, struct bench_sample *sample)
{
    double operations, real, user, system;
    const char *line = strstr(output, "] userfaultfd ");

    if (line == NULL || sscanf(line, "] userfaultfd %lf %lf %lf %lf %lf", &operations, &real, &user,
                               &system, &sample->value) != 5)
        return false;
    if (operations > 0)
        sample->cpu_ns = (user + system) * 1e9 / operations;
    return sample->value > 0;
}

/* The words of a command line; the storage lives as long as the struct. */
struct words {
    char *argv[BENCH_ARGS_MAX + 1];
    size_t count;
    char text[2048];
    size_t used;
};

static void add_word(struct words *words, const char *word)
{
    size_t size = strlen(word) + 1;

    if (words->count >= BENCH_ARGS_MAX || words->used + size > sizeof(words->text))
        abort();
    memcpy(words->text + words->used, word, size);
    words->argv[words->count++] = words->text + words->used;
    words->argv[words->count] = NULL;
    words->used += size;
}

/* Separated by blanks; NULL: none. */
static void add_words(struct words *words, const char *text)
{
    char copy[256], *save = NULL;

    snprintf(copy, sizeof(copy), "%s", text == NULL ? "" : text);
    for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
        add_word(words, word);
}

/* "measure", "sigsegv", "memcp" and others lie beside this program; other names are looked for in
 * PATH. */
static bool add_program(const struct bench_settings *settings, struct words *words,
                        const char *name, char *why, size_t size)
{
    char path[600];

    if (strcmp(name, "stress-ng") == 0) {
        add_word(words, name);
        add_word(words, "--timeout");
        add_word(words, settings->quick ? "1" : "3");
        add_word(words, "--metrics-brief");
        add_word(words, "--userfaultfd"); /* how many workers, the row says */
        return true;
    }
    snprintf(path, sizeof(path), "%s/bench-%s", settings->directory, name);
    if (access(path, X_OK) != 0) {
        snprintf(why, size, "bench-%s has not been built", name);
        return false;
    }
    add_word(words, path);
    return true;
}

static bool add_launcher(const struct bench_settings *settings, const struct bench_row *row,
                         struct words *words, char *why, size_t size)
{
    char preload[600];

    if (settings->same)
        return true;
    if (settings->preload != NULL) {
        snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", settings->preload);
        add_word(words, "env");
        add_word(words, preload);
        add_word(words, "USERFAULT_BACKEND=user");
        if (row->launch != NULL)
            snprintf(why, size, "needs the launcher");
        return row->launch == NULL;
    }
    if (settings->launcher[0] == '\0') {
        snprintf(why, size, "there is no launcher");
        return false;
    }
    add_word(words, settings->launcher);
    add_word(words, "run");
    add_word(words, "--backend=user");
    add_words(words, row->launch);
    add_word(words, "--");
    return true;
}

static bool build(const struct bench_settings *settings, const struct bench_row *row,
                  enum bench_side side, struct words *words, char *why, size_t size)
{
    bool ours = side == BENCH_OURS && !settings->same;
    const char *command = side == BENCH_BARE          ? row->bare
                          : ours && row->ours != NULL ? row->ours
                                                      : row->command;
    char copy[256], *save = NULL, *word;

    if (ours && !row->is_alone && !add_launcher(settings, row, words, why, size))
        return false;
    snprintf(copy, sizeof(copy), "%s", command);
    word = strtok_r(copy, " ", &save);
    if (!add_program(settings, words, word, why, size))
        return false;
    while ((word = strtok_r(NULL, " ", &save)) != NULL)
        add_word(words, word);
    if (row->has_pages && settings->quick && strncmp(command, "measure", 7) == 0)
        add_word(words, "--pages=4096");
    return true;
}

/* The last line that was printed is the reason, as far as there is one. */
static void take_reason(char *output, int status, char *why, size_t size)
{
    size_t length = strlen(output);
    const char *line;

    while (length > 0 && output[length - 1] == '\n')
        output[--length] = '\0';
    line = strrchr(output, '\n');
    line = line == NULL ? output : line + 1;
    if (status == -1)
        snprintf(why, size, "killed at the time limit; %s", line);
    else if (WIFSIGNALED(status))
        snprintf(why, size, "%s; %s", strsignal(WTERMSIG(status)), line);
    else
        snprintf(why, size, "status %d; %s", WEXITSTATUS(status), line);
}

bool bench_run(const struct bench_settings *settings, const struct bench_row *row,
               enum bench_side side, struct bench_column *column)
{
    bool kernel = side == BENCH_REFERENCE || settings->same;
    bool has_backend = !row->is_quiet && !row->is_alone && side != BENCH_BARE;
    struct bench_sample sample = {0};
    static char output[OUTPUT_MAX];
    struct words words = {.count = 0};
    int status;
    bool good;

    if (!build(settings, row, side, &words, column->why, sizeof(column->why)))
        return false;
    status = bench_spawn(words.argv, row->is_long ? 600 : 60, row->one_cpu, output, sizeof(output));
    if (row->kind == BENCH_RATE)
        good = parse_stress(output, &sample);
    else
        good = parse_measure(output, &sample);
    if (status != 0 || !good) {
        bool missing = status > 0 && WIFEXITED(status) &&
                       (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127);

        take_reason(output, status, column->why, sizeof(column->why));
        column->failed = !missing;
        return false;
    }
    if (has_backend && (strcmp(sample.backend, "user") == 0) == kernel) {
        snprintf(column->why, sizeof(column->why), "measured the wrong backend: %s",
                 sample.backend);
        column->failed = true;
        return false;
    }
    column->sample[column->count++] = sample;
    return true;
}
