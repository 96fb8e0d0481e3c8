/* SPDX-License-Identifier: MIT */
/* The command line. */
#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"

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
    KEY_VERIFY,
    KEY_COMPRESS,
    KEY_PATIENCE,
    KEY_RECONNECT,
    KEY_TLS_CA,
    KEY_TLS_CERT,
    KEY_TLS_KEY,
    KEY_TLS_CRL,
    KEY_TLS_HOST,
    KEY_TLS_PSK,
    KEY_TLS_IDENTITY,
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
     "Connections for pages that nobody waits for (2; 0: the control link carries them)", 1},
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
    {"verify", KEY_VERIFY, NULL, 0, "The library compares a checksum of the region, too", 3},
    {"compress", KEY_COMPRESS, "HOW", OPTION_ARG_OPTIONAL,
     "What nobody waits for: off, auto (while it is measured to be faster; if nothing is named) or "
     "always",
     3},
    {"patience", KEY_PATIENCE, "SECONDS", 0,
     "How long the other side may be silent while it has to say something (30)", 3},
    {"reconnect", KEY_RECONNECT, "SECONDS[,N]", 0,
     "When connections break behind the switch: try so long to make new ones, N times at most. "
     "receive: not as the sender says",
     3},
    {NULL, 0, NULL, 0, "Encrypted, by TLS 1.3, with certificates or a key, on both sides:", 5},
    {"tls-ca", KEY_TLS_CA, "FILE", 0, "PEM: who signs the other side's certificate", 5},
    {"tls-cert", KEY_TLS_CERT, "FILE", 0, "PEM: this side's certificate", 5},
    {"tls-key", KEY_TLS_KEY, "FILE", 0, "PEM: its key", 5},
    {"tls-crl", KEY_TLS_CRL, "FILE", 0, "PEM: lists of revoked certificates, to be refused", 5},
    {"tls-host", KEY_TLS_HOST, "NAME", 0,
     "In the other side's certificate (send: the host of --to=tcp:...; receive: any)", 5},
    {"tls-psk", KEY_TLS_PSK, "FILE", 0, "Keys, as of psktool(1)", 5},
    {"tls-identity", KEY_TLS_IDENTITY, "NAME", 0, "send: which of the keys", 5},
    {NULL, 0, NULL, 0, "What is told:", 4},
    {"json", KEY_JSON, "FILE", OPTION_ARG_OPTIONAL,
     "Statistics as JSON to FILE (-, the default: standard output, in place of the text)", 4},
    {"svg", KEY_SVG, "FILE", 0,
     "A picture of pages over time (-: to standard output, in place of the text)", 4},
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

static void set_fill(struct argp_state *state, struct line *line, const char *text)
{
    char *end;
    unsigned long long seed = strtoull(text, &end, 10);

    if (*text < '0' || *text > '9' || *end)
        line->side.fill = text;
    else if (seed > INT64_MAX) /* JSON's numbers are ours no further */
        argp_error(state, "--fill=%s: not a number up to %lld; or else ./%s", text,
                   (long long)INT64_MAX, text);
    else
        line->plan.seed = seed;
}

/* An option that would have no effect is one that somebody believes in. */
static void settle_given(struct argp_state *state, const struct line *line)
{
    static const enum key senders[] = {
        KEY_SIZE,  KEY_MEMORY, KEY_HUGE,     KEY_FILL,  KEY_ZERO,       KEY_WRITER,   KEY_READER,
        KEY_SPOIL, KEY_ROUNDS, KEY_DOWNTIME, KEY_LINKS, KEY_ONE_SOCKET, KEY_BANDWIDTH};

    if (line->role != ROLE_RECEIVE && line->given & 1ull << (KEY_MAX_SIZE - KEY_TO))
        argp_error(state, "--max-size is for `receive'");
    for (size_t i = 0; line->role == ROLE_RECEIVE && i < sizeof(senders) / sizeof(*senders); i++) {
        const struct argp_option *option = options;

        while (option->key != (int)senders[i])
            option++;
        if (line->given & 1ull << (senders[i] - KEY_TO))
            argp_error(state, "--%s is the sender's to say", option->name);
    }
}

static error_t parse_tls(int key, char *arg, struct argp_state *state)
{
    struct line *line = state->input;

    switch (key) {
    case KEY_TLS_CA:
        line->tls.ca_file = arg;
        return 0;
    case KEY_TLS_CERT:
        line->tls.cert_file = arg;
        return 0;
    case KEY_TLS_KEY:
        line->tls.key_file = arg;
        return 0;
    case KEY_TLS_CRL:
        line->tls.crl_file = arg;
        return 0;
    case KEY_TLS_HOST:
        line->tls.host = arg;
        return 0;
    case KEY_TLS_PSK:
        line->tls.psk_file = arg;
        return 0;
    case KEY_TLS_IDENTITY:
        line->tls.psk_identity = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
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
        line->side.spoil_page = value_number(state, "spoil", arg, UINT32_MAX);
        return 0;
    default:
        return parse_tls(key, arg, state);
    }
}

