/* SPDX-License-Identifier: MIT */
/* `userfault memcp`: the command line, and which sides run here. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memcp.h"

enum role { ROLE_ALONE, ROLE_SEND, ROLE_RECEIVE };

struct line {
    enum role role;
    struct plan plan;
    struct side_options side;
    struct link_options links;
    const char *to, *listen_on, *over;
    bool one_socket, huge;
    const char *json, *svg, *progress;
    bool wants_json, wants_progress, quiet;
};

enum key {
    KEY_TO = 256,
    KEY_LISTEN,
    KEY_OVER,
    KEY_BACKEND,
    KEY_SIZE,
    KEY_MEMORY,
    KEY_HUGE,
    KEY_FILL,
    KEY_ZERO,
    KEY_WRITER,
    KEY_READER,
    KEY_ROUNDS,
    KEY_DOWNTIME,
    KEY_BANDWIDTH,
    KEY_FQ_RATE,
    KEY_LINKS,
    KEY_ONE_SOCKET,
    KEY_MAX_SIZE,
    KEY_JSON,
    KEY_SVG,
    KEY_PROGRESS,
    KEY_QUIET,
    KEY_SPOIL,
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Between which processes:", 1},
    {"to", KEY_TO, "ADDRESS", 0,
     "send: unix:PATH, tcp:HOST:PORT, exec:COMMAND (its standard input and output) or -", 1},
    {"listen", KEY_LISTEN, "ADDRESS", 0,
     "receive: unix:PATH, tcp:HOST:PORT (port 0: any, told) or - (the default)", 1},
    {"over", KEY_OVER, "NAME", 0, "alone: unix (default), tcp or pipe", 1},
    {"backend", KEY_BACKEND, "NAME", 0,
     "Of this side: auto (default: the kernel's where it is permitted), kernel or user", 1},
    {"background-links", KEY_LINKS, "N", 0,
     "Connections for pages that nobody waits for (1; 0: the control link carries them)", 1},
    {"one-socket", KEY_ONE_SOCKET, NULL, 0, "One connection for everything", 1},
    {"max-size", KEY_MAX_SIZE, "SIZE", 0, "receive: refuse larger regions (half of the RAM)", 1},
    {NULL, 0, NULL, 0, "What moves:", 2},
    {"size", KEY_SIZE, "SIZE", 0, "Of the region (256M, or the file's)", 2},
    {"memory", KEY_MEMORY, "KIND", 0, "anon (private, the default) or shared", 2},
    {"huge-pages", KEY_HUGE, NULL, 0, "In huge pages of 2 MiB", 2},
    {"fill", KEY_FILL, "SEED|FILE", 0,
     "Content: random by a number (1), which is also that of the orders; or a file's", 2},
    {"zero", KEY_ZERO, "PERCENT", 0, "So many pages stay untouched (0)", 2},
    {"writer", KEY_WRITER, "PATTERN:RATE", 0,
     "seq, random or hot=SIZE, and pages a second, max, or a share of the region as 10%; or none "
     "(random:1000)",
     2},
    {"reader", KEY_READER, "PATTERN:RATE", 0,
     "The same (random:1000); or once:RATE: at the sink, each page once", 2},
    {NULL, 0, NULL, 0, "How:", 3},
    {"rounds", KEY_ROUNDS, "N", 0, "Of precopy at most (5; 0: the switch comes first)", 3},
    {"downtime", KEY_DOWNTIME, "MS", 0, "Switch when the rest can be sent in so long (300)", 3},
    {"bandwidth", KEY_BANDWIDTH, "RATE", 0,
     "Bytes a second at most, urgent pages excepted, as 100M or 1Gbit", 3},
    {"fq-rate", KEY_FQ_RATE, "RATE", 0, "The kernel paces each TCP connection to so much", 3},
    {NULL, 0, NULL, 0, "What is told:", 4},
    {"json", KEY_JSON, "FILE", OPTION_ARG_OPTIONAL,
     "Statistics as JSON to FILE (-, the default: standard output, in place of the text)", 4},
    {"svg", KEY_SVG, "FILE", 0, "A picture of pages over time", 4},
    {"progress", KEY_PROGRESS, "FILE", OPTION_ARG_OPTIONAL,
     "Progress as JSON lines to FILE (-, the default: standard error)", 4},
    {"quiet", KEY_QUIET, NULL, 0, "Neither statistics as text nor progress", 4},
    {"spoil", KEY_SPOIL, "PAGE", 0,
     "For tests: change one bit of a page behind the verification's back", 4},
    {0},
};

const char *argp_program_version = "userfault " USERFAULT_VERSION;

static const char doc[] =
    "Move memory to another process or machine while it is written to and read, and compare every "
    "byte. Without a word both sides run here.\v"
    "Sizes end with K, M, G or T. Exit status: 0 it moved and is right; 1 something is wrong; "
    "2 it did not move; 125 wrong options, or no memory, connection or facility. "
    "userfault-memcp(1) says what the numbers mean.";

void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("userfault memcp: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* ---- values */

