/* SPDX-License-Identifier: MIT */
/*
 * Lua programs that move while they run: to another process, or another machine. docs/lua-live.md
 * is a walk through it. It is the model for a program that embeds libuserfault-postcopy.
 *
 *     lua-live run [--heap=MIB] [--serve=ADDRESS] [--backend=NAME] SCRIPT [ARGUMENT...]
 *     lua-live receive --listen=ADDRESS [--serve=ADDRESS] [--backend=NAME] [--patience=S]
 *              [--key=FILE]
 *     lua-live send [--rounds=N] [--downtime=MS] [--bandwidth=BYTES] [--patience=S] [--key=FILE]
 *              [--verify] PID ADDRESS
 *
 * ADDRESS: unix:PATH or tcp:HOST:PORT. Who can reach the address of --listen can have this process
 * run what he likes: it is for a directory of one's own, or a network that is trusted; unless
 * both sides have a --key, which encrypts, too: psktool --username=lua-live --pskfile=FILE
 *
 * --bandwidth: bytes a second, in full: 100000000. What is interrupted before the switch did not
 * happen.
 * --verify: the receiver compares a checksum of the heap at the end.
 * --patience: how many seconds to try for a new connection when one breaks behind the switch; 30.
 *
 * run and receive end with the script: 0, or 1 after an error; 10: it has moved; 11: it was lost.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "arrive.h"
#include "interpreter.h"
#include "leave.h"
#include "links.h"
#include "net.h"
#include "server.h"

static struct {
    uint64_t heap_mib, rounds, downtime_ms, patience_s, bandwidth_bytes;
    const char *listen, *serve, *key_file;
    enum uf_backend backend;
    bool verify;
} options = {
    .heap_mib = 1024, .backend = UF_BACKEND_AUTO, .rounds = 5, .patience_s = 30, .key_file = ""};

static struct program program;
static struct uf_postcopy_tls *key; /* of who receives; NULL: none */
static int listener, control;

static int usage(bool wanted)
{
    fprintf(wanted ? stdout : stderr,
            "usage: lua-live run [--heap=MIB] [--serve=ADDRESS] [--backend=NAME] SCRIPT "
            "[ARGUMENT...]\n"
            "       lua-live receive --listen=ADDRESS [--serve=ADDRESS] [--backend=NAME] "
            "[--patience=S] [--key=FILE]\n"
            "       lua-live send [--rounds=N] [--downtime=MS] [--bandwidth=BYTES] "
            "[--patience=S] [--key=FILE] [--verify] PID ADDRESS\n");
    return wanted ? 0 : 2;
}

static int failed(const char *what, int error)
{
    fprintf(stderr, "lua-live: %s: %s\n", what, net_words(error));
    return 1;
}

/* ---- run and receive */

static void *serve_requests(void *arg)
{
    if (options.listen) {
        arrive(listener, options.backend, (unsigned)options.patience_s, key);
        net_unlisten(listener, options.listen);
    }
    leave_serve(control, options.backend, &program, options.serve);
    return arg;
}

/* The thread that migrates, in either direction; this one is the interpreter's. */
static int start_thread(void)
{
    pthread_t thread;

    control = leave_listen(getpid());
    return control < 0 ? control : -pthread_create(&thread, NULL, serve_requests, NULL);
}

static int run_program(void)
{
    bool good;

    server_open(options.serve);
    fprintf(stderr, "lua-live: %d runs it\n", (int)getpid());
    good = interpreter_run(&program, leave_wanted, leave_park);
    server_close();
    errno = 0;
    if (fflush(stdout) || ferror(stdout)) {
        failed("standard output", errno ? -errno : -EIO);
        good = false;
    }
    return good ? 0 : 1;
}

static int run(int argc, char **argv)
{
    int error = arena_map(options.heap_mib << 20);

    if (error)
        return failed("the heap (--heap)", error);
    arena_begin(options.heap_mib << 20);
    if (!interpreter_load(&program, argv[0], argc - 1, argv + 1))
        return 1;
    error = start_thread();
    return error ? failed("a thread for requests", error) : run_program();
}

static int receive(void)
{
    char name[NET_NAME_MAX], why[LINKS_WHY_MAX];
    int error = links_key(options.key_file, true, &key, why), status;

    if (error)
        return failed(why, error);
    listener = net_listen(options.listen);
    if (listener < 0)
        return failed(options.listen, listener);
    net_name(listener, options.listen, name);
    fprintf(stderr, "lua-live: receives at %s\n", name);
    error = start_thread();
    if (error)
        return failed("a thread for the arrival", error);
    arrive_wait(&program);
    status = run_program();
    arrive_end();
    return status;
}

/* ---- send */

static bool number(const char *what, const char *text, uint64_t least, uint64_t most, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && !errno && *ret >= least && *ret <= most)
        return true;
    fprintf(stderr, "lua-live: %s: '%s' is no number from %llu to %llu\n", what, text,
            (unsigned long long)least, (unsigned long long)most);
    return false;
}