static error_t parse_how(int key, char *arg, struct argp_state *state)
{
    static const char *const overs[] = {"unix", "tcp", "pipe", NULL};
    static const char *const compressions[] = {"off", "auto", "always", NULL};
    struct line *line = state->input;

    switch (key) {
    case KEY_TO:
        line->to = arg;
        return 0;
    case KEY_LISTEN:
        line->listen_on = arg;
        return 0;
    case KEY_OVER:
        line->over = overs[value_word(state, "over", arg, overs, "unix, tcp or pipe")];
        return 0;
    case KEY_LINKS:
        line->links.background =
            value_number(state, "background-links", arg, UF_POSTCOPY_BACKGROUND_MAX);
        line->links_given = true;
        return 0;
    case KEY_ONE_SOCKET:
        line->one_socket = true;
        return 0;
    case KEY_MAX_SIZE:
        line->side.max_size = value_size(state, "max-size", arg);
        return 0;
    case KEY_ROUNDS:
        line->side.rounds = value_number(state, "rounds", arg, 1000000);
        return 0;
    case KEY_DOWNTIME:
        line->side.downtime_ms = value_number(state, "downtime", arg, 1000000);
        return 0;
    case KEY_BANDWIDTH:
        line->side.bandwidth = value_rate(state, "bandwidth", arg);
        return 0;
    case KEY_FQ_RATE:
        line->links.pace_bytes = value_rate(state, "fq-rate", arg);
        return 0;
    case KEY_VERIFY:
        line->plan.verify = 1;
        return 0;
    case KEY_COMPRESS:
        line->plan.compress =
            value_word(state, "compress", arg ? arg : "auto", compressions, "off, auto or always");
        return 0;
    case KEY_RECONNECT:
        value_reconnect(state, "reconnect", arg, &line->side);
        return 0;
    case KEY_PATIENCE:
        line->links.patience_ms = 1000 * value_number(state, "patience", arg, 86400);
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

    if (key >= KEY_TO && key <= KEY_TLS_IDENTITY)
        line->given |= 1ull << (key - KEY_TO);
    switch (key) {
    case KEY_BACKEND:
        line->side.backend = (enum uf_backend[]){
            UF_BACKEND_AUTO, UF_BACKEND_KERNEL,
            UF_BACKEND_USER}[value_word(state, "backend", arg, backends, "auto, kernel or user")];
        return 0;
    case KEY_SIZE:
        line->plan.size = value_size(state, "size", arg);
        return 0;
    case KEY_MEMORY:
        line->plan.shared = value_word(state, "memory", arg, memories, "anon or shared");
        return 0;
    case KEY_HUGE:
        line->huge = true;
        return 0;
    case KEY_FILL:
        set_fill(state, line, arg);
        return 0;
    case KEY_ZERO:
        line->plan.zero_percent = value_number(state, "zero", arg, 100);
        return 0;
    case KEY_WRITER:
        value_pace(state, "writer", arg, &line->plan.writer, &line->writer_percent, NULL);
        return 0;
    case KEY_READER:
        value_pace(state, "reader", arg, &line->plan.reader, &line->reader_percent,
                   &line->plan.once);
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0 || (strcmp(arg, "send") != 0 && strcmp(arg, "receive") != 0))
            argp_error(state, "`%s': only `send' or `receive' may stand here", arg);
        line->role = strcmp(arg, "send") == 0 ? ROLE_SEND : ROLE_RECEIVE;
        return 0;
    case ARGP_KEY_SUCCESS:
        settle_given(state, line);
        options_settle(state, line);
        return 0;
    default:
        return parse_how(key, arg, state);
    }
}

static uint64_t half_of_ram(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

int options_parse(int argc, char **argv, struct line *ret)
{
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .args_doc = "\nsend --to=ADDRESS\nreceive [--listen=ADDRESS]",
                              .doc = doc};

    *ret = (struct line){
        .plan = {.version = PLAN_VERSION,
                 .seed = 1,
                 .writer = {.pattern = PATTERN_RANDOM, .rate = 1000},
                 .reader = {.pattern = PATTERN_RANDOM, .rate = 1000}},
        .side = {.backend = UF_BACKEND_AUTO,
                 .rounds = 5,
                 .downtime_ms = 300,
                 .max_size = half_of_ram()},
        .links = {.has_urgent = true, .background = 2, .patience_ms = 30000},
    };
    argp_err_exit_status = EXIT_SETUP;
    return argp_parse(&argp, argc, argv, 0, NULL, ret) ? EXIT_SETUP : 0;
}
