/* SPDX-License-Identifier: MIT */
/*
 * The serving side: hellos, requests and what lies in shared memory come from the script. core is
 * played here; whatever it is handed must be private, and lie within the channel's bounds, also
 * when the peer changes everything at that moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../rights.h"
#include "core/remote.h"
#include "fuzz.h"
#include "porter.h"
#include "protocol.h"
#include "served.h"
#include "userfault/abi.h"

#define PEERS 4
#define ID    7u
#define STEPS 64

struct peer {
    struct channel *shared; /* the peer's own mapping; NULL: there is none */
    int socket;
};

static struct peer peers[PEERS];
static struct channel *mapped[STEPS]; /* of all that there were: who hung up may still be served */
static int mapped_count;
static struct script script;
static int hub[2] = {-1, -1}, bell, other;
static ino_t bell_ino;

/* ---- the peer */

static int memory_new(size_t size, unsigned seals)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    MUST(fd >= 0 && ftruncate(fd, (off_t)size) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static int memory_of(uint8_t kind)
{
    switch (kind) {
    case 1:
        return memory_new(sizeof(struct channel), 0);
    case 2:
        return memory_new(sizeof(struct channel), F_SEAL_GROW);
    case 3:
        return memory_new(4096, CHANNEL_SEALS);
    case 4:
        return memory_new(2 * sizeof(struct channel), CHANNEL_SEALS);
    case 5:
        return memory_new(sizeof(struct channel), CHANNEL_SEALS | F_SEAL_WRITE);
    case 6:
        return dup(other);
    default:
        return memory_new(sizeof(struct channel), CHANNEL_SEALS);
    }
}

/* @ret_own: what stays with the peer */
static int socket_of(uint8_t kind, int *ret_own)
{
    int pair[2];

    MUST(socketpair(AF_UNIX, kind % 4 == 1 ? SOCK_DGRAM : SOCK_STREAM, 0, pair) == 0);
    *ret_own = pair[0];
    if (kind % 4 == 2) {
        close(pair[1]);
        pair[1] = dup(other);
    } else if (kind % 4 == 3) {
        close(pair[1]);
        pair[1] = memory_new(4096, 0);
    }
    return pair[1];
}

static void say_hello(struct peer *peer)
{
    uint8_t wrong = script_byte(&script), count = script_byte(&script) % 7;
    struct channel_hello hello[2] = {{CHANNEL_MAGIC, sizeof(struct channel)}};
    size_t size = sizeof *hello;
    uint8_t kind = wrong & 8 ? script_byte(&script) % 8 : 0;
    int own, memory = memory_of(kind);
    unsigned before;
    int socket = socket_of(wrong & 16 ? script_byte(&script) : 0, &own);
    int fds[6] = {memory, socket, wrong & 32 ? other : bell, other, memory, socket};

    if (wrong & 64)
        script_fill(&script, hello, sizeof *hello);
    if (wrong & 128)
        size = script_byte(&script) % sizeof hello;
    served_look(false);
    before = fuzz_hidden_count();
    /* A full hub takes no more. */
    rights_send(hub[1], hello, size, fds, wrong & 3 ? 3 : count % 6, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (kind % 7) { /* memory that could be taken away, or is none */
        served_look(false);
        MUST(fuzz_hidden_count() <= before);
    }
    peer->socket = own;
    peer->shared = mmap(NULL, sizeof *peer->shared, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (peer->shared == MAP_FAILED) {
        peer->shared = NULL;
    } else if (wrong & 8) { /* perhaps smaller than it says */
        munmap(peer->shared, sizeof *peer->shared);
        peer->shared = NULL;
    } else {
        mapped[mapped_count++] = peer->shared;
    }
    close(memory);
    close(socket);
}

/* With the answer to its hello it was sent the end of another pair. */
static void take_end(struct peer *peer)
{
    char byte;
    int end = -1;

    if (peer->socket >= 0 &&
        rights_receive(peer->socket, &byte, 1, &end, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) && end >= 0) {
        close(peer->socket);
        peer->socket = end;
    }
}

static void hang_up(struct peer *peer)
{
    if (peer->socket >= 0)
        close(peer->socket);
    *peer = (struct peer){.socket = -1};
}

static uint32_t request_of(struct script *from)
{
    static const uint32_t known[] = {
        UF_IO_COPY,     UF_IO_ZEROPAGE,     UF_IO_WAKE,   UF_IO_API,      UF_IO_MOVE,
        UF_IO_CONTINUE, UF_IO_WRITEPROTECT, UF_IO_POISON, UF_IO_REGISTER, UF_IO_ACK};
    uint8_t which = script_byte(from);

    return which < 200 ? known[which % (sizeof known / sizeof *known)]
                       : (uint32_t)script_number(from);
}

/* Fields that make sense one by one, and the state that is looked for. */
static void ask(struct peer *peer)
{
    struct channel_lane *lane = &peer->shared->lane[script_byte(&script) % CHANNEL_LANES];
    uint64_t args[CHANNEL_ARGS / 8];
    uint8_t how;

    for (size_t i = 0; i < 5; i++)
        args[i] = script_number(&script);
    lane->op = script_byte(&script) % 6;
    lane->request = request_of(&script);
    lane->flag = script_byte(&script);
    lane->data_len = (uint32_t)script_number(&script);
    memcpy(lane->args, args, 5 * sizeof *args);
    how = script_byte(&script);
    atomic_store(&lane->state,
                 (how & 64 ? CHANNEL_OFFERED : CHANNEL_ASKED) | (how & CHANNEL_SLEEPS));
}

static void scribble(struct peer *peer, struct script *from)
{
    struct channel_lane *lane = &peer->shared->lane[script_byte(from) % CHANNEL_LANES];
    unsigned char bytes[sizeof *lane];
    size_t size = script_fill(from, bytes, script_byte(from) % 192);

    memcpy(lane, bytes, size);
}

static void scribble_all(struct script from)
{
    for (int i = 0; i < PEERS; i++) {
        if (peers[i].shared) {
            scribble(&peers[i], &from);
            peers[i].shared->data[0][0]++;
        }
    }
}

/* ---- core, as the server sees it */

int core_serve_hub(void)
{
    return hub[0];
}

/* What it is apart from a process of its own. */
long porter_receive(struct msghdr *msg)
{
    ssize_t ret = recvmsg(hub[0], msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    return ret < 0 ? -errno : ret;
}

void porter_shunned(void)
{
}

void porter_hold(void)
{
}

void porter_done(void)
{
}

uint32_t core_serve_find(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_ino == bell_ino ? ID : 0;
}

/* That [at, at + len) is of one lane's data: what is marked there is seen here. */
static void check_data(const unsigned char *at, size_t len)
{
    static uint64_t mark;
    bool found = false;

    mark++;
    MUST(len <= CHANNEL_DATA);
    for (int i = 0; i < mapped_count; i++) {
        for (int n = 0; n < CHANNEL_LANES && len >= 8; n++) {
            uint64_t tag = mark << 16 | (uint64_t)(i * CHANNEL_LANES + n);

            memcpy(mapped[i]->data[n], &tag, sizeof tag);
            tag = ~tag;
            memcpy(mapped[i]->data[n] + (len - 8), &tag, len >= 16 ? sizeof tag : 0);
        }
    }
    for (int i = 0; i < mapped_count; i++) {
        for (int n = 0; n < CHANNEL_LANES && len >= 8; n++)
            found |= memcmp(at, mapped[i]->data[n], 8) == 0 &&
                     memcmp(at + len - 8, mapped[i]->data[n] + len - 8, 8) == 0;
    }
    MUST(found || len < 8);
}

long core_serve_ioctl(uint32_t id, unsigned long req, void *arg)
{
    unsigned char before[CHANNEL_ARGS];
    struct uf_io_copy copy;

    MUST(id == ID);
    memcpy(before, arg, sizeof before);
    scribble_all(script);
    MUST(memcmp(before, arg, sizeof before) == 0); /* nothing that the peer can change */
    memcpy(&copy, arg, sizeof copy);
    if ((uint32_t)req == UF_IO_COPY && copy.src) /* 0: EFAULT, as far as that is looked at */
        check_data((const unsigned char *)(uintptr_t)copy.src, copy.len);
    memset(arg, script_byte(&script), CHANNEL_ARGS);
    return -(long)script_byte(&script);
}

long core_serve_copy(uint32_t id, struct uf_io_copy *copy, uint64_t whole)
{
    (void)whole; /* may be anything */
    return core_serve_ioctl(id, UF_IO_COPY, copy);
}

/* Now and then it is asked again, until it is answered. */
long core_serve_ack(uint32_t id, const void *arg, bool again)
{
    unsigned char byte = script_byte(&script);

    MUST(id == ID);
    scribble_all(script);
    return byte % 3 == 1 ? CORE_LATER : again ? 0 : -(long)byte;
}

/* Boards: what is open, and is closed with its channel. */
static bool boards[CORE_BOARDS_MAX];

void core_board_open(uint32_t index, uint32_t id, struct core_board *page)
{
    MUST(index < CORE_BOARDS_MAX && id == ID && page);
    boards[index] = true;
}

/* What was given is read while it is said to be there, also of a channel that ends. */
static void settle(uint32_t index)
{
    unsigned n = script_byte(&script) % CHANNEL_LANES;
    const unsigned char *data = served_given(index, n);

    if (data)
        check_data(data, CHANNEL_PAGE);
    served_gave(index, n);
}

void core_board_settle(uint32_t index)
{
    MUST(index < CORE_BOARDS_MAX);
    settle(index);
}

void core_board_close(uint32_t index)
{
    MUST(index < CORE_BOARDS_MAX);
    if (boards[index])
        settle(index);
    boards[index] = false;
}

bool core_board_offers_left(void)
{
    return script_byte(&script) % 4 == 3;
}

static unsigned there; /* channels that are open */

void core_serve_came(uint32_t id, uint32_t count)
{
    MUST(id == ID && count == there + 1);
    there++;
}

void core_serve_left(uint32_t id, uint32_t reader, uint32_t count)
{
    MUST(id == ID && there > 0 && reader > 0 && count == there - 1);
    there--;
}

long core_serve_due(void)
{
    return -1;
}

long core_serve_read(uint32_t id, uint32_t reader, bool emptied, struct uf_msg *msgs, size_t count,
                     struct core_serve_fork *ret_fork)
{
    size_t got = script_byte(&script) % 20;

    MUST(id == ID && reader > 0);
    ret_fork->bell = -1;
    if (got == 19 && count) {
        *ret_fork = (struct core_serve_fork){.bell = 7, .slot = 8, .word = 9};
        got = 0;
    }
    check_data((unsigned char *)msgs, count * sizeof *msgs);
    got = got < count ? got : count;
    memset(msgs, 0x12, got * sizeof *msgs);
    scribble_all(script);
    return got ? (long)(got * sizeof *msgs) : -EAGAIN;
}

int core_serve_bell(uint32_t id, const struct core_serve_fork *fork)
{
    MUST(id == ID && fork->bell == 7 && fork->slot == 8 && fork->word == 9);
    return script_byte(&script) % 4 ? dup(0) : -EAGAIN;
}

bool core_serve_forked(uint32_t id, uint32_t reader, uint32_t slot, uint32_t word)
{
    MUST(id == ID && reader > 0);
    scribble_all(script);
    return slot == 8 && word == 9;
}

void core_serve_put_back(uint32_t id, uint32_t slot, uint32_t word)
{
    (void)slot;
    (void)word;
    MUST(id == ID);
    scribble_all(script);
}

short core_serve_poll(uint32_t id, bool nonblock)
{
    MUST(id == ID);
    scribble_all(script);
    return nonblock ? POLLIN | POLLRDNORM : POLLERR;
}

void core_serve_emptied(uint32_t id)
{
    MUST(id == ID);
}

void core_serve_poke(void)
{
}

void core_serve_ring(uint32_t id)
{
    MUST(id == ID);
}

void core_serve_wake(uint32_t id)
{
    MUST(id == ID);
}

/* ---- steps */

struct race {
    struct peer *peer;
    struct script script;
    atomic_bool over;
};

static void *race_main(void *arg)
{
    struct race *race = arg;

    while (!atomic_load(&race->over)) {
        struct script from = race->script;

        scribble(race->peer, &from);
    }
    return NULL;
}

/* The peer writes while it is served, at whatever instruction that hits. */
static void serve_racing(struct peer *peer)
{
    struct race race = {.peer = peer, .script = script};
    pthread_t thread;

    MUST(pthread_create(&thread, NULL, race_main, &race) == 0);
    for (int i = 0; i < 20; i++)
        served_all();
    atomic_store(&race.over, true);
    pthread_join(thread, NULL);
}

static void step(void)
{
    uint8_t what = script_byte(&script);
    struct peer *peer = &peers[what / 16 % PEERS];

    switch (what % 12) {
    case 0:
    case 1:
        hang_up(peer);
        say_hello(peer);
        break;
    case 2:
        served_look(false);
        break;
    case 3:
        hang_up(peer);
        break;
    case 4:
        served_set_awake(script_byte(&script) & 1);
        break;
    case 5:
        take_end(peer);
        if (peer->socket >= 0)
            send(peer->socket, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", script_byte(&script) % 32,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 6:
        if (peer->shared)
            scribble(peer, &script);
        break;
    case 7:
        if (peer->shared)
            serve_racing(peer);
        break;
    case 8:
        fuzz_hidden_limit = script_byte(&script) & 1 ? HANDLES : 2;
        break;
    case 9:
    case 10:
        if (peer->shared)
            ask(peer);
        break;
    default:
        if (what & 128) /* a waiter, on a board whose place says that it has something to do */
            served_offered(script_byte(&script) % PEERS, script_byte(&script) % CHANNEL_LANES);
        served_all();
    }
}

static void begin(void)
{
    struct stat st;

    bell = memfd_create("bell", MFD_CLOEXEC);
    other = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    MUST(bell >= 0 && other >= 0 && fstat(bell, &st) == 0);
    bell_ino = st.st_ino;
    for (int i = 0; i < PEERS; i++)
        peers[i].socket = -1;
    served_begin(getppid(), -1);
}

/* Whoever has hung up is forgotten: no descriptor and no mapping stays. */
static void end(int lowest)
{
    char line[256];
    FILE *maps;

    for (int i = 0; i < PEERS; i++)
        hang_up(&peers[i]);
    /* Hellos that were not heard before, what was sent, then that they have hung up. */
    for (int i = 0; i < 3; i++)
        served_look(false);
    while (mapped_count > 0) {
        mapped_count--;
        munmap(mapped[mapped_count], sizeof(struct channel));
    }
    MUST(fuzz_hidden_count() == 0);
    close(hub[0]);
    close(hub[1]);
    MUST(dup(0) == lowest && close(lowest) == 0);
    maps = fopen("/proc/self/maps", "re");
    MUST(maps);
    while (fgets(line, sizeof line, maps))
        MUST(!strstr(line, "memfd:fuzz"));
    fclose(maps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int lowest;

    if (!bell)
        begin();
    lowest = dup(0);
    close(lowest);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, hub) == 0);
    script = (struct script){data, data + size};
    fuzz_hidden_limit = HANDLES;
    for (int i = 0; i < STEPS && script.at < script.end; i++)
        step();
    end(lowest);
    return 0;
}
