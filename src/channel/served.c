/* SPDX-License-Identifier: MIT */
/*
 * Who is served: requests in lanes, and those who come, hang up and wait.
 *
 * Whatever it reads here is a stranger's: see wire.h. Nothing of it depends on which process this
 * runs in, so that tests/fuzz can run it in one of its own.
 */
#include "served.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "base/point.h"
#include "core/remote.h"
#include "local.h"
#include "porter.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "wire.h"

#define SERVED_MAX CORE_BOARDS_MAX
#define LATER_MS   20   /* then what was not answered is looked at again */
#define IDLE_MS    5000 /* then it is looked whether there is still a program to serve for */
#define BLIND_MS   200  /* where nothing tells that the program has ended */
#define MOVED_MS   100  /* until it has looked, or is stopped */
#define ROUND_MAX  64   /* datagrams: who sends without end is not listened to without end */

/*
 * One that asks. Only the server touches these, and a forked child, which has none; and who does
 * what was offered to it.
 */
static struct served {
    struct channel *_Atomic shared; /* NULL: is not served, or not any more */
    struct channel *_Atomic ending; /* then, until no waiter works in it; NULL: none does */
    _Atomic uint32_t working;       /* waiters that may use shared */
    int socket;                     /* handle of a hidden descriptor; -1: none */
    uint32_t id;                    /* of the context; 0: the place is free */
    bool told;                 /* it finds out when the program ends, and so may have a board */
    bool later[CHANNEL_LANES]; /* was not answered yet, see CORE_LATER */
} served[SERVED_MAX];
static unsigned served_top; /* nobody is served from there on */

static bool any_later, any_ending;
static bool deaf;              /* the hub is not listened to for a while */
static _Atomic uint32_t looks; /* odd: it sleeps, by the numbers that there were before */

static int program;    /* its process id */
static int death = -1; /* handle of a descriptor that says when it has ended */

/* ---- requests */

/* @offers: also what was offered to others. */
static bool is_asked(uint32_t word, bool offers)
{
    uint32_t state = word & CHANNEL_STATES;

    return state == CHANNEL_ASKED || (offers && state == CHANNEL_OFFERED);
}

/*
 * Who asked is not to take it back any more. It stays ASKED: if this server is killed, the next one
 * does it.
 */
