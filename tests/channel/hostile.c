/* SPDX-License-Identifier: MIT */
/*
 * A peer that was handed a context's descriptor and sends whatever it likes: the process whose
 * memory it is must lose nothing, and serve the next one.
 *
 * The peer makes its system calls itself, so that no facility is on its side.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"
#include "protocol.h"
#include "sys/call.h"

#define PAGE   4096ul
#define PAGES  64ul
#define ROUNDS 20000

static int uffd;
static char *registered, *secret;
static uint64_t seed = 1;
static atomic_bool wrong;
static atomic_int *heard; /* hellos that were answered */

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* ---- the peer */

static void malformed_hellos(void)
{
    const uint64_t whole = sizeof(struct channel);
    int good = peer_memory(whole, CHANNEL_SEALS), pair[2], other;

    sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    other = (int)sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (size_t count = 0; count < 8; count++)
        peer_say(uffd, CHANNEL_MAGIC, whole,
                 (const int[]){good, pair[1], pair[0], 0, 1, 2, good, good}, count);
    sys_call(SYS_sendto, uffd, "x", 1, 0, NULL, 0);
    sys_call(SYS_sendto, uffd, secret, 3000, 0, NULL, 0);
    peer_say(uffd, 0, whole, (const int[]){good, pair[1], uffd}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole + 1, (const int[]){good, pair[1], uffd}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole, (const int[]){peer_memory(whole, 0), pair[1], uffd}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole,
             (const int[]){peer_memory(whole, F_SEAL_GROW), pair[1], uffd}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole,
             (const int[]){peer_memory(PAGE, CHANNEL_SEALS), pair[1], uffd}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole,
             (const int[]){peer_memory(2 * whole, CHANNEL_SEALS), pair[1], uffd}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole, (const int[]){pair[0], pair[1], uffd}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole, (const int[]){good, pair[1], other}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole, (const int[]){good, pair[1], good}, 3);
    peer_say(uffd, CHANNEL_MAGIC, whole, (const int[]){good, good, uffd},
             3); /* no socket to hang up */
}

/*
 * Whatever is asked is about no page that is registered, or it would be within a manager's rights.
 */
