/* SPDX-License-Identifier: MIT */
/*
 * Migrations inside TLS, good ones and such that must not be: what goes by is read by a relay,
 * which must not find the memory in it, and who is refused must not have got any.
 *
 *     source (thread) --- relay (thread) --- sink (thread)
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#define PAGE  ((size_t)4096)
#define PAGES ((size_t)300)
#define LINKS 4
#define MARK  "this is what a page of the region holds " /* and goes on so */

enum { ANY = 1 }; /* an error, whichever */

struct credentials {
    const char *ca, *cert, *host, *psk, *identity; /* all NULL: plain */
    const char *crl;                               /* of this side's; NULL: none */
};

struct expected {
    int source, sink; /* what each side returns */
};

#define CLIENT                                                                                     \
    {                                                                                              \
        .ca = "ca.pem", .cert = "client", .host = "host.test"                                      \
    }
#define SERVER                                                                                     \
    {                                                                                              \
        .ca = "ca.pem", .cert = "server"                                                           \
    }
#define KEY                                                                                        \
    {                                                                                              \
        .psk = "psk", .identity = "migration"                                                      \
    }
#define REFUSED (-EKEYREJECTED)

/* The source is the client, unless it says otherwise. */
static const struct test {
    const char *name;
    struct credentials client, server;
    struct expected expected;
    bool swapped, pipes;
    uint64_t cut;                          /* after so many bytes; 0: never */
    const char *client_says, *server_says; /* in its words; NULL: whatever */
    int days;                              /* that the client's clock goes ahead */
} tests[] = {
    {"certificates", CLIENT, SERVER, {0, 0}},
    {"certificates, the sink is the client", CLIENT, SERVER, {0, 0}, .swapped = true},
    {"certificates, over pipes", CLIENT, SERVER, {0, 0}, .pipes = true},
    {"certificates, the server wants the client's name, too",
     CLIENT,
     {.ca = "ca.pem", .cert = "server", .host = "client.test"},
     {0, 0}},
    {"a key", KEY, KEY, {0, 0}},
    {"a key, the sink is the client, over pipes", KEY, KEY, {0, 0}, .swapped = true, .pipes = true},
    {"the server's certificate is of another authority",
     CLIENT,
     {.ca = "ca.pem", .cert = "foreign"},
     {REFUSED, REFUSED},
     .client_says = "signed by \"CN=authority other\", who is not in this side's file",
     .server_says = "the other side refuses this side's certificate: who signed it is not in the "
                    "file of authorities there"},
    {"the client's certificate is of another authority",
     {.ca = "ca.pem", .cert = "foreign", .host = "host.test"},
     SERVER,
     {REFUSED, REFUSED},
     .client_says = "none was shown, as who signed it is not in the file",
     .server_says = "the other side shows no certificate"},
    {"the client's certificate is of another authority, the sink is the client",
     {.ca = "ca.pem", .cert = "foreign", .host = "host.test"},
     SERVER,
     {REFUSED, REFUSED},
     .swapped = true},
    {"the server's certificate is of another host",
     {.ca = "ca.pem", .cert = "client", .host = "elsewhere.test"},
     SERVER,
     {REFUSED, REFUSED},
     .client_says = "is of \"host.test\", and here \"elsewhere.test\" is expected",
     .server_says =
         "the other side refuses this side's certificate: another name is expected there"},
    {"the client's certificate is of another host",
     CLIENT,
     {.ca = "ca.pem", .cert = "server", .host = "elsewhere.test"},
     {REFUSED, REFUSED},
     .client_says =
         "the other side refuses this side's certificate: another name is expected there",
     .server_says = "is of \"client.test\", and here \"elsewhere.test\" is expected"},
    {"the server's certificate has expired",
     CLIENT,
     {.ca = "ca.pem", .cert = "old"},
     {REFUSED, REFUSED},
     .client_says = "the other side's certificate has expired (2002-01-01): it needs a new one",
     .server_says =
         "refuses this side's certificate: it has expired (2002-01-01), and needs a new one"},
    {"the client's certificate has expired, and is for servers",
     {.ca = "ca.pem", .cert = "old", .host = "host.test"},
     SERVER,
     {REFUSED, REFUSED},
     .client_says = "refuses this side's certificate: it has expired (2002-01-01)",
     .server_says = "has expired (2002-01-01): it needs a new one; it is not for TLS clients"},
    {"the server's certificate is not valid yet",
     CLIENT,
     {.ca = "ca.pem", .cert = "early"},
     {REFUSED, REFUSED},
     .client_says = "certificate is valid from 2101-01-01 on: is a clock wrong?",
     .server_says = "the other side refuses this side's certificate: it is valid from 2101-01-01 "
                    "on: is a clock wrong?"},
    {"the client's certificate is not valid yet",
     {.ca = "ca.pem", .cert = "early", .host = "host.test"},
     SERVER,
     {REFUSED, REFUSED},
     .client_says = "the other side refuses this side's certificate: it is valid from 2101-01-01 "
                    "on: is a clock wrong?",
     .server_says = "the other side's certificate is valid from 2101-01-01 on: is a clock wrong?"},
    {"the client's certificate is not valid yet, and the server wants another name",
     {.ca = "ca.pem", .cert = "early", .host = "host.test"},
     {.ca = "ca.pem", .cert = "server", .host = "elsewhere.test"},
     {REFUSED, REFUSED},
     .client_says = "it is valid from 2101-01-01 on",
     .server_says = "is valid from 2101-01-01 on: is a clock wrong?; it is of \"host.test\", and "
                    "here \"elsewhere.test\" is expected"},
    {"the client's clock is a week ahead",
     CLIENT,
     SERVER,
     {REFUSED, REFUSED},
     .client_says = "the other side's certificate has expired",
     .server_says = "by the clock there it has expired, or is not valid yet",
     .days = 7},
    {"the client's clock is a week behind",
     CLIENT,
     SERVER,
     {REFUSED, REFUSED},
     .client_says = "on: is a clock wrong?",
     .server_says = "by the clock there it has expired, or is not valid yet",
     .days = -7},
    {"nobody is revoked",
     {.ca = "ca.pem", .cert = "client", .host = "host.test", .crl = "crl"},
     {.ca = "ca.pem", .cert = "server", .crl = "crl"},
     {0, 0}},
    {"the server's certificate is revoked",
     {.ca = "ca.pem", .cert = "client", .host = "host.test", .crl = "crl"},
     {.ca = "ca.pem", .cert = "revoked"},
     {REFUSED, REFUSED},
     .client_says = "the other side's certificate has been revoked",
     .server_says = "the other side refuses this side's certificate: it has been revoked"},
    {"the client's certificate is revoked",
     {.ca = "ca.pem", .cert = "revoked", .host = "host.test"},
     {.ca = "ca.pem", .cert = "server", .crl = "crl"},
     {REFUSED, REFUSED},
     .client_says = "the other side refuses this side's certificate: it has been revoked",
     .server_says = "the other side's certificate has been revoked"},
    {"it is revoked, and the server has no list",
     {.ca = "ca.pem", .cert = "revoked", .host = "host.test"},
     SERVER,
     {0, 0}},
    {"the server's certificate is for clients",
     {.ca = "ca.pem", .cert = "client", .host = "client.test"},
     {.ca = "ca.pem", .cert = "client"},
     {REFUSED, REFUSED},
     .client_says = "is not for TLS servers",
     .server_says = "the other side refuses this side's certificate: it is not for TLS servers"},
    {"another key of the same name",
     {.psk = "psk-other", .identity = "migration"},
     KEY,
     {REFUSED, REFUSED},
     .client_says = "it has another key for \"migration\", or none; both need the same line",
     .server_says = "the other side has another key for \"migration\"; both need the same line"},
    {"a key that the server does not know",
     {.psk = "psk-stranger", .identity = "stranger"},
     KEY,
     {REFUSED, REFUSED},
     .client_says = "it has another key for \"stranger\", or none; both need the same line",
     .server_says = "names the key of \"stranger\", which is not in this side's file of keys"},
    {"a key against certificates",
     KEY,
     SERVER,
     {ANY, ANY},
     .client_says = "one side has a key and the other one certificates",
     .server_says = "perhaps one side has a key"},
    {"the client speaks plain",
     {0},
     SERVER,
     {ANY, ANY},
     .server_says = "the other side does not speak TLS: both sides need it"},
    {"the server speaks plain",
     CLIENT,
     {0},
     {ANY, ANY},
     .server_says = "the other side speaks TLS on the control link"},
    {"cut off while hands are shaken", CLIENT, SERVER, {ANY, ANY}, .cut = 500},
    {"cut off while pages come",
     CLIENT,
     SERVER,
     {ANY, -ECONNABORTED},
     .pipes = true,
     .cut = 400000},
    {"plain, as a proof that the relay reads", {0}, {0}, {0, 0}},
};