static bool begin(struct channel_lane *lane, bool offers)
{
    uint32_t word = atomic_load(&lane->state);

    do {
        if (!is_asked(word, offers)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(
        &lane->state, &word, (word & ~CHANNEL_STATES) | CHANNEL_ASKED | CHANNEL_BEGUN));
    BASE_POINT();
    return true;
}

/*
 * The source of the pages has come along. As much as has not lies nowhere: the copy finds that
 * out when it comes to it.
 */
static long serve_copy(uint32_t id, const unsigned char *data, struct wire_request *request)
{
    struct uf_io_copy *copy = &request->piece.copy;
    uint64_t source = copy->src;
    long ret;

    copy->src = copy->len <= request->data_len ? (uintptr_t)data : 0;
    ret = core_serve_copy(id, copy, request->piece.whole);
    copy->src = source;
    return ret;
}

static long resolve(uint32_t id, const unsigned char *data, struct wire_request *request)
{
    return request->request == UF_IO_COPY ? serve_copy(id, data, request)
                                          : core_serve_ioctl(id, request->request, request->args);
}

/* At most two descriptors. Return: 0, -errno when they cannot be sent now. */
static long send_fds(int socket, const void *bytes, size_t len, const int *fd, size_t count)
{
    char control[CMSG_SPACE(2 * sizeof *fd)] __attribute__((aligned(8))) = {0};
    struct iovec vec = {(void *)(uintptr_t)bytes, len};
    struct msghdr msg = {
        .msg_iov = &vec,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = CMSG_SPACE(count * sizeof *fd),
    };
    long ret;

    wire_put_fds(&msg, fd, count);
    ret = sys_call(SYS_sendmsg, socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sys_failed(ret) ? ret : 0;
}

static long send_bell(const struct served *one, const struct core_serve_fork *next, int bell)
{
    const struct channel_fork fork = {next->slot, next->word, next->name};

    return send_fds(core_hidden(one->socket), &fork, sizeof fork, &bell, 1);
}

static long hand_over(const struct served *one, const struct core_serve_fork *next)
{
    long ret;
    int bell;

    core_fds_lock();
    bell = core_serve_bell(one->id, next);
    ret = bell;
    if (bell >= 0) {
        ret = send_bell(one, next, bell);
        sys_close(bell);
    }
    core_fds_unlock();
    return ret;
}

static uint32_t reader_of(const struct served *one)
{
    return (uint32_t)(one - served) + 1;
}

static long serve_read(const struct served *one, unsigned char *data, struct wire_request *request)
{
    struct core_serve_fork next;
    long ret = core_serve_read(one->id, reader_of(one), request->flag, (struct uf_msg *)data,
                               request->data_len / sizeof(struct uf_msg), &next);

    memset(request->args, 0, sizeof request->args);
    if (next.bell >= 0) {
        long sent = hand_over(one, &next);

        request->next = (struct channel_next){sent == 0, next.cloexec};
        ret = ret > 0 ? ret : sent;
    }
    request->data_len = ret > 0 ? (uint32_t)ret : 0;
    return ret;
}

static long perform(const struct served *one, unsigned n, struct wire_request *request)
{
    unsigned char *data = one->shared->data[n];
    long ret;

    switch (request->op) {
    case CHANNEL_IOCTL:
        if (request->request == UF_IO_ACK) {
            return core_serve_ack(one->id, request->args, one->later[n]);
        }
        return resolve(one->id, data, request);
    case CHANNEL_READ:
        return serve_read(one, data, request);
    case CHANNEL_POLL:
        return core_serve_poll(one->id, request->flag);
    case CHANNEL_QUIET:
        core_serve_emptied(one->id);
        return 0;
    case CHANNEL_TOOK:
        if (request->flag) {
            core_serve_put_back(one->id, request->fork.slot, request->fork.word);
            return -EAGAIN;
        }
        ret = core_serve_forked(one->id, reader_of(one), request->fork.slot, request->fork.word)
                  ? 0
                  : -EAGAIN;
        core_serve_emptied(one->id);
        return ret;
    default:
        return -EINVAL;
    }
}

/* Its memory may outlive it in us: whoever was told that it is dead is not to find it alive. */
static bool program_lives(void)
{
    return sys_call(SYS_getppid) == program;
}

/*
 * What was left has nobody to hear it, but of a read the next reader. Return: whether it was left.
 */
static bool answer(struct channel_lane *lane, const struct wire_request *request, long result)
{
    uint32_t word, left;

    lane->result = result;
    BASE_POINT();
    lane->data_len = request->data_len;
    memcpy(lane->args, request->args, sizeof request->args);
    BASE_POINT();
    word = atomic_load(&lane->state);
    do {
        left = word & CHANNEL_LEFT;
    } while (!atomic_compare_exchange_weak(
        &lane->state, &word,
        left && request->op != CHANNEL_READ ? CHANNEL_FREE : CHANNEL_ANSWERED | left));
    BASE_POINT();
    if (word & CHANNEL_SLEEPS) {
        channel_wake(&lane->state);
    }
    return left;
}

/* What was offered is done by one of those who may. */
static bool take(struct channel_lane *lane)
{
    uint32_t word = atomic_load(&lane->state);

    do {
        if ((word & CHANNEL_STATES) != CHANNEL_OFFERED) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&lane->state, &word,
                                           (word & ~CHANNEL_STATES) | CHANNEL_TAKEN));
    BASE_POINT();
    return true;
}

/* Return: enum served_what */
static unsigned serve_lane(struct served *one, unsigned n, bool offers)
{
    struct channel_lane *lane = &one->shared->lane[n];
    struct wire_request request;
    long result;

    if (!is_asked(atomic_load(&lane->state), offers) || !program_lives() || !begin(lane, offers)) {
        return 0;
    }
    wire_take_request(lane, &request);
    BASE_POINT();
    result = perform(one, n, &request);
    one->later[n] =
        request.op == CHANNEL_IOCTL && request.request == UF_IO_ACK && result == CORE_LATER;
    if (one->later[n]) {
        any_later = true;
        return 0;
    }
    if (answer(lane, &request, result) && request.op == CHANNEL_READ && result >= 0) {
        core_serve_ring(one->id);
    }
    return request.op == CHANNEL_READ && request.data_len ? SERVED_MORE : SERVED_ANY;
}

/* What could not be asked in time. */
static void do_unsaid(const struct served *one)
{
    uint32_t what = atomic_exchange(&one->shared->head.unsaid, 0);

    if (what & CHANNEL_EMPTIED) {
        core_serve_emptied(one->id);
    }
    if (what & CHANNEL_WAKE) {
        core_serve_wake(one->id);
    }
    if (what & CHANNEL_RING) {
        core_serve_ring(one->id);
    }
}

unsigned served_all(void)
{
    bool offers = core_board_offers_left();
    unsigned any = 0;

    any_later = false;
    for (unsigned i = 0; i < served_top; i++) {
        if (served[i].shared && atomic_load(&served[i].shared->head.settle) &&
            atomic_exchange(&served[i].shared->head.settle, 0)) {
            core_board_settle(i);
            any |= SERVED_ANY;
        }
        if (served[i].shared && atomic_load(&served[i].shared->head.unsaid)) {
            do_unsaid(&served[i]);
            any |= SERVED_ANY;
        }
        for (unsigned n = 0; served[i].shared && n < CHANNEL_LANES; n++) {
            any |= serve_lane(&served[i], n, offers);
        }
    }
    return any;
}

/*
 * Whatever lies there, a waiter does no more than what resolves faults. The memory stays while it
 * is counted as working: it looks after it has counted, and drop() the other way round.
 */
void served_offered(uint32_t index, unsigned n)
{
    struct served *one = &served[index];
    struct channel *shared;
    struct wire_request request;

    atomic_fetch_add(&one->working, 1);
    shared = atomic_load(&one->shared);
    if (shared && take(&shared->lane[n])) {
        wire_take_request(&shared->lane[n], &request);
        BASE_POINT();
        answer(&shared->lane[n], &request,
               wire_resolves(&request) ? resolve(one->id, shared->data[n], &request) : -EINVAL);
    }
    atomic_fetch_sub(&one->working, 1);
}

/* That of a channel which ends, too: what was given is put in place before its memory goes. */
const void *served_given(uint32_t index, unsigned n)
{
    struct served *one = &served[index];
    struct channel *shared;

    atomic_fetch_add(&one->working, 1);
    shared = atomic_load(&one->shared);
    shared = shared ? shared : atomic_load(&one->ending);
    return shared && (atomic_load(&shared->lane[n].state) & CHANNEL_STATES) == CHANNEL_GIVEN
               ? shared->data[n]
               : NULL;
}

static void free_lane(struct channel_lane *lane)
{
    uint32_t word = atomic_load(&lane->state);

    do {
        if ((word & CHANNEL_STATES) != CHANNEL_GIVEN) {
            return;
        }
        lane->result = 0;
    } while (!atomic_compare_exchange_weak(
        &lane->state, &word, word & CHANNEL_AWAITS ? CHANNEL_ANSWERED : CHANNEL_FREE));
    BASE_POINT();
    if (word & CHANNEL_SLEEPS) {
        channel_wake(&lane->state);
    }
}

void served_gave(uint32_t index, unsigned n)
{
    struct served *one = &served[index];
    struct channel *shared = atomic_load(&one->shared);

    if (shared) {
        free_lane(&shared->lane[n]);
    }
    atomic_fetch_sub(&one->working, 1);
}

void served_set_awake(bool awake)
{
    for (unsigned i = 0; i < served_top; i++) {
        if (served[i].shared) {
            atomic_store(&served[i].shared->head.awake, awake);
        }
    }
}

/* ---- those who come and go */

static uint32_t managers_of(uint32_t id)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < served_top; i++) {
        count += served[i].shared && served[i].id == id;
    }
    return count;
}

