/* SPDX-License-Identifier: MIT */
/*
 * The asking side: a manager's calls, and a thread that plays the other process and answers what
 * the script says. Whatever comes back must be what the kernel could have answered, in the
 * program's memory only what the call writes, and soon.
 *
 *     1 byte       how much of the input are the manager's calls
 *     calls, then what is answered
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../rights.h"
#include "core/call.h"
#include "core/core.h"
#include "core/pagemap.h"
#include "core/remote.h"
#include "fuzz.h"
#include "porter.h"
#include "local.h"
#include "protocol.h"
#include "wire.h"

#define CALLS   6
#define FDS_TOP 64
#define SOURCE  (3 * (size_t)CHANNEL_DATA)
#define GUARD   0xa5

static int hub[2]; /* [0] is the bell, which leads to the other process's [1] */
static int remote_of_fd[FDS_TOP];
static uint32_t name; /* of the bell: a new one for each input */
static unsigned char *source;
static unsigned char *out_start, *out_end; /* what the call may write to */

/* What the other process sends for a bell is the end of a pair. */
static bool bell_like(int fd)
{
    struct stat st, bell;

    return fstat(fd, &st) == 0 && fstat(hub[1], &bell) == 0 && st.st_ino == bell.st_ino;
}

/* ---- core, as the asker sees it */

bool core_bell_name(int fd, struct core_bell *ret)
{
    ret->len = sizeof name;
    memcpy(ret->path, &name, sizeof name);
    return fd == hub[0] || bell_like(fd);
}

/* Descriptors that came over the channel and are the program's, unless they are closed again. */
static bool arrived[FDS_TOP];

/* Which arguments it looks at first is core's. */
long core_gone_ioctl(uint32_t request, void *args)
{
    (void)args;
    return request == UF_IO_WAKE ? 0 : -ESRCH;
}

void core_fd_arrived(int fd)
{
    MUST(fd >= 0 && fd < FDS_TOP && !arrived[fd]);
    arrived[fd] = true;
}

uint32_t core_fd_closing(int fd)
{
    MUST(fd >= 0 && fd < FDS_TOP && arrived[fd]);
    arrived[fd] = false;
    return 0;
}

int core_fd_top(void)
{
    return FDS_TOP;
}

bool porter_close(int fd)
{
    return close(fd) == 0;
}

int core_fd_remote(int fd)
{
    return remote_of_fd[fd];
}

void core_fd_set_remote(int fd, uint32_t index)
{
    remote_of_fd[fd] = (int)index;
}

bool core_is_looking(void)
{
    return false;
}

enum core_memory core_call_open(uintptr_t addr, size_t len, enum arch_access access)
{
    return CORE_OPEN;
}

int core_copy_in(void *dst, const void *src, size_t len)
{
    const unsigned char *at = src;

    if ((at < source || len > SOURCE || at > source + SOURCE - len) &&
        (at < out_start || at + len > out_end))
        return -EFAULT;
    memcpy(dst, src, len);
    return 0;
}

int core_copy_out(void *dst, const void *src, size_t len)
{
    unsigned char *at = dst;

    MUST(at >= out_start && len <= (size_t)(out_end - at));
    memcpy(dst, src, len);
    return 0;
}

/* ---- the other process */

struct peer {
    struct script script;
    struct channel *shared; /* NULL: no hello came */
    int socket;             /* -1: hung up */
    int stop;               /* an eventfd */
    uint32_t op;            /* what was asked last */
};

static void wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* One of those that a server of ours would give, or any. */
static int64_t result_of(struct peer *peer)
{
    uint8_t how = script_byte(&peer->script);

    if (peer->op == CHANNEL_READ && how < 128)
        return (how % 17) * (int64_t)sizeof(struct uf_msg);
    return how < 64 ? 0 : how < 128 ? -(int64_t)(how - 64) : (int64_t)script_number(&peer->script);
}