static enum uf_backend backend;
static const char *dir;
static int points, failed;

static void point(bool ok, const char *name, const char *what)
{
    printf("%sok %d - %s: %s\n", ok ? "" : "not ", ++points, name, what);
    failed |= !ok;
}

/* ---- the relay */

struct relay {
    int from[2 * LINKS], to[2 * LINKS]; /* each way of each link */
    uint64_t cut, bytes;
    bool found; /* the memory, in what went by */
};

static bool contains(const char *bytes, size_t len)
{
    return memmem(bytes, len, MARK, sizeof(MARK) - 1) != NULL;
}

static void close_way(struct relay *relay, int way)
{
    shutdown(relay->to[way], SHUT_WR); /* of a socket there is a second number */
    close(relay->from[way]);
    close(relay->to[way]);
    relay->from[way] = relay->to[way] = -1;
}

/* Return: false: it is over. */
static bool pass_on(struct relay *relay, int way)
{
    char bytes[65536];
    ssize_t n = read(relay->from[way], bytes, sizeof(bytes)), m;

    if (n <= 0)
        return false;
    if (relay->cut && relay->bytes + (uint64_t)n > relay->cut)
        n = (ssize_t)(relay->cut - relay->bytes);
    relay->bytes += (uint64_t)n;
    relay->found |= contains(bytes, (size_t)n);
    for (ssize_t at = 0; at < n; at += m) {
        m = write(relay->to[way], bytes + at, (size_t)(n - at));
        if (m < 0)
            return false;
    }
    return !relay->cut || relay->bytes < relay->cut;
}

