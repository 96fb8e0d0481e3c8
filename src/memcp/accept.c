/* SPDX-License-Identifier: MIT */
/*
 * The sink's connections: which of the session's links each is, it says first. Several are listened
 * to at a time: one that says nothing holds up nobody.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "links.h"

/* That have not said yet who they are; when one more comes, the first is closed. */
#define CALLERS 32

struct caller {
    int fd;
    uint64_t deadline_ns;
    size_t have; /* bytes */
    struct introduction words;
};

struct desk {
    int listener;
    unsigned patience_ms;
    struct caller callers[CALLERS];
    unsigned count;
};

static void drop(struct desk *desk, unsigned i)
{
    desk->count--;
    memmove(&desk->callers[i], &desk->callers[i + 1], (desk->count - i) * sizeof(desk->callers[0]));
}

static void send_away(int fd)
{
    say("a connection was none of `userfault memcp send', or of another one: closed");
    close(fd);
}

/* Return: 0; -errno of the listener. */
static int take_caller(struct desk *desk)
{
    int fd = accept4(desk->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return errno == EINTR || errno == ECONNABORTED || errno == EAGAIN ? 0 : -errno;
    if (desk->count == CALLERS) {
        send_away(desk->callers[0].fd);
        drop(desk, 0);
    }
    desk->callers[desk->count++] =
        (struct caller){.fd = fd, .deadline_ns = now_ns() + (uint64_t)desk->patience_ms * 1000000};
    return 0;
}

static bool is_good(const struct introduction *words)
{
    return words->magic == MAGIC && words->has_urgent <= 1 &&
           words->background <= UF_POSTCOPY_BACKGROUND_MAX &&
           links_have(words->has_urgent, (unsigned)words->background, words->index);
}

static void decode(struct introduction *words)
{
    uint64_t *all = (uint64_t *)words;

    for (size_t i = 0; i < WORDS(*words); i++)
        all[i] = le64toh(all[i]);
}

/* Return: whether it has said all; -errno: it is to go. */
static int hear(struct caller *caller)
{
    ssize_t n = read(caller->fd, (char *)&caller->words + caller->have,
                     sizeof(caller->words) - caller->have);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n <= 0)
        return n ? -errno : -ECONNRESET;
    caller->have += (size_t)n;
    if (caller->have < sizeof(caller->words))
        return 0;
    decode(&caller->words);
    return is_good(&caller->words) ? 1 : -EPROTO;
}

/* Until somebody says something, or has said nothing for too long. Return: 0; -errno. */
static int wait_for_any(struct desk *desk, uint64_t deadline_ns, struct pollfd fds[1 + CALLERS])
{
    uint64_t until = deadline_ns;
    int n;

    fds[0] = (struct pollfd){.fd = desk->listener, .events = POLLIN};
    for (unsigned i = 0; i < desk->count; i++) {
        fds[1 + i] = (struct pollfd){.fd = desk->callers[i].fd, .events = POLLIN};
        if (!until || desk->callers[i].deadline_ns < until)
            until = desk->callers[i].deadline_ns;
    }
    n = poll(fds, 1 + desk->count, poll_ms(until));
    return n < 0 && errno != EINTR ? -errno : 0;
}

/* The next one that has said who it is. Return: a socket; -ETIMEDOUT; -errno. */
static int next_caller(struct desk *desk, uint64_t deadline_ns, struct introduction *ret)
{
    for (;;) {
        struct pollfd fds[1 + CALLERS];
        int error = wait_for_any(desk, deadline_ns, fds);

        for (unsigned i = desk->count; !error && i-- > 0;) {
            struct caller *caller = &desk->callers[i];
            int said = fds[1 + i].revents ? hear(caller) : 0, fd = caller->fd;

            if (said == 0 && now_ns() < caller->deadline_ns)
                continue;
            *ret = caller->words;
            drop(desk, i);
            if (said > 0) {
                fcntl(fd, F_SETFL, 0);
                return fd;
            }
            send_away(fd);
        }
        if (!error && fds[0].revents)
            error = take_caller(desk);
        if (!error && deadline_ns && now_ns() >= deadline_ns)
            error = -ETIMEDOUT;
        if (error)
            return error;
    }
}

static void close_desk(struct desk *desk)
{
    for (unsigned i = 0; i < desk->count; i++)
        close(desk->callers[i].fd);
}

/* ---- sets of links */

/* One that is to be whole in time, and of one session. */
struct set {
    struct links *links;
    bool again; /* the session is known, and its talk goes on */
    struct introduction first;
    unsigned have;
    uint64_t deadline_ns; /* of the rest */
};

static unsigned count_of(const struct set *set)
{
    return 1 + !set->again + (unsigned)set->first.has_urgent + (unsigned)set->first.background;
}

static void begin_again(struct set *set)
{
    links_close_ends(set->links);
    if (!set->again)
        links_close_talk(set->links);
    set->have = 0;
    set->deadline_ns = 0;
}

