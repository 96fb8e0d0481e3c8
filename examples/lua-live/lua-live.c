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
 * --verify: the receiver compares a checksum of the heap at the end.
 * --patience: how many seconds to try for a new connection when one breaks behind the switch; 30.
 *
 * run and receive end with the script: 0, or 1 after an error; 10: it has moved; 11: it was lost.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
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
    size_t heap_mib;
    const char *listen, *serve, *key_file;
    enum uf_backend backend;
    unsigned rounds, downtime_ms, patience_s;
    uint64_t bandwidth_bytes;
    bool verify;
} options = {
    .heap_mib = 1024, .backend = UF_BACKEND_AUTO, .rounds = 5, .patience_s = 30, .key_file = ""};

static struct program program;
static struct uf_postcopy_tls *key; /* of who receives; NULL: none */
static int listener, control;

static int usage(void)
{
    fprintf(stderr, "usage: lua-live run [--heap=MIB] [--serve=ADDRESS] [--backend=NAME] SCRIPT "
                    "[ARGUMENT...]\n"
                    "       lua-live receive --listen=ADDRESS [--serve=ADDRESS] [--backend=NAME] "
                    "[--patience=S] [--key=FILE]\n"
                    "       lua-live send [--rounds=N] [--downtime=MS] [--bandwidth=BYTES] "
                    "[--patience=S] [--key=FILE] [--verify] PID ADDRESS\n");
    return 2;
}

static int failed(const char *what, int error)
{
    fprintf(stderr, "lua-live: %s: %s\n", what, strerror(-error));
    return 1;
}

/* ---- run and receive */

static void *serve_requests(void *arg)
{
    if (options.listen) {
        arrive(listener, options.backend, options.patience_s, key);
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
    return good ? 0 : 1;
}

static int run(int argc, char **argv)
{
    int error = options.heap_mib ? arena_map(options.heap_mib << 20) : -EINVAL;

    if (error)
        return failed("the heap", error);
    arena_begin(options.heap_mib << 20);
    if (!interpreter_load(&program, argv[0], argc - 1, argv + 1))
        return 1;
    error = start_thread();
    return error ? failed("a thread for requests", error) : run_program();
}

static int receive(void)
{
    char name[NET_NAME_MAX], why[LINKS_WHY_MAX];
    int error = links_key(options.key_file, true, &key, why);

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
    return run_program();
}

/* ---- send */

static int send_away(const char *pid, const char *to)
{
    struct leave_request request = {.rounds = options.rounds,
                                    .downtime_ms = options.downtime_ms,
                                    .patience_s = options.patience_s,
                                    .verify = options.verify,
                                    .bandwidth_bytes = options.bandwidth_bytes};
    struct leave_reply reply;
    int fd = leave_connect(atoi(pid)), error;

    if (fd < 0)
        return failed(pid, fd);
    if (strlen(to) >= sizeof(request.to))
        return failed(to, -ENAMETOOLONG);
    strcpy(request.to, to);
    if (strlen(options.key_file) >= sizeof(request.key_file))
        return failed(options.key_file, -ENAMETOOLONG);
    strcpy(request.key_file, options.key_file);
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
    return false;
}

static bool parse(int argc, char **argv)
{
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
    bool good = true;
    int c;

    while (good && (c = getopt_long(argc, argv, "+", longs, NULL)) >= 0) {
        switch (c) {
        case 'h':
            options.heap_mib = strtoul(optarg, NULL, 10);
            break;
        case 'l':
            options.listen = optarg;
            break;
        case 's':
            options.serve = optarg;
            break;
        case 'b':
            good = backend_of(optarg, &options.backend);
            break;
        case 'r':
            options.rounds = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            options.downtime_ms = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'p':
            options.patience_s = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'k':
            options.key_file = optarg;
            break;
        case 'v':
            options.verify = true;
            break;
        case 'w':
            options.bandwidth_bytes = strtoull(optarg, NULL, 10);
            break;
        default:
            good = false;
        }
    }
    return good;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";

    if (argc < 2 || !parse(argc - 1, argv + 1))
        return usage();
    argv += 1 + optind;
    argc -= 1 + optind;
    if (!strcmp(command, "run") && argc > 0 && !options.listen)
        return run(argc, argv);
    if (!strcmp(command, "receive") && argc == 0 && options.listen)
        return receive();
    if (!strcmp(command, "send") && argc == 2)
        return send_away(argv[0], argv[1]);
    return usage();
}