static void *run_relay(void *arg)
{
    struct relay *relay = arg;
    struct pollfd fds[2 * LINKS];
    int open = 2 * LINKS;

    while (open > 0) {
        for (int i = 0; i < 2 * LINKS; i++)
            fds[i] = (struct pollfd){.fd = relay->from[i], .events = POLLIN};
        if (poll(fds, 2 * LINKS, -1) < 0)
            abort();
        for (int i = 0; i < 2 * LINKS; i++) {
            if (fds[i].fd < 0 || !fds[i].revents || pass_on(relay, i))
                continue;
            close_way(relay, i);
            open--;
            for (int way = 0; way < 2 * LINKS && relay->cut && relay->bytes >= relay->cut; way++) {
                open -= relay->from[way] >= 0;
                close_way(relay, way);
            }
        }
    }
    return NULL;
}

/* ---- the sides */

struct side {
    struct uf_postcopy_links links;
    struct uf_postcopy_tls *tls;
    char *memory;
    struct uf_source *source;
    struct uf_sink *sink;
    pthread_t thread;
    int ret, days;
    bool resumed;
};

/* GnuTLS asks for the time in the thread of the side. */
static __thread int days_ahead;

static time_t shifted(time_t *ret)
{
    time_t now = time(NULL) + (time_t)days_ahead * 86400;

    if (ret)
        *ret = now;
    return now;
}