/* The memory goes when nobody works in it any more: that is asked for again. */
static void end(struct served *one)
{
    struct channel *memory = one->ending;

    if (memory && atomic_load(&one->working)) {
        any_ending = true;
        return;
    }
    one->ending = NULL;
    BASE_POINT();
    if (memory) {
        sys_munmap((uintptr_t)memory, sizeof *memory);
    }
    one->id = 0;
    while (served_top && !served[served_top - 1].id) {
        served_top--;
    }
}

static void end_all(void)
{
    unsigned top = served_top;

    any_ending = false;
    for (unsigned i = 0; i < top; i++) {
        if (served[i].ending && !served[i].shared) {
            end(&served[i]);
        }
    }
}

/*
 * What is next in the socket, and stays there: so nothing that came along is closed. Return: bytes,
 * 0 at its end, -errno.
 */
static long look_into(int socket, char *bytes, size_t len, bool *ret_carries)
{
    struct iovec vec = {bytes, len};
    struct msghdr msg = {.msg_iov = &vec, .msg_iovlen = 1};
    long ret = sys_call(SYS_recvmsg, socket, &msg, MSG_PEEK | MSG_DONTWAIT);

    *ret_carries = ret > 0 && msg.msg_flags & MSG_CTRUNC;
    return ret;
}