/* An abstract socket is found in one's own network namespace only. */
static int nobody_there(pid_t pid, int error)
{
    if (kill(pid, 0) && errno == ESRCH)
        fprintf(stderr, "lua-live: there is no process %d\n", (int)pid);
    else if (error == -EPERM)
        fprintf(stderr, "lua-live: process %d is another user's\n", (int)pid);
    else if (error == -ECONNREFUSED)
        fprintf(stderr,
                "lua-live: process %d is no lua-live, or of another network namespace, where this "
                "command has to run, too\n",
                (int)pid);
    else
        fprintf(stderr, "lua-live: process %d: %s\n", (int)pid, strerror(-error));
    return 1;
}

static int send_away(pid_t pid, const char *to)
{
    struct leave_request request = {.rounds = (uint32_t)options.rounds,
                                    .downtime_ms = (uint32_t)options.downtime_ms,
                                    .patience_s = (uint32_t)options.patience_s,
                                    .verify = options.verify,
                                    .bandwidth_bytes = options.bandwidth_bytes};
    struct leave_reply reply;
    int fd, error;

    if (strlen(to) >= sizeof(request.to))
        return failed(to, -ENAMETOOLONG);
    strcpy(request.to, to);
    if (strlen(options.key_file) >= sizeof(request.key_file))
        return failed(options.key_file, -ENAMETOOLONG);
    strcpy(request.key_file, options.key_file);
    fd = leave_connect(pid);
    if (fd < 0)
        return nobody_there(pid, fd);
    error = net_send(fd, &request, sizeof(request));
    if (!error)
        error = net_recv(fd, &reply, sizeof(reply));
    close(fd);
    if (error)
        return failed("it has ended, or does not listen to you", error);
    printf("%.*s\n", (int)sizeof(reply.text), reply.text);
    return reply.status;
}

/* ---- */

static bool backend_of(const char *name, enum uf_backend *ret)
{
    static const struct {
        const char *name;
        enum uf_backend backend;
    } all[] = {{"auto", UF_BACKEND_AUTO}, {"kernel", UF_BACKEND_KERNEL}, {"user", UF_BACKEND_USER}};

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        if (!strcmp(name, all[i].name)) {
            *ret = all[i].backend;
            return true;
        }
    }
    fprintf(stderr, "lua-live: --backend: '%s' is not auto, kernel or user\n", name);
    return false;
}

static const struct option longs[] = {{"heap", required_argument, NULL, 'h'},
                                      {"listen", required_argument, NULL, 'l'},
                                      {"serve", required_argument, NULL, 's'},
                                      {"backend", required_argument, NULL, 'b'},
                                      {"rounds", required_argument, NULL, 'r'},
                                      {"downtime", required_argument, NULL, 'd'},
                                      {"bandwidth", required_argument, NULL, 'w'},
                                      {"patience", required_argument, NULL, 'p'},
                                      {"key", required_argument, NULL, 'k'},
                                      {"verify", no_argument, NULL, 'v'},
                                      {0}};

static bool take(int option)
{
    switch (option) {
    case 'h':
        return number("--heap", optarg, 1, ARENA_BYTES_MAX >> 20, &options.heap_mib);
    case 'l':
        options.listen = optarg;
        return true;
    case 's':
        options.serve = optarg;
        return true;
    case 'b':
        return backend_of(optarg, &options.backend);
    case 'r':
        return number("--rounds", optarg, 0, 1000000, &options.rounds);
    case 'd':
        return number("--downtime", optarg, 0, 1000000, &options.downtime_ms);
    case 'p':
        return number("--patience", optarg, 0, 86400, &options.patience_s);
    case 'k':
        options.key_file = optarg;
        return true;
    case 'v':
        options.verify = true;
        return true;
    case 'w':
        return number("--bandwidth", optarg, 0, UINT64_MAX, &options.bandwidth_bytes);
    default:
        return false;
    }
}

/* theirs: the options of this command. */
static bool parse(int argc, char **argv, const char *theirs)
{
    int option, which;

    while ((option = getopt_long(argc, argv, "+", longs, &which)) >= 0) {
        if (option != '?' && !strchr(theirs, option)) {
            fprintf(stderr, "lua-live: %s has no option --%s\n", argv[0], longs[which].name);
            return false;
        }
        if (!take(option))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    const bool runs = !strcmp(command, "run"), receives = !strcmp(command, "receive");
    uint64_t pid;

    if (!strcmp(command, "--help"))
        return usage(true);
    if (argc < 2 || !parse(argc - 1, argv + 1, runs ? "hsb" : receives ? "lsbpk" : "rdwpkv"))
        return usage(false);
    argv += 1 + optind;
    argc -= 1 + optind;
    if (runs && argc > 0)
        return run(argc, argv);
    if (receives && argc == 0 && options.listen)
        return receive();
    if (!strcmp(command, "send") && argc == 2 && number("PID", argv[0], 1, INT_MAX, &pid))
        return send_away((pid_t)pid, argv[1]);
    return usage(false);
}