static void shift_clock(void)
{
    void (*set)(time_t(*)(time_t *)) = NULL;

    *(void **)&set = dlsym(RTLD_DEFAULT, "gnutls_global_set_time_function");
    if (set)
        set(shifted);
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    *ret_blob = MARK;
    *ret_len = sizeof(MARK);
    return 0;
}

static int resume(void *arg, const void *blob, size_t len)
{
    struct side *side = arg;

    side->resumed = len == sizeof(MARK) && !memcmp(blob, MARK, len);
    return side->resumed ? 0 : -EBADMSG;
}

static void close_links(struct uf_postcopy_links *links)
{
    struct uf_postcopy_link *all[LINKS] = {&links->control, &links->urgent, &links->background[0],
                                           &links->background[1]};

    for (int i = 0; i < LINKS; i++) {
        close(all[i]->in);
        if (all[i]->out != all[i]->in)
            close(all[i]->out);
    }
}

static void *run_side(void *arg)
{
    struct side *side = arg;

    days_ahead = side->days;
    side->ret = side->source ? uf_source_run(side->source, &side->links)
                             : uf_sink_run(side->sink, &side->links);
    close_links(&side->links);
    return NULL;
}

static struct uf_postcopy_tls *load(const struct credentials *c, bool server)
{
    char ca[256], cert[256], key[256], psk[256], crl[256];
    struct uf_postcopy_tls_options options = {.server = server, .host = c->host};
    struct uf_postcopy_tls *tls;
    const char *words = "";
    int ret;

    snprintf(ca, sizeof(ca), "%s/%s", dir, c->ca ? c->ca : "");
    snprintf(cert, sizeof(cert), "%s/%s.pem", dir, c->cert ? c->cert : "");
    snprintf(key, sizeof(key), "%s/%s.key", dir, c->cert ? c->cert : "");
    snprintf(psk, sizeof(psk), "%s/%s", dir, c->psk ? c->psk : "");
    snprintf(crl, sizeof(crl), "%s/%s.pem", dir, c->crl ? c->crl : "");
    if (!c->ca && !c->psk)
        return NULL;
    if (c->ca) {
        options.ca_file = ca;
        options.cert_file = cert;
        options.key_file = key;
        options.crl_file = c->crl ? crl : NULL;
    } else {
        options.psk_file = psk;
        options.psk_identity = server ? NULL : c->identity;
    }
    ret = uf_postcopy_tls_new(&tls, &options, &words);
    if (ret) {
        printf("Bail out! credentials: %s (%s)\n", strerror(-ret), words);
        exit(1);
    }
    return tls;
}

static void connect_side(struct side *side, struct relay *relay, int index, bool pipes)
{
    struct uf_postcopy_link *all[LINKS] = {&side->links.control, &side->links.urgent,
                                           &side->links.background[0], &side->links.background[1]};

    side->links.background_count = 2;
    for (int i = 0; i < LINKS; i++) {
        int in[2], out[2];

        if (pipes ? pipe(in) || pipe(out) : socketpair(AF_UNIX, SOCK_STREAM, 0, in))
            abort();
        if (!pipes) { /* one socket, each end under two numbers at the relay's */
            out[0] = dup(in[1]);
            out[1] = in[0];
        }
        *all[i] = (struct uf_postcopy_link){in[0], out[1]};
        relay->to[2 * i + !index] = in[1]; /* way 0 of a link: from the source, of side 0 */
        relay->from[2 * i + index] = out[0];
    }
}

static char *map(bool filled)
{
    char *memory =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        abort();
    for (size_t at = 0; filled && at + sizeof(MARK) < PAGES * PAGE; at += sizeof(MARK) - 1)
        memcpy(memory + at, MARK, sizeof(MARK));
    return memory;
}