/* A number at the start of a text, and what its unit multiplies it by. */
static bool scaled(const char *text, uint64_t *ret, const char **ret_end)
{
    static const char units[] = "KMGT";
    double value;
    char *end;
    const char *unit;
    unsigned shift = 0;

    if (*text < '0' || *text > '9')
        return false;
    value = strtod(text, &end);
    unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
    }
    if (value * (double)((uint64_t)1 << shift) > 1e18)
        return false;
    *ret = (uint64_t)(value * (double)((uint64_t)1 << shift));
    *ret_end = end;
    return true;
}

static uint64_t size_of(struct argp_state *state, const char *option, const char *text)
{
    uint64_t size = 0;
    const char *end;

    if (!scaled(text, &size, &end) || (*end && strcmp(end, "B") != 0 && strcmp(end, "iB") != 0) ||
        !size)
        argp_error(state, "--%s=%s: not a size, as 512M or 1G", option, text);
    return size;
}

/* Bits are counted in thousands. */
static uint64_t rate_of(struct argp_state *state, const char *option, const char *text)
{
    double value = 0, factor = 0;
    uint64_t rate = 0;
    const char *end;
    char *bits;

    if (strstr(text, "bit")) {
        value = strtod(text, &bits);
        factor = strcmp(bits, "Gbit") == 0   ? 1e9
                 : strcmp(bits, "Mbit") == 0 ? 1e6
                 : strcmp(bits, "kbit") == 0 ? 1e3
                                             : 0;
        rate = (uint64_t)(value * factor / 8);
    } else if (!scaled(text, &rate, &end) || *end) {
        rate = 0;
    }
    if (!rate)
        argp_error(state, "--%s=%s: not bytes a second, as 100M, or bits, as 1Gbit", option, text);
    return rate;
}

static unsigned number_of(struct argp_state *state, const char *option, const char *text,
                          unsigned max)
{
    unsigned long value = 0;
    char *end = NULL;

    if (*text >= '0' && *text <= '9')
        value = strtoul(text, &end, 10);
    if (!end || *end || value > max)
        argp_error(state, "--%s=%s: not a number up to %u", option, text, max);
    return (unsigned)value;
}

static unsigned one_of(struct argp_state *state, const char *option, const char *text,
                       const char *const *words, const char *which)
{
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0)
            return i;
    }
    argp_error(state, "--%s=%s: not %s", option, text, which);
    return 0;
}