/* What was sent and not received is closed with it, and may be anything. */
static void close_socket(int handle)
{
    char byte;
    bool carries;

    sys_call(SYS_shutdown, core_hidden(handle), SHUT_RD); /* nothing more is sent */
    if (look_into(core_hidden(handle), &byte, 1, &carries) <= 0) {
        core_unhide(handle);
        return;
    }
    core_fds_lock();
    porter_hold();
    core_unhide(handle);
    porter_done();
    core_fds_unlock();
}

/*
 * What is left of one that is served no more. Whoever comes after a server that was killed does it
 * again, so what cannot be done twice is done last.
 */
static void clear(struct served *one)
{
    int socket = one->socket;

    core_board_close((uint32_t)(one - served));
    BASE_POINT();
    core_serve_left(one->id, reader_of(one), managers_of(one->id));
    BASE_POINT();
    one->socket = -1;
    if (socket >= 0) {
        close_socket(socket);
    }
    BASE_POINT();
    end(one);
}

/* A context has one board: the first that asks has it, and then the next. */
static void offer_board(const struct served *one)
{
    if (one->told) {
        core_board_open((uint32_t)(one - served), one->id, &one->shared->board);
    }
}

static void drop(struct served *one)
{
    uint32_t id = one->id;

    one->ending = one->shared;
    BASE_POINT();
    atomic_store(&one->shared, NULL);
    BASE_POINT();
    clear(one);
    for (unsigned i = 0; i < served_top; i++) {
        if (served[i].shared && served[i].id == id) {
            offer_board(&served[i]);
        }
    }
}

void served_resume(void)
{
    for (unsigned i = 0; i < SERVED_MAX; i++) {
        if (served[i].shared) {
            core_serve_came(served[i].id, managers_of(served[i].id));
        } else if (served[i].id) {
            clear(&served[i]);
        }
    }
}

/* The doorbell of one that asks: emptied, or hung up. None of ours sends descriptors. */
static void hear(struct served *one)
{
    char bytes[64];
    long n = sizeof bytes;
    bool carries = false;

    for (int i = 0; i < ROUND_MAX && !carries && (n == sizeof bytes || n == -EINTR); i++) {
        int fd = core_hidden(one->socket);

        n = look_into(fd, bytes, sizeof bytes, &carries);
        if (core_hidden(one->socket) != fd) {
            n = -EINTR; /* it has moved, and that was perhaps the program's */
            carries = false;
        } else if (n > 0 && !carries) {
            n = sys_recv(fd, bytes, (size_t)n, MSG_DONTWAIT);
        }
    }
    if (carries || (n <= 0 && n != -EAGAIN && n != -EINTR)) {
        drop(one);
    }
}

