/* SPDX-License-Identifier: MIT */
/* Options that hang together, once all are known; and such that do not go together are refused. */
#include <argp.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "links.h"
#include "options.h"

static void need(struct argp_state *state, bool good, const char *what)
{
    if (!good)
        argp_error(state, "%s", what);
}

static bool begins(const char *text, const char *with)
{
    return text && address_after(text, with);
}

/* One connection for everything, which is there already. */
static bool is_stream(const struct line *line)
{
    return line->role == ROLE_RECEIVE ? strcmp(line->listen_on, "-") == 0
           : line->role == ROLE_SEND  ? strcmp(line->to, "-") == 0 || begins(line->to, "exec:")
                                      : false;
}

/* The connection is this program's standard input and output. */
static bool is_standard(const struct line *line)
{
    return is_stream(line) && !begins(line->to, "exec:");
}

static bool is_tcp(const struct line *line)
{
    return begins(line->to, "tcp:") || (line->over && strcmp(line->over, "tcp") == 0);
}

static bool to_standard(const char *path)
{
    return path && strcmp(path, "-") == 0;
}

static void settle_roles(struct argp_state *state, struct line *line)
{
    const bool receives = line->role == ROLE_RECEIVE;

    if (receives && !line->listen_on)
        line->listen_on = "-";
    need(state, line->role == ROLE_SEND || !line->to, "--to is for `send'");
    need(state, receives || !line->listen_on, "--listen is for `receive'");
    need(state, line->role == ROLE_ALONE || !line->over, "--over is for both sides in one");
    need(state, line->role != ROLE_SEND || line->to, "send: --to=ADDRESS says where to");
    need(state, !begins(line->to, "exec:") || line->to[strlen("exec:")],
         "--to=exec: names no command");
    need(state, !to_standard(line->json) || !is_standard(line),
         "--json: standard output is the connection: name a file");
    need(state, !to_standard(line->svg) || !is_standard(line),
         "--svg: standard output is the connection: name a file");
    need(state, !to_standard(line->svg) || !to_standard(line->json),
         "--json and --svg: standard output is for one of them: name a file for the other");
    need(state, !receives || !line->plan.verify, "--verify is the sender's to say");
    need(state, !receives || !line->plan.compress, "--compress is the sender's to say");
}

static void settle_links(struct argp_state *state, struct line *line)
{
    need(state, !line->one_socket || !line->links_given || !line->links.background,
         "--one-socket leaves none for --background-links");
    need(state, !is_stream(line) || !line->links_given || !line->links.background,
         "`exec:' and `-' are one connection, with none left for --background-links");
    need(state, !line->links.pace_bytes || is_tcp(line),
         "--fq-rate is for TCP: --to=tcp:HOST:PORT, or --over=tcp");
    need(state, !line->side.reconnect_s || line->role != ROLE_ALONE,
         "--reconnect is for `send' and `receive': with both sides here nothing breaks");
    need(state, !line->side.reconnect_s || !is_stream(line),
         "--reconnect: `exec:' and `-' are one connection that is there already, and cannot be "
         "made again");
    line->plan.reconnect_s = line->side.reconnect_s;
    line->plan.reconnects = line->side.reconnects;
    need(state, line->side.downtime_ms, "--downtime=0 cannot be: 1 or more");
    need(state, line->links.patience_ms, "--patience=0 would wait for nothing: 1 or more");
    /* Two streams can carry what one connection carries, and no more. */
    if (line->one_socket || is_stream(line)) {
        line->links.has_urgent = false;
        line->links.background = 0;
    }
}

/* The sender's, of --to=tcp:HOST:PORT. */
static const char *host_of(const struct line *line)
{
    static char host[256];
    const char *at = address_after(line->to, "tcp:"), *port;
    size_t len = 0;

    at = at ? address_host(at, &len, &port) : NULL;
    if (len == 0 || len >= sizeof(host))
        return NULL;
    memcpy(host, at, len);
    return host;
}

static void settle_certificates(struct argp_state *state, struct line *line)
{
    struct uf_postcopy_tls_options *tls = &line->tls;

    need(state, tls->ca_file && tls->cert_file && tls->key_file,
         "certificates need all of --tls-ca, --tls-cert and --tls-key");
    need(state, !tls->psk_identity, "--tls-identity is for --tls-psk");
    if (!tls->host && line->role == ROLE_SEND)
        tls->host = host_of(line);
    need(state, tls->host || line->role == ROLE_RECEIVE,
         "--tls-host=NAME says whose certificate the receiver's has to be");
}

static void settle_key(struct argp_state *state, const struct line *line)
{
    const struct uf_postcopy_tls_options *tls = &line->tls;

    need(state, !tls->ca_file && !tls->cert_file && !tls->key_file && !tls->crl_file && !tls->host,
         "either a key (--tls-psk) or certificates (--tls-ca, --tls-cert, --tls-key)");
    need(state, line->role == ROLE_RECEIVE || tls->psk_identity,
         "--tls-identity=NAME says which of the keys of --tls-psk");
    need(state, line->role != ROLE_RECEIVE || !tls->psk_identity,
         "--tls-identity is the sender's to say");
}

static void settle_tls(struct argp_state *state, struct line *line)
{
    const struct uf_postcopy_tls_options *tls = &line->tls;
    const bool certificates =
        tls->ca_file || tls->cert_file || tls->key_file || tls->crl_file || tls->host;

    line->side.tls = tls->psk_file ? TLS_KEY : certificates ? TLS_CERTIFICATES : TLS_OFF;
    if (line->side.tls == TLS_CERTIFICATES)
        settle_certificates(state, line);
    else if (line->side.tls == TLS_KEY)
        settle_key(state, line);
    else
        need(state, !tls->psk_identity, "--tls-identity is for --tls-psk");
    need(state, line->side.tls == TLS_OFF || !is_stream(line),
         "TLS is for connections of its own, of `unix:' and `tcp:'; let the command encrypt");
    line->plan.tls = line->side.tls;
}

static uint64_t file_bytes(struct argp_state *state, const char *path)
{
    struct stat found;

    if (stat(path, &found))
        argp_failure(state, EXIT_SETUP, errno, "--fill: %s", path);
    else if (!S_ISREG(found.st_mode))
        argp_failure(state, EXIT_SETUP, 0, "--fill: %s: not a file that has a size", path);
    else
        return (uint64_t)found.st_size;
    return 0;
}

static void settle_memory(struct argp_state *state, struct line *line)
{
    struct plan *plan = &line->plan;
    uint64_t bytes = line->side.fill ? file_bytes(state, line->side.fill) : 0;

    plan->has_table = line->side.fill != NULL;
    need(state, !line->side.fill || bytes || plan->size,
         "--fill: the file is empty: give a --size");
    plan->page_bytes = line->huge ? (size_t)2 << 20 : PAGE;
    if (!plan->size)
        plan->size = bytes ? bytes : (uint64_t)256 << 20;
    plan->size = (plan->size + plan->page_bytes - 1) / plan->page_bytes * plan->page_bytes;
    if (line->writer_percent)
        plan->writer.rate = plan->writer.rate * (plan->size / PAGE) / 100 + 1;
    if (line->reader_percent)
        plan->reader.rate = plan->reader.rate * (plan->size / PAGE) / 100 + 1;
    need(state, line->side.spoil_page < plan->size / PAGE, "--spoil: there is no such page");
}

void options_settle(struct argp_state *state, struct line *line)
{
    settle_roles(state, line);
    settle_links(state, line);
    settle_tls(state, line);
    settle_memory(state, line);
}