static void answer(struct peer *peer, struct channel_lane *lane, unsigned n)
{
    uint8_t how = script_byte(&peer->script);
    uint64_t word;

    peer->op = lane->op;
    lane->result = result_of(peer);
    if (how & 1)
        lane->data_len = (uint32_t)script_number(&peer->script);
    if (how & 2) {
        word = script_number(&peer->script);
        memcpy(lane->args + script_byte(&peer->script) % 16 * 8, &word, sizeof word);
    }
    if (how & 4) { /* the last word of a UFFDIO_COPY */
        word = script_number(&peer->script);
        memcpy(lane->args + 32, &word, sizeof word);
    }
    if (how & 8)
        lane->holder = (uint32_t)script_number(&peer->script);
    if (how & 16)
        memset(peer->shared->data[n], script_byte(&peer->script), 512);
    if (how & 32)
        atomic_store(&peer->shared->head.awake, script_byte(&peer->script) & 1);
    if (how & 64)
        script_fill(&peer->script, lane, script_byte(&peer->script) % sizeof *lane);
    atomic_exchange(&lane->state, how & 128 ? script_byte(&peer->script) : CHANNEL_ANSWERED);
    wake(&lane->state);
}

/* A descriptor that may be a bell, or several, or none, with what belongs to it, or something else.
 */