static void random_requests(void)
{
    static const uint32_t requests[] = {UFFDIO_COPY,     UFFDIO_ZEROPAGE,     UFFDIO_WAKE,
                                        UFFDIO_CONTINUE, UFFDIO_WRITEPROTECT, UFFDIO_API,
                                        0xaa77,          0xffffffff,          0};
    struct channel *shared;
    int socket;

    shared = peer_open(uffd, &socket);
    for (int i = 0; shared && i < ROUNDS; i++) {
        struct channel_lane *lane = &shared->lane[draw() % CHANNEL_LANES];
        uint64_t args[CHANNEL_ARGS / 8];

        for (size_t n = 0; n < CHANNEL_ARGS / 8; n++) {
            args[n] = draw() >> draw() % 64;
            if (draw() % 4 == 0) /* of the program's memory, but none that is registered */
                args[n] = (uintptr_t)secret + draw() % PAGES * PAGE;
        }
        memcpy(lane->args, args, sizeof args);
        lane->op = (uint32_t)(draw() % 6);
        lane->request = requests[draw() % (sizeof requests / sizeof *requests)];
        lane->flag = (uint32_t)draw();
        lane->data_len = (uint32_t)draw();
        atomic_store(&shared->head.awake, (uint32_t)draw() % 2);
        atomic_store(&lane->state, draw() % 4 ? CHANNEL_ASKED : (uint32_t)draw());
        sys_call(SYS_sendto, socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
        if (draw() % 64 == 0)
            sys_call(SYS_sched_yield);
    }
    sys_call(SYS_kill, sys_call(SYS_getpid), SIGKILL);
}

/* A place's word: any, or as it is but for its state, which may say that a lane is to be looked at.
 */
static void scribble_place(struct core_place *place)
{
    uint32_t word = atomic_load(&place->word);

    place->ticket = draw() % 4 ? place->ticket : draw();
    if (draw() % 4 == 0)
        place->msg.arg.pagefault.address = draw();
    if (draw() % 3)
        word = (word & ~(uint32_t)(PLACE_GENERATION - 1)) | (uint32_t)(draw() % PLACE_GENERATION);
    else
        word = (uint32_t)draw();
    atomic_store(&place->word, word);
    if (draw() % 2)
        sys_call(SYS_futex, &place->word, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
}

/* What the peer may well give for a page that somebody waits for, as by UFFDIO_COPY. */
#define GIFT 2

/* Beside threads that wait for faults, until it is killed. */
static void scribbled_board(void)
{
    struct channel *shared;
    int socket;

    shared = peer_open(uffd, &socket);
    for (int i = 0; shared && i < CHANNEL_LANES; i++)
        memset(shared->data[i], GIFT, PAGE);
    while (shared) {
        struct channel_lane *lane = &shared->lane[draw() % CHANNEL_LANES];
        uint64_t args[] = {(uintptr_t)secret + draw() % PAGES * PAGE, draw(), PAGE, 0, 0};

        for (int i = 0; i < 8; i++)
            scribble_place(&shared->board.place[draw() % 8]);
        atomic_store(&shared->board.top, (uint32_t)draw());
        atomic_store(&shared->board.more, (uint32_t)draw() % 2);
        atomic_store(&shared->board.unheard, draw() % 8 ? 0 : draw());
        atomic_store(&shared->board.spin_until, draw() % 8 ? 0 : draw());
        memcpy(lane->args, args, sizeof args);
        lane->op = (uint32_t)(draw() % 6);
        lane->request = draw() % 2 ? UFFDIO_COPY : UFFDIO_WRITEPROTECT;
        lane->data_len = (uint32_t)draw();
        atomic_store(&lane->state, draw() % 4 ? CHANNEL_OFFERED : (uint32_t)draw());
        if (draw() % 16 == 0)
            sys_call(SYS_sendto, socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
        if (draw() % 64 == 0)
            sys_call(SYS_sched_yield);
    }
}

static void nothing(void)
{
}

/* As many as are allowed, and more. */
static void many_channels(void)
{
    int socket;

    for (int i = 0; i < 300; i++)
        peer_open(uffd, &socket);
}

#define STRANGERS 500

/*
 * Who has no descriptor of a context, but knows the hub's name, sends what might be hellos, with
 * descriptors and without; and between them is a manager's.
 */
static void strangers(void)
{
    const uint64_t whole = sizeof(struct channel);
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    int memory = peer_memory(whole, CHANNEL_SEALS), stranger, socket, pair[2];

    sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    stranger = (int)sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sys_call(SYS_getpeername, uffd, &name, &len);
    sys_call(SYS_connect, stranger, &name, len);
    for (int i = 0; i < STRANGERS; i++) {
        peer_say(stranger, CHANNEL_MAGIC, whole, (const int[]){memory, pair[1], uffd},
                 draw() % 4 ? 3 : 0);
        if (i % 100 == 50 && peer_open(uffd, &socket))
            atomic_fetch_add(heard, 1);
    }
}

/* ---- the program */

static int open_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 4096; fd++)
        count += sys_call(SYS_fcntl, fd, F_GETFD, 0) >= 0; /* those that are hidden, too */
    return count;
}

static void check(int ok, const char *what)
{
    static int number;

    printf("%s %d - %s\n", ok ? "ok" : "not ok", ++number, what);
    fflush(stdout);
    if (!ok)
        exit(1);
}

static int copy_page(size_t page)
{
    struct uffdio_copy copy = {
        .dst = (uintptr_t)registered + page * PAGE, .src = (uintptr_t)secret, .len = PAGE};

    return ioctl(uffd, UFFDIO_COPY, &copy) ? -errno : 0;
}

/* Nothing of the program was read out or written to, and it is still served. */
static void check_well(const char *what, size_t page, int before)
{
    clock_t limit = clock() + 20 * CLOCKS_PER_SEC;
    pid_t child;
    int status, same = 1;

    for (size_t i = 0; i < PAGES * PAGE; i++)
        same &= secret[i] == (char)(i / PAGE + 1);
    check(same, what);
    child = fork();
    if (child == 0)
        _exit(copy_page(page) ? 1 : 0);
    check(waitpid(child, &status, 0) == child && status == 0, "another process is served");
    check(copy_page(page) == -EEXIST && registered[page * PAGE] == 1, "and has filled the page");
    while (open_descriptors() > before && clock() < limit)
        sched_yield(); /* those who hung up are noticed by the server */
    check(open_descriptors() <= before, "no descriptor is left");
}

/* Somebody kills the server, and nobody else. */
static void kill_server(void)
{
    int pid = server_pid();
    bool found = pid && kill(pid, SIGKILL) == 0;

    while (found && waitid(P_PID, (id_t)pid, NULL, WEXITED | WNOWAIT | __WCLONE) < 0 &&
           errno == EINTR) {
    }
    check(found, "the server was found");
}

static void attack(void (*peer)(void))
{
    pid_t child = fork();

    if (child == 0) {
        peer();
        sys_call(SYS_exit_group, 0);
    }
    waitpid(child, NULL, 0);
}

#define TOUCHED 8 /* the first of the pages that threads touch; each is of one thread */
#define TOUCHES 4

static void *touch_main(void *arg)
{
    const char *first = arg;

    /* The last byte: messages that the peer has asked for lie before it, and are given, too. */
    for (size_t i = 1; i <= TOUCHED; i++)
        wrong |= first[i * PAGE - 1] != 1 && first[i * PAGE - 1] != GIFT;
    return NULL;
}

/* Who waits gets its pages all the same, from the program or from another manager. */
static void attack_waiters(void)
{
    pthread_t threads[TOUCHES];
    pid_t peer = fork(), other;
    int status;

    if (peer == 0)
        scribbled_board();
    for (size_t i = 0; i < TOUCHES; i++)
        pthread_create(&threads[i], NULL, touch_main, registered + TOUCHED * (i + 1) * PAGE);
    for (size_t n = 0; n < TOUCHED; n++) {
        for (int i = 0; i < 200; i++)
            sched_yield(); /* the peer has some time to do its worst */
        other = fork();
        if (other == 0) {
            for (size_t i = 2; i <= TOUCHES; i++)
                copy_page(TOUCHED * i + n);
            _exit(0);
        }
        copy_page(TOUCHED + n);
        waitpid(other, &status, 0);
    }
    for (size_t i = 0; i < TOUCHES; i++)
        pthread_join(threads[i], NULL);
    kill(peer, SIGKILL);
    waitpid(peer, &status, 0);
    check(!wrong, "who waits beside a scribbled board is served");
}

int main(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    int before;

    printf("1..27\n");
    heard = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    secret = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    registered =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < PAGES; i++)
        memset(secret + i * PAGE, (int)i + 1, PAGE);
    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    reg.range.start = (uintptr_t)registered;
    reg.range.len = PAGES * PAGE;
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
        return 1;
    attack(nothing); /* which begins the server */
    before = open_descriptors();
    attack(malformed_hellos);
    check_well("malformed hellos", 0, before);
    attack(random_requests);
    check_well("random requests", 1, before);
    attack(many_channels);
    check_well("more channels than are served", 2, before);
    attack(strangers);
    check_well("strangers without end", 5, before);
    check(atomic_load(heard) == STRANGERS / 100, "who comes between them is heard");
    attack_waiters();
    check_well("a scribbled board", 4, before);
    kill_server();
    check_well("the server killed by itself", 3, before);
    return 0;
}
