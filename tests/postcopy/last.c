/* SPDX-License-Identifier: MIT */
/*
 * A sink that fails closes its links when much in them is unread, and TCP then takes back what has
 * not arrived: here the words that say why, for the packet that carries them is lost. They come
 * even so, and whatever signals the program has.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "network.h"
#include "script.h"

#define PAGE     ((size_t)4096)
#define NONSENSE (64 << 10)
#define PATIENCE 60 /* seconds; only a failure takes that long */

static struct network network;
static int fds[2][NETWORK_LINKS]; /* of the script, of the sink */
static struct uf_sink *sink;

static int resume(void *arg, const void *blob, size_t len)
{
    return 0;
}

static void on_tick(int sig)
{
}

/* Of this thread, each ms. */
static void tick(void)
{
    const struct itimerspec often = {{.tv_nsec = 1000000}, {.tv_nsec = 1000000}};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    timer_t timer;

    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    signal(SIGUSR1, on_tick);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &often, NULL))
        abort();
}

static void *run_sink(void *arg)
{
    struct uf_postcopy_links links = {.control = {fds[1][0], fds[1][0]}, .urgent = {-1, -1}};
    static int ret;

    tick();
    ret = uf_sink_run(sink, &links);
    close(fds[1][0]);
    return &ret;
}

/* What follows the first of it is not read. Return: whether words came. */
static bool play(void)
{
    const struct network_cut cut = {.side = 1, .link = 0, .type = WIRE_FAILED, .nth = 1};
    static const uint8_t nonsense[NONSENSE] = {0xff, 0x5a};
    struct pollfd lost = {.fd = network.event_fd, .events = POLLIN};
    struct wire_header header;
    char words[WIRE_WORDS_MAX + 1] = "";
    uint64_t tries;

    script_say(fds[0][0], (struct wire_header){.type = WIRE_HELLO, .offset = 12345}, NULL);
    if (!script_hear(fds[0][0], &header))
        return false;
    network_cut_at(&network, &cut);
    if (send(fds[0][0], nonsense, sizeof(nonsense), MSG_NOSIGNAL) < 0)
        return false;
    while (!network_swallowed(&network, &tries)) {
        if (poll(&lost, 1, PATIENCE * 1000) <= 0)
            return false;
    }
    network_restore(&network);
    if (!script_hear(fds[0][0], &header) || header.type != WIRE_FAILED ||
        header.payload > WIRE_WORDS_MAX ||
        recv(fds[0][0], words, header.payload, MSG_WAITALL) != (ssize_t)header.payload)
        return false;
    printf("# %s\n", words);
    return strstr(words, "control link") != NULL;
}

int main(int argc, char **argv)
{
    const bool wanted[NETWORK_LINKS] = {true};
    struct uf_sink_options how = {.resume = resume};
    int *ends[2] = {fds[0], fds[1]};
    const char *why;
    pthread_t thread;
    bool heard;
    void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    how.backend = argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    signal(SIGPIPE, SIG_IGN);
    why = network_open(&network, &(struct path_how){0}, 1);
    if (why) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    if (memory == MAP_FAILED || network_connect(&network, wanted, 1, ends) ||
        uf_sink_new(&sink, &how) || uf_sink_region(sink, memory, PAGE, PAGE) ||
        pthread_create(&thread, NULL, run_sink, NULL))
        abort();
    heard = play();
    if (!heard)
        perror("# words");
    shutdown(fds[0][0], SHUT_RDWR);
    network_restore(&network);
    pthread_join(thread, NULL);
    printf(
        "%sok 1 - words that were lost with their packet come, though the sink closes all\n1..1\n",
        heard ? "" : "not ");
    close(fds[0][0]);
    uf_sink_free(sink);
    network_close(&network);
    return !heard;
}