static void send_bells(struct peer *peer)
{
    const char bytes[16] = "";
    uint8_t how = script_byte(&peer->script);
    size_t size = how & 16 ? 1u + how % 16 : sizeof(struct channel_fork);
    const int fds[] = {how & 64 ? peer->stop : hub[1], hub[1], hub[1]};

    rights_send(peer->socket, bytes, size, fds, how & 32 ? how % 4 : 1,
                MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool is_asked(struct channel_lane *lane)
{
    uint32_t state = atomic_load(&lane->state) & CHANNEL_STATES;

    return state == CHANNEL_ASKED || state == CHANNEL_OFFERED || state == CHANNEL_GIVEN;
}

/* Messages on the board, whole ones or any bytes. */
static void post(struct peer *peer)
{
    struct core_board *board = &peer->shared->board;
    struct core_place *place = &board->place[script_byte(&peer->script) % CORE_PLACES];
    uint8_t how = script_byte(&peer->script);

    atomic_store(&board->top, how & 1 ? (uint32_t)script_number(&peer->script) : CORE_PLACES);
    atomic_store(&board->more, how & 2 ? script_byte(&peer->script) : 0);
    atomic_store(&board->unheard, how & 4 ? script_number(&peer->script) : 1);
    place->msg = (struct uf_msg){.event = UF_EVENT_PAGEFAULT};
    place->msg.arg.pagefault.address = how & 8 ? script_number(&peer->script) : 0x10000;
    if (how & 16)
        script_fill(&peer->script, place, sizeof *place);
    atomic_store(&place->word, how & 32 ? (uint32_t)script_number(&peer->script)
                                        : PLACE_GENERATION | PLACE_PENDING | PLACE_SLEEPS |
                                              (how & 64 ? PLACE_SURE : 0));
}

/* Return: false when it does nothing more. */
static bool react(struct peer *peer)
{
    uint8_t how = script_byte(&peer->script);

    if (how % 32 == 31 && peer->socket >= 0) {
        close(peer->socket);
        peer->socket = -1;
        return false;
    }
    if (how % 32 >= 24 && how % 32 < 27)
        post(peer);
    if (how % 32 == 27 && peer->socket >= 0)
        send_bells(peer);
    for (unsigned n = 0; n < CHANNEL_LANES; n++) {
        struct channel_lane *lane = &peer->shared->lane[n];

        if (how % 32 == 30) /* there is no lane any more */
            atomic_store(&lane->state, CHANNEL_ASKED);
        else if (is_asked(lane) && how % 32 != 29)
            answer(peer, lane, n);
    }
    for (int i = 0; how % 32 == 28 && i < 2000; i++) { /* wakes without end */
        for (unsigned n = 0; n < CHANNEL_LANES; n++)
            wake(&peer->shared->lane[n].state);
    }
    return true;
}

static bool take_hello(struct peer *peer)
{
    char control[CMSG_SPACE(3 * sizeof(int))] __attribute__((aligned(8)));
    struct channel_hello hello;
    struct iovec vec = {&hello, sizeof hello};
    struct msghdr msg = {
        .msg_iov = &vec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct wire_hello came;
    long len = recvmsg(hub[1], &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (len < 0)
        return false;
    wire_take_hello(&msg, &hello, len, &came);
    MUST(came.sound); /* as the server sees ours */
    peer->shared =
        mmap(NULL, sizeof *peer->shared, PROT_READ | PROT_WRITE, MAP_SHARED, came.fd[0], 0);
    MUST(peer->shared != MAP_FAILED);
    close(came.fd[0]);
    close(came.fd[2]);
    peer->socket = came.fd[1];
    return true;
}

/*
 * The end of another pair, and what tells that the process has ended: this one; or another
 * descriptor instead.
 */
static void send_ends(struct peer *peer, bool death, bool other)
{
    int pair[2], fds[2] = {-1, -1};

    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    fds[0] = other && !death ? peer->stop : pair[1];
    if (death)
        fds[1] = other ? dup(peer->stop) : (int)syscall(SYS_pidfd_open, getpid(), 0);
    rights_send(peer->socket, "", 1, fds, fds[1] >= 0 ? 2 : 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(pair[1]);
    if (fds[1] >= 0)
        close(fds[1]);
    close(peer->socket);
    peer->socket = pair[0];
}

static void accept_or_not(struct peer *peer)
{
    uint8_t how = script_byte(&peer->script);

    if (how & 64)
        script_fill(&peer->script, peer->shared, script_byte(&peer->script));
    if (how & 32)
        atomic_store(&peer->shared->head.awake, 1);
    if (how & 128)
        post(peer);
    if (how % 8 < 6)
        send_ends(peer, how & 16, how & 8);
    if (how % 8 == 7) {
        close(peer->socket);
        peer->socket = -1;
    } else if (how % 8 != 6) {
        atomic_store(&peer->shared->head.accepted,
                     how % 8 == 5 ? (uint32_t)script_number(&peer->script) : 1);
        wake(&peer->shared->head.accepted);
    }
}

static void *peer_main(void *arg)
{
    struct peer *peer = arg;
    struct pollfd fds[] = {{.fd = peer->stop, .events = POLLIN}, {.fd = hub[1], .events = POLLIN}};
    char bytes[64];

    for (;;) {
        bool awake = peer->shared && atomic_load(&peer->shared->head.awake);

        poll(fds, 2, awake ? 1 : -1);
        if (fds[0].revents)
            break;
        if (fds[1].revents && !peer->shared && take_hello(peer)) {
            accept_or_not(peer);
            fds[1] = (struct pollfd){.fd = peer->socket, .events = POLLIN};
            continue;
        }
        if (peer->socket >= 0 && recv(peer->socket, bytes, sizeof bytes, MSG_DONTWAIT) == 0)
            fds[1].fd = -1; /* the asker has hung up */
        if (peer->shared && !react(peer))
            fds[1].fd = -1;
    }
    if (peer->shared)
        munmap(peer->shared, sizeof *peer->shared);
    if (peer->socket >= 0)
        close(peer->socket);
    return NULL;
}

/* ---- the manager */

static const uint32_t requests[] = {UF_IO_COPY,       UF_IO_API,       UF_IO_REGISTER,
                                    UF_IO_UNREGISTER, UF_IO_ZEROPAGE,  UF_IO_CONTINUE,
                                    UF_IO_POISON,     UF_IO_MOVE,      UF_IO_WRITEPROTECT,
                                    UF_IO_WAKE,       UF_IO_RWPROTECT, UF_IO_SET_MODE};

/* What the ioctl writes: the last word, or all, or nothing. */
static size_t kept(uint32_t request)
{
    size_t size = _IOC_SIZE(request);

    switch (request) {
    case UF_IO_API:
        return 0;
    case UF_IO_REGISTER:
    case UF_IO_COPY:
    case UF_IO_ZEROPAGE:
    case UF_IO_CONTINUE:
    case UF_IO_POISON:
    case UF_IO_MOVE:
        return size - 8;
    default:
        return size;
    }
}

static void call_ioctl(struct script *script, int fd, uint32_t index)
{
    uint32_t request = requests[script_byte(script) % (sizeof requests / sizeof *requests)];
    struct {
        unsigned char args[CHANNEL_ARGS], guard[8];
    } area, before;
    size_t size = _IOC_SIZE(request);
    struct uf_io_copy copy;
    long ret;

    memset(&area, GUARD, sizeof area);
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = script_number(script);

        memcpy(area.args + at, &word, sizeof word);
    }
    if (request == UF_IO_COPY) {
        copy = (struct uf_io_copy){.dst = 0x10000, .src = (uintptr_t)source};
        copy.len = script_byte(script) % 5 * (CHANNEL_DATA / 2) + script_byte(script) % 3 * 4096ul;
        memcpy(area.args, &copy, sizeof copy);
    }
    before = area;
    out_start = area.args;
    out_end = area.args + size;
    ret = client_ioctl(fd, index, request, area.args);
    MUST(ret <= 0 && ret >= -4095);
    MUST(memcmp(area.args, before.args, kept(request)) == 0);
    MUST(memcmp(area.args + size, before.args + size, sizeof area - size) == 0);
    if (request == UF_IO_COPY) {
        memcpy(&copy, area.args, sizeof copy);
        MUST(copy.copy >= -4095 && copy.copy <= (int64_t)copy.len);
        MUST(!copy.len || (ret == 0) == (copy.copy == (int64_t)copy.len));
    }
}

static void call_read(struct script *script, int fd, uint32_t index)
{
    unsigned char buf[600];
    size_t len = script_byte(script) % 9 * 8 * (script_byte(script) % 8 + 1);
    long ret;

    memset(buf, GUARD, sizeof buf);
    out_start = buf;
    out_end = buf + len;
    ret = client_read(fd, index, buf, len);
    MUST(ret != 0 && ret <= (long)len && ret >= -4095);
    MUST(ret < 0 || ret % (long)sizeof(struct uf_msg) == 0);
    for (size_t i = ret > 0 ? (size_t)ret : 0; i < sizeof buf; i++)
        MUST(buf[i] == GUARD);
    for (long at = 0; at < ret; at += (long)sizeof(struct uf_msg)) {
        struct uf_msg msg;

        memcpy(&msg, buf + at, sizeof msg);
        if (msg.event == UF_EVENT_FORK) { /* whoever says so, it is one that came */
            core_fd_closing((int)msg.arg.fork.ufd);
            MUST(close((int)msg.arg.fork.ufd) == 0);
        }
    }
}

static void call(struct script *script, int fd, uint32_t index)
{
    uint8_t what = script_byte(script);

    switch (what % 8) {
    case 0:
        MUST(!(client_poll(fd, index, what & 64) & ~WIRE_POLL_KNOWN));
        break;
    case 1:
        what & 64 ? (void)client_spin(fd, index) : client_drain(fd, index);
        break;
    case 2:
    case 3:
        call_read(script, fd, index);
        break;
    default:
        call_ioctl(script, fd, index);
    }
}

static void begin(void)
{
    source = mmap(NULL, SOURCE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(source != MAP_FAILED);
    for (int fd = 0; fd < FDS_TOP; fd++)
        remote_of_fd[fd] = -1;
}

/* With the descriptor gone the channel is, when the next one is looked for. */
static void close_channel(int index)
{
    remote_of_fd[hub[0]] = -1;
    name++;
    MUST(client_recognise(hub[0]) >= 0 || index < 0);
    remote_of_fd[hub[0]] = -1;
    MUST(fuzz_hidden_count() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script calls = {data, data + size};
    size_t wanted = script_byte(&calls), left = (size_t)(calls.end - calls.at);
    struct peer peer = {.socket = -1};
    int index, lowest;
    pthread_t thread;

    if (!source)
        begin();
    lowest = dup(0);
    close(lowest);
    peer.script = (struct script){calls.at + (wanted < left ? wanted : left), calls.end};
    calls.end = peer.script.at;
    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, hub) == 0);
    peer.stop = eventfd(0, EFD_CLOEXEC);
    index = client_recognise(hub[0]);
    MUST(index >= 0);
    MUST(pthread_create(&thread, NULL, peer_main, &peer) == 0);
    for (int i = 0; i < CALLS && calls.at < calls.end; i++)
        call(&calls, hub[0], (uint32_t)index);
    eventfd_write(peer.stop, 1);
    pthread_join(thread, NULL);
    close_channel(index);
    close(peer.stop);
    close(hub[0]);
    close(hub[1]);
    MUST(dup(0) == lowest && close(lowest) == 0);
    return 0;
}