/* Memory that nobody can take away again, of the right size. */
static struct channel *map_shared(int memory)
{
    long seals = sys_fcntl(memory, F_GET_SEALS, 0);
    struct stat st;
    long ret;

    if (sys_failed(seals) || (seals & CHANNEL_SEALS) != CHANNEL_SEALS ||
        sys_fstat(memory, &st) != 0 || st.st_size != sizeof(struct channel)) {
        return NULL;
    }
    ret = channel_map(memory);
    return sys_failed(ret) ? NULL : (struct channel *)ret;
}

/* The asker's end, and by what it knows when the program has ended. Return: 0, -errno. */
static long send_ends(struct served *one, int socket, int theirs)
{
    const int fd[] = {theirs, death >= 0 ? core_hidden(death) : -1};

    one->told = fd[1] >= 0 && send_fds(socket, "", 1, fd, 2) == 0;
    return one->told ? 0 : send_fds(socket, "", 1, fd, 1);
}

/*
 * A pair that is made here, for of what comes from the asker he may have kept both ends: and who
 * receives from a socket keeps all others from it, as long as the maker of the memory likes to
 * which it is copied. Return: 0, -errno.
 */
static long open_pair(struct served *one, int socket)
{
    int pair[2];
    long ret = sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);

    if (ret) {
        return ret;
    }
    one->socket = core_hide(pair[0]);
    BASE_POINT();
    ret = one->socket < 0 ? one->socket : send_ends(one, socket, pair[1]);
    sys_close(pair[1]);
    if (ret && one->socket >= 0) {
        core_unhide(one->socket);
        one->socket = -1;
    }
    return ret;
}

static void answer_hello(struct channel *shared, uint32_t how)
{
    atomic_store(&shared->head.accepted, how);
    channel_wake(&shared->head.accepted);
}

static struct served *find_place(void)
{
    for (unsigned i = 0; i < SERVED_MAX; i++) {
        if (!served[i].id) {
            return &served[i];
        }
    }
    return NULL;
}

/* Where all are taken: who has hung up? */
static void make_place(void)
{
    for (unsigned i = 0; !find_place() && i < SERVED_MAX; i++) {
        if (served[i].shared) {
            hear(&served[i]);
        }
    }
}

static void accept_hello(int memory, int socket, int bell)
{
    struct channel *shared = channel_is_pair(socket) ? map_shared(memory) : NULL;
    uint32_t id = core_serve_find(bell);
    struct served *one = id ? find_place() : NULL;
    long ret = id ? -EMFILE : -ESRCH;

    if (!shared) {
        return;
    }
    BASE_POINT();
    if (one) {
        ret = open_pair(one, socket);
    }
    if (ret) {
        /* What was closed by the program is said again. */
        answer_hello(shared, ret == -EBADF || ret == -ESRCH ? (uint32_t)-ESRCH : (uint32_t)-EMFILE);
        sys_munmap((uintptr_t)shared, sizeof *shared);
        return;
    }
    BASE_POINT();
    one->id = id;
    memset(one->later, 0, sizeof one->later);
    one->shared = shared;
    served_top = one - served < served_top ? served_top : (unsigned)(one - served) + 1;
    BASE_POINT();
    atomic_store(&shared->head.awake, 1);
    core_serve_came(id, managers_of(id));
    offer_board(one);
    answer_hello(shared, 1);
}

static void handle_hello(const struct msghdr *msg, const struct channel_hello *hello, long len)
{
    struct wire_hello came;

    wire_take_hello(msg, hello, len, &came);
    BASE_POINT();
    if (came.sound) {
        accept_hello(came.fd[0], came.fd[1], came.fd[2]);
    }
    BASE_POINT();
    for (size_t i = 0; i < came.count; i++) {
        sys_close(came.fd[i]);
    }
}