/* Of an attempt that the source has given up something may still lie here. */
static bool is_expected(const struct set *set, const struct introduction *words)
{
    const struct links *links = set->links;

    if (set->again && (words->session != links->session || words->attempt <= links->attempt ||
                       words->has_urgent != links->options.has_urgent ||
                       words->background != links->options.background))
        return false;
    return !set->have ||
           (words->session == set->first.session && words->attempt >= set->first.attempt);
}

/* Return: whether it is one of them. */
static bool take(struct set *set, const struct introduction *words, int fd)
{
    struct uf_postcopy_link *link = links_at(set->links, words->index);

    if (!is_expected(set, words))
        return false;
    if (set->have && words->attempt > set->first.attempt)
        begin_again(set);
    if (link->in >= 0)
        return false;
    if (!set->have++) {
        set->first = *words;
        set->deadline_ns = now_ns() + (uint64_t)set->links->options.patience_ms * 1000000;
    }
    address_tune(fd, &set->links->options);
    link->in = link->out = fd;
    return true;
}

/* The source talks instead: it is through with these. */
static bool is_talk(const struct set *set, const struct introduction *words)
{
    return set->again && words->index == TALK && words->session == set->links->session &&
           words->attempt > set->links->attempt;
}

static void take_talk(struct links *links, const struct introduction *words, int fd)
{
    links_close_talk(links);
    address_tune(fd, &links->options);
    links->talk = (struct uf_postcopy_link){fd, fd};
    links->attempt = words->attempt;
}

static uint64_t earlier(uint64_t one, uint64_t other)
{
    return !one || (other && other < one) ? other : one;
}

/* The first connection says of which session they must all be. Return: 0; -errno. */
static int collect(struct desk *desk, struct set *set, uint64_t deadline_ns)
{
    struct introduction words;

    while (!set->have || set->have < count_of(set)) {
        int fd = next_caller(desk, earlier(deadline_ns, set->deadline_ns), &words);

        if (fd == -ETIMEDOUT && (!deadline_ns || now_ns() < deadline_ns)) {
            say("of %u connections %u came: closed", count_of(set), set->have);
            begin_again(set);
        } else if (fd < 0) {
            return fd;
        } else if (is_talk(set, &words)) {
            take_talk(set->links, &words, fd);
            return -ENOTCONN;
        } else if (!take(set, &words, fd)) {
            send_away(fd);
        }
    }
    set->links->session = set->first.session;
    set->links->attempt = set->first.attempt;
    return 0;
}

int links_accept_again(struct links *links, uint64_t deadline_ns)
{
    struct desk desk = {.listener = links->listener, .patience_ms = links->options.patience_ms};
    struct set set = {.links = links, .again = true};
    int ret;

    links_close_ends(links);
    ret = collect(&desk, &set, deadline_ns);
    if (ret)
        links_close_ends(links);
    close_desk(&desk);
    return ret;
}

int links_accept_talk(struct links *links, uint64_t deadline_ns)
{
    struct desk desk = {.listener = links->listener, .patience_ms = links->options.patience_ms};
    const struct set set = {.links = links, .again = true};
    struct introduction words;
    int fd;

    while ((fd = next_caller(&desk, deadline_ns, &words)) >= 0 && !is_talk(&set, &words))
        send_away(fd);
    if (fd >= 0)
        take_talk(links, &words, fd);
    close_desk(&desk);
    return fd < 0 ? fd : 0;
}

/* ---- the first ones */

static int accept_all(struct links *ret)
{
    struct desk desk = {.listener = ret->listener, .patience_ms = ret->options.patience_ms};
    struct set set = {.links = ret};
    int error = collect(&desk, &set, 0);

    close_desk(&desk);
    if (error) {
        say("accepting a connection: %s", strerror(-error));
        return EXIT_FAILED;
    }
    ret->options.has_urgent = set.first.has_urgent;
    ret->options.background = ret->ends.background_count = (unsigned)set.first.background;
    return 0;
}

static int accept_streams(struct links *ret)
{
    struct introduction words;
    int failed = links_standard(ret), err;

    if (failed)
        return failed;
    err = words_recv(&ret->talk, &words, WORDS(words), ret->options.patience_ms);
    if (err == 0 && words.magic == MAGIC && !words.has_urgent && !words.background)
        return 0;
    say("standard input is no `userfault memcp send --to=-'%s%s", err ? ": " : "",
        err ? words_strerror(err) : "");
    return EXIT_FAILED;
}

int links_accept(const char *listen_on, const struct link_options *options, struct links *ret)
{
    const char *path = address_after(listen_on, "unix:"), *host = address_after(listen_on, "tcp:");

    links_clear(ret, options);
    if (strcmp(listen_on, "-") == 0)
        return accept_streams(ret);
    if (!path && !host) {
        say("%s: not unix:PATH, tcp:HOST:PORT or -", listen_on);
        return EXIT_SETUP;
    }
    ret->address = listen_on;
    ret->transport = path ? "a unix socket" : "TCP";
    ret->listener = address_listen(listen_on);
    return ret->listener < 0 ? EXIT_SETUP : accept_all(ret);
}