static void make_sides(struct side sides[2], const struct test *test)
{
    struct uf_source_options source = {.backend = backend, .stop = stop, .rounds_max = 1};
    struct uf_sink_options sink = {.backend = backend, .resume = resume, .arg = &sides[1]};

    for (int i = 0; i < 2; i++) {
        bool server = test->swapped ? i == 0 : i == 1;

        sides[i].memory = map(i == 0);
        sides[i].days = server ? 0 : test->days;
        sides[i].tls = load(server ? &test->server : &test->client, server);
        sides[i].links.tls = sides[i].tls;
    }
    if (uf_source_new(&sides[0].source, &source) ||
        uf_source_region(sides[0].source, sides[0].memory, PAGES * PAGE, PAGE) ||
        uf_sink_new(&sides[1].sink, &sink) ||
        uf_sink_region(sides[1].sink, sides[1].memory, PAGES * PAGE, PAGE))
        abort();
}

static bool says(const struct side *side, const char *words)
{
    return !words ||
           strstr(side->source ? uf_source_error(side->source) : uf_sink_error(side->sink), words);
}

static bool as_expected(int ret, int expected)
{
    return expected == ANY ? ret < 0 : ret == expected;
}

/* What was refused has moved nothing; what was cut, not all. */
static bool kept(const struct side sides[2], const struct test *test)
{
    if (test->expected.sink == 0)
        return sides[1].resumed && !memcmp(sides[0].memory, sides[1].memory, PAGES * PAGE);
    if (test->cut > 100000)
        return true;
    return !sides[1].resumed && !uf_source_switched(sides[0].source) &&
           !contains(sides[1].memory, PAGES * PAGE);
}

/* Return: false: the backend is not to be had here. */
static bool run(const struct test *test)
{
    struct side sides[2] = {{.links = {{0}}}, {.links = {{0}}}};
    struct relay relay = {.cut = test->cut};
    bool plain = !test->client.ca && !test->client.psk && !test->server.ca;
    pthread_t thread;

    make_sides(sides, test);
    for (int i = 0; i < 2; i++)
        connect_side(&sides[i], &relay, i, test->pipes);
    if (pthread_create(&thread, NULL, run_relay, &relay))
        abort();
    for (int i = 0; i < 2; i++) {
        if (pthread_create(&sides[i].thread, NULL, run_side, &sides[i]))
            abort();
    }
    for (int i = 0; i < 2; i++)
        pthread_join(sides[i].thread, NULL);
    pthread_join(thread, NULL);
    if (sides[0].ret == -EPERM || sides[1].ret == -EPERM || sides[1].ret == -ENOSYS) {
        printf("1..0 # SKIP the backend is not to be had here\n");
        return false;
    }
    if (sides[0].ret || sides[1].ret)
        printf("# source %d: %s\n# sink %d: %s\n", sides[0].ret, uf_source_error(sides[0].source),
               sides[1].ret, uf_sink_error(sides[1].sink));
    point(as_expected(sides[0].ret, test->expected.source) &&
              as_expected(sides[1].ret, test->expected.sink),
          test->name, test->expected.sink ? "refused" : "moves");
    if (test->client_says || test->server_says)
        point(says(&sides[test->swapped], test->client_says) &&
                  says(&sides[!test->swapped], test->server_says),
              test->name, "both sides say why");
    point(kept(sides, test), test->name, "the memory is where it should be");
    point(relay.found == plain, test->name, "what can be read on the way");
    uf_source_free(sides[0].source);
    uf_sink_free(sides[1].sink);
    for (int i = 0; i < 2; i++) {
        uf_postcopy_tls_free(sides[i].tls);
        munmap(sides[i].memory, PAGES * PAGE);
    }
    return true;
}