/* Counts are in thousands. Of how many pages a share is, settle() knows. */
static bool pages_a_second(const char *text, uint64_t *ret, bool *ret_percent)
{
    double value;
    char *end;

    *ret_percent = false;
    if (strcmp(text, "max") == 0) {
        *ret = RATE_MAX;
        return true;
    }
    if (*text < '0' || *text > '9')
        return false;
    value = strtod(text, &end);
    if (strcmp(end, "k") == 0 || strcmp(end, "M") == 0) {
        value *= *end == 'k' ? 1e3 : 1e6;
        end++;
    }
    *ret_percent = strcmp(end, "%") == 0;
    *ret = (uint64_t)value;
    return (*ret_percent || !*end) && value >= 1 && value < 1e12;
}

static struct {
    bool writer, reader;
} percent;

static void set_pace(struct argp_state *state, const char *option, const char *text,
                     struct pace *pace, bool *ret_percent, uint64_t *ret_once)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    const char *end = "";
    bool good = true;

    *pace = (struct pace){0};
    *ret_percent = false;
    if (strcmp(text, "none") == 0)
        return;
    if (len == 3 && strncmp(text, "seq", 3) == 0)
        pace->pattern = PATTERN_SEQ;
    else if (len == 6 && strncmp(text, "random", 6) == 0)
        pace->pattern = PATTERN_RANDOM;
    else if (len == 4 && strncmp(text, "once", 4) == 0 && ret_once)
        *ret_once = 1;
    else if (len > 4 && strncmp(text, "hot=", 4) == 0)
        good = scaled(text + 4, &pace->hot_bytes, &end) && end == colon && pace->hot_bytes >= PAGE;
    else
        good = false;
    if (len > 4 && strncmp(text, "hot=", 4) == 0)
        pace->pattern = PATTERN_HOT;
    if (!good || !pages_a_second(colon + 1, &pace->rate, ret_percent))
        argp_error(state,
                   "--%s=%s: not seq, random%s or hot=SIZE, a colon, and pages a second, max or a "
                   "share as 10%%; nor none",
                   option, text, ret_once ? ", once" : "");
}

static void set_fill(struct line *line, const char *text)
{
    char *end;
    unsigned long long seed = strtoull(text, &end, 10);

    if (*text >= '0' && *text <= '9' && !*end)
        line->plan.seed = seed;
    else
        line->side.fill = text;
}

/* ---- options */

static void need(struct argp_state *state, bool good, const char *what)
{
    if (!good)
        argp_error(state, "%s", what);
}

/* What hangs together, once all is known. */
static void settle(struct argp_state *state, struct line *line)
{
    struct plan *plan = &line->plan;
    uint64_t file_bytes = 0;

    need(state, line->role == ROLE_SEND || !line->to, "--to is for `send'");
    need(state, line->role == ROLE_RECEIVE || !line->listen_on, "--listen is for `receive'");
    need(state, line->role == ROLE_ALONE || !line->over, "--over is for both sides in one");
    need(state, line->role != ROLE_SEND || line->to, "send: --to=ADDRESS says where to");
    if (line->side.fill) {
        FILE *file = fopen(line->side.fill, "re");

        if (!file || fseeko(file, 0, SEEK_END) != 0)
            argp_failure(state, EXIT_SETUP, errno, "--fill: %s", line->side.fill);
        else
            file_bytes = (uint64_t)ftello(file);
        if (file)
            fclose(file);
        plan->has_table = 1;
    }
    plan->page_bytes = line->huge ? (size_t)2 << 20 : PAGE;
    if (!plan->size)
        plan->size = file_bytes ? file_bytes : (uint64_t)256 << 20;
    plan->size = (plan->size + plan->page_bytes - 1) / plan->page_bytes * plan->page_bytes;
    if (percent.writer)
        plan->writer.rate = plan->writer.rate * (plan->size / PAGE) / 100 + 1;
    if (percent.reader)
        plan->reader.rate = plan->reader.rate * (plan->size / PAGE) / 100 + 1;
    need(state, line->side.spoil_page < plan->size / PAGE, "--spoil: there is no such page");
    /* Two streams can carry what one connection carries, and no more. */
    if (line->one_socket ||
        (line->to && (strcmp(line->to, "-") == 0 || strncmp(line->to, "exec:", 5) == 0)))
        line->links = (struct link_options){.pace_bytes = line->links.pace_bytes};
}

