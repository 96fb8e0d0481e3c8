/* SPDX-License-Identifier: MIT */
/*
 * A link and its session by themselves, as two programs use them beside a migration: what goes
 * wrong below a session keeps its name, and the descriptors are in the end as they were.
 *
 *     talk none FOLDER    of keys for TLS, as tests/keys.sh makes them
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#define WORDS 200

static const char *dir;
static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

/* ---- in libc's place: a descriptor that fails, from its so manieth call on */

static struct {
    _Atomic int fd; /* 0: none */
    int error;
    _Atomic int after;
} broken;

static bool is_broken(int fd)
{
    return fd == atomic_load(&broken.fd) && fd && atomic_fetch_sub(&broken.after, 1) <= 0;
}

static void break_link(int fd, int error, int after)
{
    broken.error = error;
    atomic_store(&broken.after, after);
    atomic_store(&broken.fd, fd);
}

ssize_t read(int fd, void *to, size_t len)
{
    static ssize_t (*_Atomic next)(int, void *, size_t);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "read");
    if (is_broken(fd)) {
        errno = broken.error;
        return -1;
    }
    return next(fd, to, len);
}

ssize_t send(int fd, const void *from, size_t len, int flags)
{
    static ssize_t (*_Atomic next)(int, const void *, size_t, int);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "send");
    if (is_broken(fd)) {
        errno = broken.error;
        return -1;
    }
    return next(fd, from, len, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    static ssize_t (*_Atomic next)(int, const struct msghdr *, int);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "sendmsg");
    if (is_broken(fd)) {
        errno = broken.error;
        return -1;
    }
    return next(fd, msg, flags);
}

/* ---- two ends, of which the server's is a thread's */

struct end {
    int fd, ret;
    struct uf_postcopy_tls *tls;
    struct uf_postcopy_talk *talk;
    char words[WORDS];
};

static void *open_end(void *arg)
{
    struct end *end = arg;
    const struct uf_postcopy_link link = {end->fd, end->fd};

    end->ret = uf_postcopy_talk_new(&end->talk, &link, end->tls, 0, end->words, sizeof(end->words));
    if (end->ret)
        shutdown(end->fd, SHUT_RDWR); /* the other one waits */
    return NULL;
}

static struct uf_postcopy_tls *load(bool server, const char *file)
{
    char path[4096];
    const struct uf_postcopy_tls_options options = {
        .server = server, .psk_file = path, .psk_identity = server ? NULL : "migration"};
    struct uf_postcopy_tls *tls;
    const char *words;

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    if (uf_postcopy_tls_new(&tls, &options, &words)) {
        printf("Bail out! %s\n", words);
        exit(1);
    }
    return tls;
}

static void make_ends(struct end ends[2], const char *file)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        abort();
    for (int i = 0; i < 2; i++)
        ends[i] = (struct end){.fd = fds[i], .tls = load(i == 1, file)};
}

/* The client is the first. */
static void shake_hands(struct end ends[2])
{
    pthread_t server;

    if (pthread_create(&server, NULL, open_end, &ends[1]))
        abort();
    open_end(&ends[0]);
    pthread_join(server, NULL);
}

static void close_ends(struct end ends[2])
{
    for (int i = 0; i < 2; i++) {
        if (!ends[i].ret)
            uf_postcopy_talk_free(ends[i].talk);
        uf_postcopy_tls_free(ends[i].tls);
        close(ends[i].fd);
    }
}

/* ---- */

/* As a TCP link says it that is cut. */
static void check_silence(void)
{
    struct end ends[2];
    char byte = 'x';
    int reads, writes;

    make_ends(ends, "psk");
    shake_hands(ends);
    break_link(ends[0].fd, ETIMEDOUT, 0);
    reads = uf_postcopy_talk_recv(ends[0].talk, &byte, 1, 0);
    break_link(ends[1].fd, ETIMEDOUT, 0);
    writes = uf_postcopy_talk_send(ends[1].talk, &byte, 1, 0);
    break_link(0, 0, 0);
    point(!ends[0].ret && !ends[1].ret && reads == -ETIMEDOUT,
          "who is silent within a session is silent, to who reads");
    point(writes == -ETIMEDOUT, "and to who writes");
    close_ends(ends);
}

/* Wherever it breaks: of the link it is said, in the system's words, and nothing else. */
static void check_words(int side, int error, const char *words)
{
    bool named = true, worded = true;
    int after = 0;
    char name[128];

    for (struct end ends[2];; after++) {
        bool whole;

        make_ends(ends, "psk");
        break_link(ends[side].fd, error, after);
        shake_hands(ends);
        break_link(0, 0, 0);
        whole = !ends[side].ret;
        if (!whole) {
            printf("# call %d: %d, %s\n", after, ends[side].ret, ends[side].words);
            named &= ends[side].ret == -error;
            worded &= strstr(ends[side].words, words) != NULL;
        }
        close_ends(ends);
        if (whole)
            break;
    }
    snprintf(name, sizeof(name), "a %s whose link breaks while hands are shaken says so: %s",
             side ? "server" : "client", words);
    point(after > 3 && named && worded, name);
}

/* The server's file is read again for each session. */
static void check_file_gone(void)
{
    static const char key[] = "migration:00112233445566778899aabbccddeeff\n";
    struct end ends[2];
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/psk-gone", dir);
    file = fopen(path, "we");
    if (!file || fputs(key, file) < 0 || fclose(file))
        abort();
    make_ends(ends, "psk-gone");
    unlink(path);
    shake_hands(ends);
    printf("# %d, %s\n", ends[1].ret, ends[1].words);
    point(ends[1].ret < 0 && strstr(ends[1].words, strerror(ENOENT)),
          "a file of keys that is gone is not one without the key");
    close_ends(ends);
}

/* One socket under two numbers. */
static void check_restored(void)
{
    struct uf_postcopy_talk *talk;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), timeout = -1, alive = -1, ret;
    socklen_t len = sizeof(timeout);
    char words[WORDS];
    struct uf_postcopy_link link = {fd, dup(fd)};

    if (fd < 0 || link.out < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)))
        abort();
    ret = uf_postcopy_talk_new(&talk, &link, NULL, 5000, words, sizeof(words));
    uf_postcopy_talk_free(talk);
    point(ret == 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK),
          "a socket under two numbers is as it was: it blocks");
    getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, &len);
    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &len);
    point(timeout == 0 && alive == 0, "and waits as long as it did");
    close(link.out);
    close(fd);
}

int main(int argc, char **argv)
{
    const struct uf_postcopy_tls_options none = {.server = true};
    struct uf_postcopy_tls *tls;
    const char *words;

    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3)
        return 2;
    dir = argv[2];
    check_restored();
    if (uf_postcopy_tls_new(&tls, &none, &words) == -EOPNOTSUPP) {
        printf("1..%d # %s\n", points, words);
        return failed;
    }
    check_silence();
    for (int side = 0; side < 2; side++) {
        check_words(side, ETIMEDOUT, "the other side is silent");
        check_words(side, EHOSTUNREACH, strerror(EHOSTUNREACH));
    }
    check_file_gone();
    printf("1..%d\n", points);
    return failed;
}