static void check_options(void)
{
    static const struct uf_postcopy_tls_options wrong[] = {
        {0},
        {.ca_file = "/nowhere", .cert_file = "/nowhere", .key_file = "/nowhere"}, /* no host */
        {.psk_file = "/nowhere"},                                                 /* no identity */
        {.psk_file = "/nowhere", .ca_file = "/nowhere", .psk_identity = "x"},
        {.ca_file = "/nowhere", .cert_file = "/nowhere", .key_file = "/nowhere", .server = true},
        {.psk_file = "/nowhere", .server = true},
        {.psk_file = "/nowhere", .server = true, .crl_file = "/nowhere"},
    };
    const int errors[] = {-EINVAL, -EINVAL, -EINVAL, -EINVAL, -ENOENT, -ENOENT, -EINVAL};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct uf_postcopy_tls *tls = NULL;
        const char *words = NULL;
        int ret = uf_postcopy_tls_new(&tls, &wrong[i], &words);

        point(ret == errors[i] && words && *words && !tls, "options", words ? words : "no words");
    }
}

/* A list that says nothing of whom is met here is no list. */
static void check_lists(void)
{
    static const struct {
        const char *name, *says;
        int error;
    } lists[] = {{"crl.pem", NULL, 0},
                 {"crl-old.pem", "or is out of date", -EINVAL},
                 {"crl-other.pem", "signed by nobody in the file of authorities", -EINVAL},
                 {"ca.pem", "no list", -EINVAL},
                 {"nowhere", "cannot be read", -ENOENT}};

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        char ca[256], cert[256], key[256], crl[256];
        const struct uf_postcopy_tls_options options = {
            .server = true, .ca_file = ca, .cert_file = cert, .key_file = key, .crl_file = crl};
        struct uf_postcopy_tls *tls = NULL;
        const char *words = "";
        int ret;

        snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
        snprintf(cert, sizeof(cert), "%s/server.pem", dir);
        snprintf(key, sizeof(key), "%s/server.key", dir);
        snprintf(crl, sizeof(crl), "%s/%s", dir, lists[i].name);
        ret = uf_postcopy_tls_new(&tls, &options, &words);
        point(ret == lists[i].error && (!ret || strstr(words, lists[i].says)), "a list",
              ret ? words : "is taken");
        if (ret == 0)
            uf_postcopy_tls_free(tls);
    }
}

/* Nobody shakes its hand. */
static void check_canceled(void)
{
    struct side sides[2] = {{.links = {{0}}}, {.links = {{0}}}};
    struct relay relay = {.cut = 0};

    make_sides(sides, &tests[0]);
    for (int i = 0; i < 2; i++)
        connect_side(&sides[i], &relay, i, false);
    uf_source_cancel(sides[0].source);
    run_side(&sides[0]);
    close_links(&sides[1].links);
    for (int i = 0; i < 2 * LINKS; i++) {
        close(relay.from[i]);
        close(relay.to[i]);
    }
    point(sides[0].ret == -ECANCELED && !uf_source_switched(sides[0].source) &&
              says(&sides[0], "canceled"),
          "canceled while hands are shaken", "and it says so");
    uf_source_free(sides[0].source);
    uf_sink_free(sides[1].sink);
    for (int i = 0; i < 2; i++) {
        uf_postcopy_tls_free(sides[i].tls);
        munmap(sides[i].memory, PAGES * PAGE);
    }
}

int main(int argc, char **argv)
{
    struct uf_postcopy_tls_options none = {.server = true};
    const char *words;
    struct uf_postcopy_tls *tls;

    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3)
        return 2;
    backend = !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    dir = argv[2];
    if (uf_postcopy_tls_new(&tls, &none, &words) == -EOPNOTSUPP) {
        printf("1..0 # SKIP %s\n", words);
        return 0;
    }
    shift_clock();
    check_options();
    check_lists();
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (!run(&tests[i]))
            return 0;
    }
    check_canceled();
    printf("1..%d\n", points);
    return failed;
}
