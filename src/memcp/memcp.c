/* SPDX-License-Identifier: MIT */
/* `userfault memcp`: which sides run here, and what is told at the end. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"

void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("userfault memcp: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* ---- what is told at the end */

static FILE *open_out(const char *path, FILE *standard)
{
    FILE *file = strcmp(path, "-") == 0 ? standard : fopen(path, "we");

    if (!file)
        say("%s: %s", path, strerror(errno));
    return file;
}

static int close_out(const char *path, FILE *file, int ret)
{
    if (strcmp(path, "-") != 0 && fclose(file) != 0 && ret == 0)
        ret = -errno;
    if (ret)
        say("%s: %s", strcmp(path, "-") == 0 ? "standard output" : path, strerror(-ret));
    return ret;
}

static int write_out(const struct outcome *outcome, const char *path,
                     int (*print)(const struct outcome *, FILE *))
{
    FILE *file = open_out(path, stdout);

    return file ? close_out(path, file, print(outcome, file)) : -1;
}

static int print_report(const struct outcome *outcome, FILE *out)
{
    report_print(outcome, out);
    if (fflush(out) == 0 && !ferror(out))
        return 0;
    say("the report could not be written: %s", strerror(errno));
    return -1;
}

static int end_progress(const struct line *line)
{
    FILE *file = line->wants_progress ? line->side.progress : NULL;
    const bool bad = file && ferror(file);
    const bool lost = file && file != stderr && fclose(file);

    if (lost)
        say("%s: %s", line->progress, strerror(errno));
    else if (bad)
        say("%s: not all of the progress could be written", line->progress);
    return bad || lost ? -1 : 0;
}

/* Standard output may be the link: then what is for people goes beside it. */
static int tell(const struct line *line, struct outcome *outcome, int status)
{
    bool stdout_taken = (line->to && strcmp(line->to, "-") == 0) ||
                        (line->listen_on && strcmp(line->listen_on, "-") == 0);
    bool other_out = (line->wants_json && strcmp(line->json, "-") == 0) ||
                     (line->svg && strcmp(line->svg, "-") == 0);
    int ret = 0;

    if (outcome->error[0])
        say("%s", outcome->error);
    if (!outcome->has_source && !outcome->has_sink)
        return status;
    if (!line->quiet && !other_out && !outcome->error[0])
        ret |= print_report(outcome, stdout_taken ? stderr : stdout);
    if (line->wants_json)
        ret |= write_out(outcome, line->json, json_write);
    if (line->svg)
        ret |= write_out(outcome, line->svg, svg_write);
    ret |= end_progress(line);
    return status ? status : ret ? EXIT_SETUP : 0;
}

static int open_progress(struct line *line)
{
    line->side.progress_json = line->wants_progress;
    if (line->wants_progress)
        line->side.progress = open_out(line->progress, stderr);
    else if (!line->quiet && isatty(STDERR_FILENO))
        line->side.progress = stderr;
    if (line->wants_progress && !line->side.progress)
        return EXIT_SETUP;
    /* The reports are written when all is over; that they can be is better known now. */
    for (int i = 0; i < 2; i++) {
        const char *path = i ? line->svg : line->json;
        FILE *file = path && strcmp(path, "-") != 0 ? open_out(path, NULL) : stdout;

        if (!file)
            return EXIT_SETUP;
        if (file != stdout)
            fclose(file);
    }
    return 0;
}

/* ---- the sides */

/* Return: 0; an exit status, told. */
static int load_credentials(struct line *line, bool server, struct uf_postcopy_tls **ret)
{
    struct uf_postcopy_tls_options who = line->tls;
    const char *words = "";
    int error;

    *ret = NULL;
    if (line->side.tls == TLS_OFF)
        return 0;
    who.server = server;
    if (server)
        who.psk_identity = NULL;
    error = uf_postcopy_tls_new(ret, &who, &words);
    if (error)
        say("TLS: %s (%s)", words, strerror(-error));
    return error ? EXIT_SETUP : 0;
}

static int send_to(struct line *line, struct outcome *outcome)
{
    struct links links;
    int ret = load_credentials(line, false, &line->side.credentials);

    if (ret)
        return ret;
    links_clear(&links, &line->links);
    links.address = line->to;
    ret = side_send(&line->plan, &line->side, &links, outcome);
    links_close(&links);
    uf_postcopy_tls_free(line->side.credentials);
    return ret;
}

static int receive_at(struct line *line, struct outcome *outcome)
{
    struct links links;
    int ret = load_credentials(line, true, &line->side.credentials);

    if (ret)
        return ret;
    ret = links_accept(line->listen_on, &line->links, &links);
    outcome->transport = links.transport;
    outcome->links = links_count(&links.ends);
    if (ret == 0)
        ret = side_receive(&line->side, &links, outcome);
    links_close(&links);
    uf_postcopy_tls_free(line->side.credentials);
    return ret;
}

/* The parent hears the child's words, unless what they would go by is what failed. */
_Noreturn static void be_sink(struct line *line, struct links links[2], struct outcome *outcome)
{
    int ret;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    links_close(&links[0]);
    /* The parent fills the memory first, and ends with this one. */
    links[1].options.patience_ms = 0;
    line->side.progress = NULL;
    ret = side_receive(&line->side, &links[1], outcome);
    /* Whose sender ended before it said what will move knows less than the sender, which says it.
     */
    if (outcome->error[0] && (ret != EXIT_FAILED || outcome->plan.version))
        say("the sink: %s", outcome->error);
    _exit(ret);
}

static int alone_over(struct line *line, struct links links[2], struct uf_postcopy_tls *sinks,
                      struct outcome *outcome)
{
    int ret, status = 0;
    pid_t pid;

    outcome->transport = links[0].transport;
    outcome->links = links_count(&links[0].ends);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        line->side.credentials = sinks;
        be_sink(line, links, outcome);
    }
    links_close(&links[1]);
    if (pid < 0) {
        say("a second process: %s", strerror(errno));
        ret = EXIT_SETUP;
    } else {
        ret = side_send(&line->plan, &line->side, &links[0], outcome);
    }
    links_close(&links[0]);
    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
        say("the sink was ended by signal %d", WTERMSIG(status));
    return ret;
}

static int alone(struct line *line, struct outcome *outcome)
{
    struct uf_postcopy_tls *sinks = NULL;
    struct links links[2];
    int ret = load_credentials(line, false, &line->side.credentials);

    if (ret == 0)
        ret = load_credentials(line, true, &sinks);
    if (ret == 0)
        ret = links_pairs(line->over ? line->over : "unix", &line->links, links);
    if (ret == 0)
        ret = alone_over(line, links, sinks, outcome);
    uf_postcopy_tls_free(line->side.credentials);
    uf_postcopy_tls_free(sinks);
    return ret;
}

int main(int argc, char **argv)
{
    static struct outcome outcome;
    struct line line;
    int ret = options_parse(argc, argv, &line);

    if (ret || open_progress(&line))
        return EXIT_SETUP;
    workers_prepare();
    ret = line.role == ROLE_SEND      ? send_to(&line, &outcome)
          : line.role == ROLE_RECEIVE ? receive_at(&line, &outcome)
                                      : alone(&line, &outcome);
    return tell(&line, &outcome, ret);
}
