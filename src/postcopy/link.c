/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <userfault/userfault.h>

#include "link.h"

#define TLS_HELLO "\x16\x03" /* a record of TLS in which hands are shaken */

static int set_nonblocking(int fd, int *ret_flags)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    *ret_flags = flags;
    return 0;
}

int link_init(struct link *link, const struct uf_postcopy_link *ends, int stop_fd,
              unsigned silence_ms)
{
    int ret = set_nonblocking(ends->in, &link->in_flags);

    if (ret < 0)
        return ret;
    link->out_flags = link->in_flags;
    if (ends->out != ends->in)
        ret = set_nonblocking(ends->out, &link->out_flags);
    if (ret < 0) {
        fcntl(ends->in, F_SETFL, link->in_flags);
        return ret;
    }
    link->in = ends->in;
    link->out = ends->out;
    link->stop_fd = stop_fd;
    link->cancel_fd = link->hear_fd = -1;
    link->deadline_ns = 0;
    atomic_store(&link->read_by_ns, 0);
    link->open = true;
    link->torn = false;
    link->owed = 0;
    link->tls = NULL;
    link->guarded = link->secured = false;
    link->eager = false;
    link->beside = NULL;
    link->read_out = false;
    link->ahead_at = link->ahead_end = 0;
    link->ahead_error = 0;
    link->rounds = 0;
    link->synced = false;
    atomic_store(&link->bytes, 0);
    silence_limit(link->in, silence_ms, &link->in_silence);
    link->out_silence.set = 0;
    if (link->out != link->in)
        silence_limit(link->out, silence_ms, &link->out_silence);
    pthread_mutex_init(&link->send_lock, NULL);
    return 0;
}

void link_read_ahead(struct link *link)
{
    link->eager = !link->guarded; /* a session may hold what came: nothing to wait for, then */
}

void link_read_beside(struct link *link, int (*read)(void *arg), void *arg)
{
    link->eager = true;
    link->read_out = !read;
    link->beside = read;
    link->beside_arg = arg;
}

bool link_has_ahead(const struct link *link)
{
    return link->ahead_at < link->ahead_end;
}

/* Return: whether there is more than before, or why there will not be. */
static bool read_on(struct link *link)
{
    const size_t have = link->ahead_end - link->ahead_at;
    ssize_t n;

    memmove(link->ahead, link->ahead + link->ahead_at, have);
    link->ahead_at = 0;
    link->ahead_end = have;
    n = read(link->in, link->ahead + have, sizeof(link->ahead) - have);
    if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (n > 0)
        link->ahead_end += (size_t)n;
    else
        link->ahead_error = n == 0 ? -ECONNRESET : -errno; /* a socket says it once */
    return true;
}

bool link_look_ahead(struct link *link)
{
    return link_has_ahead(link) || link->ahead_error || read_on(link);
}

/* Of what was read by now. */
static enum link_sight see_ahead(const struct link *link, struct wire_header *ret_header,
                                 const void **ret_content)
{
    const uint8_t *at = link->ahead + link->ahead_at;
    const size_t have = link->ahead_end - link->ahead_at;

    if (have < WIRE_HEADER)
        return LINK_NOTHING;
    if (wire_decode(at, ret_header) || ret_header->length != LINK_AHEAD - WIRE_HEADER ||
        (ret_header->type != WIRE_ZERO && ret_header->type != WIRE_PAGES) ||
        (ret_header->payload && ret_header->payload != ret_header->length))
        return LINK_OTHER;
    if (have < WIRE_HEADER + ret_header->payload)
        return LINK_NOTHING;
    *ret_content = ret_header->payload ? at + WIRE_HEADER : NULL;
    return wire_check(ret_header, *ret_content) ? LINK_OTHER : LINK_PAGE;
}

enum link_sight link_see(struct link *link, struct wire_header *ret_header,
                         const void **ret_content)
{
    enum link_sight sight = see_ahead(link, ret_header, ret_content);

    if (sight == LINK_NOTHING && !link->ahead_error && read_on(link))
        sight = see_ahead(link, ret_header, ret_content);
    return sight == LINK_NOTHING && link->ahead_error ? LINK_OTHER : sight;
}

void link_drop_page(struct link *link, const struct wire_header *header)
{
    link->ahead_at += WIRE_HEADER + header->payload;
    atomic_fetch_add(&link->bytes, WIRE_HEADER + header->payload);
}