static error_t parse_told(int key, char *arg, struct argp_state *state)
{
    struct line *line = state->input;

    switch (key) {
    case KEY_JSON:
        if (!USERFAULT_JSON)
            argp_failure(state, EXIT_SETUP, 0, "--json: built without jansson");
        line->wants_json = true;
        line->json = arg ? arg : "-";
        return 0;
    case KEY_SVG:
        line->svg = arg;
        return 0;
    case KEY_PROGRESS:
        line->wants_progress = true;
        line->progress = arg ? arg : "-";
        return 0;
    case KEY_QUIET:
        line->quiet = true;
        return 0;
    case KEY_SPOIL:
        line->side.spoil = true;
        line->side.spoil_page = number_of(state, "spoil", arg, UINT32_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_how(int key, char *arg, struct argp_state *state)
{
    static const char *const overs[] = {"unix", "tcp", "pipe", NULL};
    struct line *line = state->input;

    switch (key) {
    case KEY_TO:
        line->to = arg;
        return 0;
    case KEY_LISTEN:
        line->listen_on = arg;
        return 0;
    case KEY_OVER:
        line->over = overs[one_of(state, "over", arg, overs, "unix, tcp or pipe")];
        return 0;
    case KEY_LINKS:
        line->links.background =
            number_of(state, "background-links", arg, UF_POSTCOPY_BACKGROUND_MAX);
        return 0;
    case KEY_ONE_SOCKET:
        line->one_socket = true;
        return 0;
    case KEY_MAX_SIZE:
        line->side.max_size = size_of(state, "max-size", arg);
        return 0;
    case KEY_ROUNDS:
        line->side.rounds = number_of(state, "rounds", arg, 1000000);
        return 0;
    case KEY_DOWNTIME:
        line->side.downtime_ms = number_of(state, "downtime", arg, 1000000);
        return 0;
    case KEY_BANDWIDTH:
        line->side.bandwidth = rate_of(state, "bandwidth", arg);
        return 0;
    case KEY_FQ_RATE:
        line->links.pace_bytes = rate_of(state, "fq-rate", arg);
        return 0;
    default:
        return parse_told(key, arg, state);
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const backends[] = {"auto", "kernel", "user", NULL};
    static const char *const memories[] = {"anon", "shared", NULL};
    struct line *line = state->input;

    switch (key) {
    case KEY_BACKEND:
        line->side.backend = (enum uf_backend[]){
            UF_BACKEND_AUTO, UF_BACKEND_KERNEL,
            UF_BACKEND_USER}[one_of(state, "backend", arg, backends, "auto, kernel or user")];
        return 0;
    case KEY_SIZE:
        line->plan.size = size_of(state, "size", arg);
        return 0;
    case KEY_MEMORY:
        line->plan.shared = one_of(state, "memory", arg, memories, "anon or shared");
        return 0;
    case KEY_HUGE:
        line->huge = true;
        return 0;
    case KEY_FILL:
        set_fill(line, arg);
        return 0;
    case KEY_ZERO:
        line->plan.zero_percent = number_of(state, "zero", arg, 100);
        return 0;
    case KEY_WRITER:
        set_pace(state, "writer", arg, &line->plan.writer, &percent.writer, NULL);
        return 0;
    case KEY_READER:
        set_pace(state, "reader", arg, &line->plan.reader, &percent.reader, &line->plan.once);
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0 || (strcmp(arg, "send") != 0 && strcmp(arg, "receive") != 0))
            argp_error(state, "`%s': only `send' or `receive' may stand here", arg);
        line->role = strcmp(arg, "send") == 0 ? ROLE_SEND : ROLE_RECEIVE;
        return 0;
    case ARGP_KEY_SUCCESS:
        settle(state, line);
        return 0;
    default:
        return parse_how(key, arg, state);
    }
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
        say("%s: %s", path, strerror(-ret));
    return ret;
}

static int write_out(const struct outcome *outcome, const char *path,
                     int (*print)(const struct outcome *, FILE *))
{
    FILE *file = open_out(path, stdout);

    return file ? close_out(path, file, print(outcome, file)) : -1;
}

/* Standard output may be the link: then what is for people goes beside it. */
static int tell(const struct line *line, struct outcome *outcome, int status)
{
    bool stdout_taken = (line->to && strcmp(line->to, "-") == 0) ||
                        (line->listen_on && strcmp(line->listen_on, "-") == 0);
    bool json_out = line->wants_json && strcmp(line->json, "-") == 0;
    int ret = 0;

    if (outcome->error[0])
        say("%s", outcome->error);
    if (!outcome->has_source && !outcome->has_sink)
        return status;
    if (!line->quiet && !json_out && !outcome->error[0])
        report_print(outcome, stdout_taken ? stderr : stdout);
    if (line->wants_json)
        ret |= write_out(outcome, line->json, json_write);
    if (line->svg)
        ret |= write_out(outcome, line->svg, svg_write);
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

static int send_to(struct line *line, struct outcome *outcome)
{
    struct links links;
    int ret = links_connect(line->to, &line->links, &links);

    outcome->transport = links.transport;
    outcome->links = links_count(&links.ends);
    if (ret == 0)
        ret = side_send(&line->plan, &line->side, &links, outcome);
    links_close(&links);
    return ret;
}

static int receive_at(struct line *line, struct outcome *outcome)
{
    struct links links;
    int ret = links_accept(line->listen_on, &links);

    outcome->transport = links.transport;
    outcome->links = links_count(&links.ends);
    if (ret == 0)
        ret = side_receive(&line->side, &links, outcome);
    links_close(&links);
    return ret;
}

/* The child's own words, if the parent could not hear them. */
_Noreturn static void be_sink(struct line *line, struct links links[2], struct outcome *outcome)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    links_close(&links[0]);
    line->side.progress = NULL;
    _exit(side_receive(&line->side, &links[1], outcome));
}

static int alone(struct line *line, struct outcome *outcome)
{
    const char *over = line->over ? line->over : "unix";
    struct links links[2];
    int ret = links_pairs(over, &line->links, links), status = 0;
    pid_t pid;

    if (ret)
        return ret;
    outcome->transport = links[0].transport;
    outcome->links = links_count(&links[0].ends);
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        be_sink(line, links, outcome);
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

static uint64_t half_of_ram(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

int main(int argc, char **argv)
{
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .args_doc = "\nsend --to=ADDRESS\nreceive [--listen=ADDRESS]",
                              .doc = doc};
    static struct outcome outcome;
    struct line line = {
        .plan = {.version = PLAN_VERSION,
                 .seed = 1,
                 .writer = {.pattern = PATTERN_RANDOM, .rate = 1000},
                 .reader = {.pattern = PATTERN_RANDOM, .rate = 1000}},
        .side = {.backend = UF_BACKEND_AUTO, .rounds = 5, .max_size = half_of_ram()},
        .links = {.has_urgent = true, .background = 1},
    };
    int ret;

    argp_err_exit_status = EXIT_SETUP;
    if (argp_parse(&argp, argc, argv, 0, NULL, &line) != 0 || open_progress(&line))
        return EXIT_SETUP;
    if (line.role == ROLE_RECEIVE && !line.listen_on)
        line.listen_on = "-";
    workers_prepare();
    ret = line.role == ROLE_SEND      ? send_to(&line, &outcome)
          : line.role == ROLE_RECEIVE ? receive_at(&line, &outcome)
                                      : alone(&line, &outcome);
    return tell(&line, &outcome, ret);
}
