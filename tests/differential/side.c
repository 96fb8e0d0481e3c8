/* SPDX-License-Identifier: MIT */
/* Running difffuzz: directly on the kernel, or under a launcher. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "difftest.h"

#define STALL_MS 30000 /* difffuzz gives up by itself after 15 s on one sequence */

struct running {
    pid_t pid;
    int fd;
    struct output *out;
};

uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void exec_child(const struct setup *setup, int which, char *const *args, int out)
{
    const struct side *side = &setup->side[which];
    const char *argv[2 * MAX_WORDS];
    int n = 0;

    for (; side->words[n]; n++)
        argv[n] = side->words[n];
    argv[n++] = setup->difffuzz;
    for (int i = 0; args[i]; i++)
        argv[n++] = args[i];
    if (side->perturb)
        argv[n++] = "--perturb";
    argv[n] = NULL;
    setpgid(0, 0); /* so that a launcher and what it launched can be ended together */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, STDOUT_FILENO);
    execvp(argv[0], (char **)argv);
    fprintf(stderr, "difftest: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static void start(const struct setup *setup, int which, char *const *args, struct output *out,
                  struct running *ret)
{
    int pipefd[2];

    memset(out, 0, sizeof(*out));
    out->size = 1 << 16;
    out->text = malloc(out->size);
    if (!out->text || pipe2(pipefd, O_CLOEXEC)) {
        perror("difftest");
        exit(2);
    }
    out->text[0] = '\0';
    ret->out = out;
    ret->fd = pipefd[0];
    ret->pid = fork();
    if (ret->pid < 0) {
        perror("difftest: fork");
        exit(2);
    }
    if (!ret->pid)
        exec_child(setup, which, args, pipefd[1]);
    setpgid(ret->pid, ret->pid); /* either of the two may be first */
    close(pipefd[1]);
}

/* Returns false at the end of the output. */
static bool take(struct running *run)
{
    struct output *out = run->out;
    ssize_t n;

    if (out->size - out->len < 1 << 15) {
        out->size *= 2;
        out->text = realloc(out->text, out->size);
        if (!out->text) {
            perror("difftest");
            exit(2);
        }
    }
    n = read(run->fd, out->text + out->len, out->size - out->len - 1);
    if (n < 0 && errno == EINTR)
        return true;
    out->len += n > 0 ? (size_t)n : 0;
    out->text[out->len] = '\0';
    return n > 0;
}

static void collect(struct running *runs, int count)
{
    uint64_t last[2] = {now_ms(), now_ms()};
    int open_count = count;

    while (open_count) {
        struct pollfd polls[2];

        for (int i = 0; i < count; i++)
            polls[i] = (struct pollfd){.fd = runs[i].fd, .events = POLLIN};
        poll(polls, (nfds_t)count, 1000);
        for (int i = 0; i < count; i++) {
            if (runs[i].fd < 0)
                continue;
            if (polls[i].revents) {
                last[i] = now_ms();
                if (take(&runs[i]))
                    continue;
                close(runs[i].fd);
                runs[i].fd = -1;
                open_count--;
            } else if (now_ms() - last[i] > STALL_MS) {
                kill(-runs[i].pid, SIGKILL);
                strcpy(runs[i].out->end, "silent for too long, killed");
            }
        }
    }
}

static void finish(struct running *run)
{
    struct output *out = run->out;
    int status;

    while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (out->end[0])
        return;
    if (WIFSIGNALED(status))
        snprintf(out->end, sizeof(out->end), "killed by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status))
        snprintf(out->end, sizeof(out->end), "exit status %d", WEXITSTATUS(status));
}

static void fuzz_args(char *const *words, const struct setup *setup, uint64_t seed, uint64_t count,
                      const char *ops, char **ret_args)
{
    static char text[3][32];
    int n = 0;

    snprintf(text[0], sizeof(text[0]), "%llu", (unsigned long long)seed);
    snprintf(text[1], sizeof(text[1]), "%llu", (unsigned long long)count);
    snprintf(text[2], sizeof(text[2]), "0x%llx", (unsigned long long)setup->features);
    ret_args[n++] = "--seed";
    ret_args[n++] = text[0];
    ret_args[n++] = "--count";
    ret_args[n++] = text[1];
    ret_args[n++] = "--features";
    ret_args[n++] = text[2];
    if (ops) {
        ret_args[n++] = "--ops";
        ret_args[n++] = (char *)ops;
    }
    for (int i = 0; words && words[i]; i++)
        ret_args[n++] = words[i];
    ret_args[n] = NULL;
}

void run_both(const struct setup *setup, uint64_t seed, uint64_t count, const char *ops,
              struct output out[2])
{
    struct running runs[2];
    char *args[16];

    fuzz_args(NULL, setup, seed, count, ops, args);
    for (int i = 0; i < 2; i++)
        start(setup, i, args, &out[i], &runs[i]);
    collect(runs, 2);
    for (int i = 0; i < 2; i++)
        finish(&runs[i]);
}

void output_fini(struct output *out)
{
    free(out->text);
    out->text = NULL;
}

/* 0, or -1 with a reason. */
int query_features(const struct setup *setup, int which, uint64_t *ret_features, char *why,
                   size_t why_size)
{
    struct output out;
    struct running run;
    unsigned long long features;
    int ret = 0;

    start(setup, which, (char *[]){"--caps", NULL}, &out, &run);
    collect(&run, 1);
    finish(&run);
    if (sscanf(out.text, "features %llx", &features) == 1) {
        *ret_features = features;
        if (strstr(out.text, "no huge pages: "))
            printf("side %s: %s", setup->side[which].name, strstr(out.text, "no huge pages: "));
    } else {
        snprintf(why, why_size, "%.200s%s", out.text, out.end);
        why[strcspn(why, "\n")] = '\0';
        ret = -1;
    }
    output_fini(&out);
    return ret;
}

/* The numbers of the operations of a sequence. */
int list_ops(const struct setup *setup, uint64_t seed, int *ret_ops)
{
    struct setup plain = *setup;
    struct output out;
    struct running run;
    char *args[16], *line, *rest;
    int count = 0;

    plain.side[0] = (struct side){.name = "list"};
    fuzz_args((char *[]){"--list", NULL}, setup, seed, 1, NULL, args);
    start(&plain, 0, args, &out, &run);
    collect(&run, 1);
    finish(&run);
    for (line = strtok_r(out.text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] >= '0' && line[0] <= '9' && count < MAX_OPS)
            ret_ops[count++] = atoi(line);
    }
    output_fini(&out);
    return count;
}

void print_command(const struct setup *setup, int which, uint64_t seed, const char *ops)
{
    const struct side *side = &setup->side[which];

    printf("   ");
    for (int i = 0; side->words[i]; i++)
        printf(" %s", side->words[i]);
    printf(" %s --seed %llu --features 0x%llx", setup->difffuzz, (unsigned long long)seed,
           (unsigned long long)setup->features);
    if (ops)
        printf(" --ops %s", ops);
    printf("%s\n", side->perturb ? " --perturb" : "");
}