static void receive_hellos(void)
{
    for (int i = 0; i < ROUND_MAX; i++) {
        char control[CMSG_LEN((WIRE_HELLO_FDS + 1) * sizeof(int))] __attribute__((aligned(8)));
        struct channel_hello hello = {0};
        struct iovec vec = {&hello, sizeof hello};
        struct msghdr msg = {
            .msg_iov = &vec,
            .msg_iovlen = 1,
            .msg_control = control,
            .msg_controllen = sizeof control,
        };
        long len;

        make_place();
        core_fds_lock(); /* what comes along is in no child, where it would stay */
        len = porter_receive(&msg);
        if (!sys_failed(len)) {
            handle_hello(&msg, &hello, len);
        }
        porter_done();
        core_fds_unlock();
        if (len == -EPROTO) {
            porter_shunned();
        } else if (sys_failed(len)) {
            deaf = len == -EBUSY;
            return;
        }
    }
}

/* ---- sleeping */

/* Until it looks again by itself. @due: ms, or -1 */
static struct timespec sleep_limit(bool wait, long due)
{
    bool soon = any_later || any_ending || deaf;
    long ms = !wait ? 0 : soon ? LATER_MS : death >= 0 ? IDLE_MS : BLIND_MS;

    ms = due >= 0 && due < ms ? due : ms;
    return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
}

/* Asked again: the number may have become the program's, for another file, in between. */
static bool has_ended(void)
{
    const struct timespec none = {0};

    for (;;) {
        struct pollfd fds = {.fd = core_hidden(death), .events = POLLIN};
        long n = sys_call(SYS_ppoll, &fds, 1, &none, NULL, 8);

        if (core_hidden(death) == fds.fd) {
            return n > 0 && !(fds.revents & POLLNVAL);
        }
    }
}

bool served_look(bool wait)
{
    struct pollfd fds[SERVED_MAX + 2];
    uint8_t who[SERVED_MAX + 2];
    struct timespec limit = sleep_limit(wait, core_serve_due());
    unsigned count = 0;
    bool watched = death >= 0;
    long ready;

    atomic_fetch_add(&looks, 1); /* first, see served_moved() */
    fds[count++] = (struct pollfd){.fd = deaf ? -1 : core_serve_hub(), .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = watched ? core_hidden(death) : -1, .events = POLLIN};
    for (unsigned i = 0; i < served_top; i++) {
        if (served[i].shared) {
            who[count] = (uint8_t)i;
            fds[count++] = (struct pollfd){.fd = core_hidden(served[i].socket), .events = POLLIN};
        }
    }
    deaf = false;
    ready = sys_call(SYS_ppoll, fds, count, &limit, NULL, 8);
    atomic_fetch_add(&looks, 1);
    if (ready < 0) {
        return true;
    }
    if (fds[1].revents & POLLNVAL && core_hidden(death) == fds[1].fd) {
        death = -1; /* it was closed under us, and tells nothing */
    }
    if ((death >= 0 && fds[1].revents && has_ended()) || !program_lives()) {
        return false;
    }
    for (unsigned i = 2; i < count; i++) {
        if (fds[i].revents) {
            hear(&served[who[i]]);
        }
    }
    if (fds[0].revents) {
        receive_hellos();
    }
    if (any_ending) {
        end_all();
    }
    return true;
}

/*
 * The kernel looks up each number again whenever something wakes the sleeper: what the program has
 * there then says nothing, and what was moved is not heard. So whoever moves it wakes the sleeper
 * while it is still at both numbers, and waits until it has looked.
 */
void served_moved(void)
{
    uint64_t limit = base_cpu_ticks() + MOVED_MS * 1000 * base_cpu_ticks_per_us();
    uint32_t look = atomic_load(&looks);

    if (look & 1) {
        core_serve_poke();
    }
    while (look & 1 && atomic_load(&looks) == look && base_cpu_ticks() < limit) {
        sys_call(SYS_sched_yield);
    }
}

/* ---- beginning and end */

void served_begin(int of, int death_handle)
{
    program = of;
    death = death_handle;
    atomic_store(&looks, 0);
}

void served_forget(void)
{
    for (unsigned i = 0; i < SERVED_MAX; i++) {
        served[i] = (struct served){.socket = -1}; /* not in the child's memory, and closed */
    }
    served_top = 0;
    death = -1;
    atomic_store(&looks, 0);
}