void link_fini(struct link *link)
{
    if (!link->open)
        return;
    tls_end(link);
    link->open = false;
    /* What came last goes first: both may be numbers of one socket, of which the first knows more.
     */
    silence_restore(link->out, &link->out_silence);
    silence_restore(link->in, &link->in_silence);
    if (link->out != link->in)
        fcntl(link->out, F_SETFL, link->out_flags);
    fcntl(link->in, F_SETFL, link->in_flags);
    pthread_mutex_destroy(&link->send_lock);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* As poll(2) takes it, which knows no more than so many. */
static int left_ms(uint64_t deadline_ns)
{
    uint64_t now = now_ns(), ms;

    if (!deadline_ns)
        return -1;
    ms = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000 : 0;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

int link_wait(const struct link *link, int fd, short events)
{
    struct pollfd fds[4] = {{.fd = fd, .events = events},
                            {.fd = link->stop_fd, .events = POLLIN},
                            {.fd = link->cancel_fd, .events = POLLIN},
                            {.fd = events == POLLOUT ? link->hear_fd : -1, .events = POLLIN}};
    const uint64_t by_ns = events == POLLIN ? atomic_load(&link->read_by_ns) : 0;
    const uint64_t deadline_ns = by_ns ? by_ns : link->deadline_ns;

    for (;;) {
        int n = poll(fds, 4, left_ms(deadline_ns));

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && (fds[1].revents || fds[2].revents))
            return -ECANCELED;
        if (n > 0)
            return fds[3].revents ? LINK_HEARD : 0;
        if (n == 0 && left_ms(deadline_ns) == 0)
            return -ETIMEDOUT;
    }
}

/* Until it can be written to, and what can be read is read. Return: 0: try again; -errno. */
static int wait_beside(const struct link *link)
{
    struct pollfd fds[3] = {{.fd = link->out, .events = POLLOUT},
                            {.fd = link->stop_fd, .events = POLLIN},
                            {.fd = link->in, .events = POLLIN}};

    if (poll(fds, 3, -1) < 0)
        return errno == EINTR ? 0 : -errno;
    if (fds[1].revents)
        return -ECANCELED;
    return fds[2].revents ? link->beside(link->beside_arg) : 0;
}

/* What errno says of a transfer. Return: 0: try again; -ECANCELED; -errno. */
static int after_failure(const struct link *link, int fd, short events)
{
    if (errno == EINTR)
        return 0;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        return -errno;
    return events == POLLOUT && link->beside ? wait_beside(link) : link_wait(link, fd, events);
}

static void advance(struct iovec **parts, int *count, size_t bytes)
{
    while (*count > 0 && bytes >= (*parts)->iov_len) {
        bytes -= (*parts)->iov_len;
        ++*parts;
        --*count;
    }
    if (*count > 0) {
        (*parts)->iov_base = (char *)(*parts)->iov_base + bytes;
        (*parts)->iov_len -= bytes;
    }
}

/* A pipe that nobody reads any more raises a signal, which would end a program that goes on. */
static ssize_t write_pipe(int fd, const struct iovec *parts, int count)
{
    const struct timespec now = {0};
    sigset_t pipe, before, pending;
    ssize_t n;
    int error;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    n = writev(fd, parts, count);
    if (n < 0 && errno == EFAULT)
        n = uf_syscall(SYS_writev, fd, parts, count);
    error = errno;
    if (n < 0 && error == EPIPE && !sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return n;
}

/*
 * Whose other end is gone answers EPIPE, and no signal. What is sent may be watched memory, of
 * which the facility on ours takes back from sight what has too many pieces: it shows it for a call
 * that it sees, which few have to be.
 */
ssize_t link_write_parts(int fd, struct iovec *parts, int count)
{
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t n = count == 1 ? send(fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL)
                           : sendmsg(fd, &msg, MSG_NOSIGNAL);

    if (n < 0 && errno == EFAULT)
        n = uf_syscall(SYS_sendmsg, fd, &msg, MSG_NOSIGNAL);
    return n < 0 && errno == ENOTSOCK ? write_pipe(fd, parts, count) : n;
}

static int send_all(struct link *link, struct iovec *parts, int count)
{
    bool begun = link->guarded || link->owed; /* a session may hold a part of a record */
    int ret = 0;

    if (link->torn)
        return -ECANCELED;
    if (link->guarded)
        ret = link->secured ? tls_send(link, parts, count) : -ENOTCONN;
    while (ret == 0 && count > 0 && !link->guarded) {
        ssize_t n = link_write_parts(link->out, parts, count);

        begun |= n > 0;
        if (n >= 0)
            advance(&parts, &count, (size_t)n);
        else
            ret = after_failure(link, link->out, POLLOUT);
    }
    link->torn = ret && begun;
    return ret;
}

int link_send(struct link *link, struct wire_header *header, const void *payload)
{
    uint8_t bytes[WIRE_HEADER];
    struct iovec parts[3] = {
        {link->rest, 0}, {bytes, sizeof(bytes)}, {(void *)(uintptr_t)payload, header->payload}};
    const int count = header->payload ? 2 : 1;
    int ret;

    wire_encode(bytes, header, payload);
    pthread_mutex_lock(&link->send_lock);
    parts[0].iov_len = link->owed;
    ret = link->owed ? send_all(link, parts, 1 + count) : send_all(link, parts + 1, count);
    link->owed = 0;
    pthread_mutex_unlock(&link->send_lock);
    atomic_fetch_add(&link->bytes, sizeof(bytes) + header->payload);
    return ret;
}

bool link_send_at_once(struct link *link, struct wire_header *header)
{
    uint8_t bytes[WIRE_HEADER];
    ssize_t n = -1;

    wire_encode(bytes, header, NULL);
    if (link->guarded || pthread_mutex_trylock(&link->send_lock))
        return false;
    if (!link->torn && !link->owed)
        n = send(link->out, bytes, sizeof(bytes), MSG_NOSIGNAL);
    if (n > 0 && n < (ssize_t)sizeof(bytes)) {
        link->owed = sizeof(bytes) - (size_t)n;
        memcpy(link->rest, bytes + n, link->owed);
    }
    pthread_mutex_unlock(&link->send_lock);
    if (n > 0)
        atomic_fetch_add(&link->bytes, sizeof(bytes));
    return n == (ssize_t)sizeof(bytes);
}

static size_t take_ahead(struct link *link, void *to, size_t len)
{
    size_t have = link->ahead_end - link->ahead_at, n = have < len ? have : len;

    memcpy(to, link->ahead + link->ahead_at, n);
    link->ahead_at += n;
    return n;
}

/* Return: bytes; 0: again; -errno. */
static ssize_t recv_some(struct link *link, void *to, size_t len)
{
    ssize_t n;

    if (link->eager && len < sizeof(link->ahead) && !link_look_ahead(link))
        return after_failure(link, link->in, POLLIN);
    if (link_has_ahead(link))
        return (ssize_t)take_ahead(link, to, len);
    if (link->ahead_error)
        return link->ahead_error;
    n = read(link->in, to, len);
    if (n <= 0)
        return n == 0 ? -ECONNRESET : after_failure(link, link->in, POLLIN);
    return n;
}

static int recv_all(struct link *link, void *to, size_t len)
{
    char *at = to;

    if (link->guarded && !link->secured)
        return -ENOTCONN;
    while (len > 0) {
        ssize_t n = link->secured ? tls_recv_some(link, at, len) : recv_some(link, at, len);

        if (n < 0)
            return (int)n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int link_recv_header(struct link *link, struct wire_header *ret_header)
{
    uint8_t bytes[WIRE_HEADER];
    int ret = 0;

    if (link->eager && !link->beside && !link_has_ahead(link))
        ret = link_wait(link, link->in, POLLIN);
    if (ret == 0)
        ret = recv_all(link, bytes, sizeof(bytes));
    if (ret == 0 && !link->tls && !memcmp(bytes, TLS_HELLO, sizeof(TLS_HELLO) - 1))
        return -ENOPROTOOPT;
    if (ret == 0)
        ret = wire_decode(bytes, ret_header);
    if (ret == 0 && ret_header->payload == 0)
        ret = wire_check(ret_header, NULL);
    if (ret == 0)
        atomic_fetch_add(&link->bytes, sizeof(bytes) + ret_header->payload);
    return ret;
}

int link_recv_payload(struct link *link, const struct wire_header *header, void *to)
{
    int ret = recv_all(link, to, header->payload);

    return ret ? ret : wire_check(header, to);
}

int link_recv_page(struct link *link, const struct wire_header *header, void *to,
                   const void **ret_at)
{
    const void *at = to;
    int ret = 0;

    if (link->ahead_end - link->ahead_at >= header->payload) {
        at = link->ahead + link->ahead_at;
        link->ahead_at += header->payload;
    } else {
        ret = recv_all(link, to, header->payload);
    }
    if (ret == 0)
        ret = wire_check(header, at);
    *ret_at = at;
    return ret;
}

void link_settle(const struct link *link, unsigned ms)
{
    const uint64_t until_ns = now_ns() + (uint64_t)ms * 1000000;
    struct pollfd gone = {.fd = link->out};
    int protocol = 0, left = 0;
    socklen_t len = sizeof(protocol);

    if (getsockopt(link->out, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) || protocol != IPPROTO_TCP)
        return;
    while (!ioctl(link->out, SIOCOUTQ, &left) && left > 0 && now_ns() < until_ns) {
        if (poll(&gone, 1, 1) > 0) /* a signal of the program's is no reason to go */
            break;
    }
}

int link_write(struct link *link, const void *bytes, size_t len)
{
    struct iovec part = {(void *)(uintptr_t)bytes, len};

    return send_all(link, &part, 1);
}

int link_read(struct link *link, void *bytes, size_t len)
{
    return recv_all(link, bytes, len);
}

int link_secure(struct link *link, const struct uf_postcopy_tls *tls, char *ret_words, size_t room)
{
    link->guarded = true;
    return tls_start(link, tls, ret_words, room);
}

const char *link_strerror(int error)
{
    switch (error) {
    case -ECONNRESET:
    case -EPIPE:
        return "the other side has closed it";
    case -ECONNABORTED:
        return "it was cut off: its TLS session was not ended";
    case -EKEYREJECTED:
        return "the other side refuses the TLS session";
    case -ETIMEDOUT:
        return "the other side is silent";
    default:
        return strerror(-error);
    }
}
