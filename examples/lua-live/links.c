/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "arena.h"
#include "links.h"
#include "net.h"

#define MAGIC      "lualive3"
#define BUILD      20    /* bytes of a build id */
#define LINKS      3     /* control, urgent, and one for the background */
#define GREETING   LINKS /* a connection of its own, before them */
#define OPENING_MS 2000  /* who connects says at once what he is; strangers hold nobody up */

/* First on each connection, in the clear; the answer is why not, or nothing but zeroes. */
struct opening {
    char magic[8];
    unsigned char link, secure, zero[6];
    uint64_t session; /* of two senders at a time the first is heard */
};

/*
 * What has to be right before anything may move. Where there is a key, who does not have it can
 * neither read nor change it: two builds that were taken for one would end the program.
 */
struct hello {
    unsigned char build[BUILD], zero[4];
    uint64_t heap_bytes;
};

/* ---- the build */

static bool find_note(const char *at, const char *end, unsigned char ret[BUILD])
{
    while (at + sizeof(ElfW(Nhdr)) <= end) {
        const ElfW(Nhdr) *note = (const void *)at;
        const char *name = at + sizeof(*note), *bytes = name + (note->n_namesz + 3) / 4 * 4;

        if (note->n_type == NT_GNU_BUILD_ID && !memcmp(name, "GNU", 4) && note->n_descsz == BUILD) {
            memcpy(ret, bytes, BUILD);
            return true;
        }
        at = bytes + (note->n_descsz + 3) / 4 * 4;
    }
    return false;
}

/* The first object is the program itself. Return: != 0: it was looked at; 1: it has none. */
static int find_build(struct dl_phdr_info *info, size_t size, void *ret)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        const char *start = (const char *)info->dlpi_addr + part->p_vaddr;

        if (part->p_type == PT_NOTE && find_note(start, start + part->p_memsz, ret))
            return 2;
    }
    return 1;
}

static int make_hello(size_t heap_bytes, struct hello *ret, char why[LINKS_WHY_MAX])
{
    *ret = (struct hello){.heap_bytes = heap_bytes};
    if (dl_iterate_phdr(find_build, ret->build) == 2)
        return 0;
    snprintf(why, LINKS_WHY_MAX, "this program was linked without a build id");
    return -ENOEXEC;
}

/* ---- */

static void put(struct uf_postcopy_links *links, unsigned char i, int fd)
{
    struct uf_postcopy_link *all[LINKS] = {&links->control, &links->urgent, &links->background[0]};

    *all[i] = (struct uf_postcopy_link){fd, fd};
}

static void no_links(struct uf_postcopy_links *links)
{
    memset(links, 0, sizeof(*links));
    links->background_count = 1;
    for (unsigned char i = 0; i < LINKS; i++)
        put(links, i, -1);
}

void links_close(const struct uf_postcopy_links *links)
{
    const int all[LINKS] = {links->control.in, links->urgent.in, links->background[0].in};

    for (int i = 0; i < LINKS; i++) {
        if (all[i] >= 0)
            close(all[i]);
    }
}

/* The other side's words, which may go to a terminal. Return: 0: there are none. */
static int heed(char why[LINKS_WHY_MAX])
{
    why[LINKS_WHY_MAX - 1] = 0;
    for (char *at = why; *at; at++)
        *at = *at < ' ' || *at > '~' ? '?' : *at;
    return why[0] ? -ECONNREFUSED : 0;
}

int links_key(const char *file, bool server, struct uf_postcopy_tls **ret, char why[LINKS_WHY_MAX])
{
    const struct uf_postcopy_tls_options who = {
        .server = server, .psk_file = file, .psk_identity = server ? NULL : "lua-live"};
    const char *words = "";
    int error;

    *ret = NULL;
    if (!*file)
        return 0;
    error = uf_postcopy_tls_new(ret, &who, &words);
    if (error)
        snprintf(why, LINKS_WHY_MAX, "%.60s: %.60s", file, words);
    return error;
}

/* ---- who sends */

/* Return: a connection whose opening was welcome; -errno, and why. */
static int open_one(const char *name, unsigned char link, const struct links_terms *terms,
                    unsigned patience_ms, char why[LINKS_WHY_MAX])
{
    const struct opening opening = {
        .magic = MAGIC, .link = link, .secure = terms->tls != NULL, .session = terms->session};
    int fd = net_connect(name, patience_ms), error;

    if (fd < 0) {
        snprintf(why, LINKS_WHY_MAX, "%.80s: %s", name, net_words(fd));
        return fd;
    }
    net_patience(fd, patience_ms);
    error = net_send(fd, &opening, sizeof(opening));
    if (!error)
        error = net_recv(fd, why, LINKS_WHY_MAX);
    net_patience(fd, 0); /* the engine has ways of its own to wait */
    if (error)
        snprintf(why, LINKS_WHY_MAX, "greeting the receiver: %s", net_words(error));
    else
        error = heed(why);
    if (error)
        close(fd);
    return error ? error : fd;
}

static int say_hello(int fd, const struct hello *hello, const struct uf_postcopy_tls *tls,
                     unsigned patience_ms, char why[LINKS_WHY_MAX])
{
    const struct uf_postcopy_link link = {fd, fd};
    struct uf_postcopy_talk *talk;
    int error = uf_postcopy_talk_new(&talk, &link, tls, patience_ms, why, LINKS_WHY_MAX);

    if (error)
        return error;
    error = uf_postcopy_talk_send(talk, hello, sizeof(*hello), patience_ms);
    if (!error)
        error = uf_postcopy_talk_recv(talk, why, LINKS_WHY_MAX, patience_ms);
    uf_postcopy_talk_free(talk);
    if (!error)
        return heed(why);
    snprintf(why, LINKS_WHY_MAX, "greeting the receiver: %s", strerror(-error));
    return error;
}

static int greet(const char *name, const struct links_terms *terms, unsigned patience_ms,
                 char why[LINKS_WHY_MAX])
{
    struct hello hello;
    int error = make_hello(terms->heap_bytes, &hello, why);
    int fd = error ? error : open_one(name, GREETING, terms, patience_ms, why);

    if (fd < 0)
        return fd;
    error = say_hello(fd, &hello, terms->tls, patience_ms, why);
    close(fd);
    return error;
}

static int draw_session(struct links_terms *terms, char why[LINKS_WHY_MAX])
{
    while (!terms->session) {
        if (getrandom(&terms->session, sizeof(terms->session), 0) < 0) {
            snprintf(why, LINKS_WHY_MAX, "a random number: %s", strerror(errno));
            return -errno;
        }
    }
    return 0;
}

int links_connect(const char *name, struct links_terms *terms, unsigned patience_ms,
                  struct uf_postcopy_links *ret, char why[LINKS_WHY_MAX])
{
    int error = draw_session(terms, why);

    if (!error)
        error = greet(name, terms, patience_ms, why);
    no_links(ret);
    for (unsigned char i = 0; !error && i < LINKS; i++) {
        int fd = open_one(name, i, terms, patience_ms, why);

        if (fd >= 0)
            put(ret, i, fd);
        error = fd < 0 ? fd : 0;
    }
    if (error) {
        links_close(ret);
        no_links(ret);
    }
    ret->tls = terms->tls;
    return error;
}

/* ---- who receives */

/* Return: 0: it is welcome; -EPROTO it is not; -ESTALE it is none of the sender's who is known. */
static int check_opening(const struct opening *opening, unsigned char link,
                         const struct links_terms *terms, char why[LINKS_WHY_MAX])
{
    const bool secure = terms->tls != NULL;

    if (memcmp(opening->magic, MAGIC, sizeof(opening->magic)) != 0 || !opening->session)
        snprintf(why, LINKS_WHY_MAX, "this is no greeting of lua-live, or of another build");
    else if (terms->session && opening->session != terms->session)
        snprintf(why, LINKS_WHY_MAX, "another program is on its way to the receiver");
    else if (opening->secure != secure)
        snprintf(why, LINKS_WHY_MAX, "the receiver has %s key, and the sender %s: --key=FILE",
                 secure ? "a" : "no", secure ? "none" : "one");
    else if (opening->link != link)
        snprintf(why, LINKS_WHY_MAX, "this connection is not the next one");
    if (!why[0])
        return 0;
    return terms->session && opening->session != terms->session ? -ESTALE : -EPROTO;
}

/* Somebody has connected. Return: 0: it is the next connection; -errno, and why. */
static int hear_opening(int fd, unsigned char link, struct links_terms *terms,
                        char why[LINKS_WHY_MAX])
{
    struct opening opening;
    int error;

    memset(why, 0, LINKS_WHY_MAX);
    net_patience(fd, OPENING_MS);
    error = net_recv(fd, &opening, sizeof(opening));
    net_patience(fd, 0);
    if (error) {
        snprintf(why, LINKS_WHY_MAX, "somebody who does not greet: %s", net_words(error));
        return error;
    }
    error = check_opening(&opening, link, terms, why);
    net_send(fd, why, LINKS_WHY_MAX);
    if (!error)
        terms->session = opening.session;
    return error;
}

/*
 * Return: a connection that is the next; -errno, and why, for both. Once it is known who sends,
 * others are told to go, and do not matter; when he himself begins anew, so has this side to.
 */
static int welcome(int listener, unsigned char link, struct links_terms *terms,
                   unsigned patience_ms, char why[LINKS_WHY_MAX])
{
    const uint64_t end_ms = net_now_ms() + patience_ms;
    uint64_t now_ms;

    while ((now_ms = net_now_ms()) < end_ms || !patience_ms) {
        const bool known = terms->session != 0;
        int fd, error;

        net_patience(listener, patience_ms ? (unsigned)(end_ms - now_ms) : 0);
        fd = net_accept(listener, 0);
        if (fd < 0) {
            snprintf(why, LINKS_WHY_MAX, "accept: %s", net_words(fd));
            return fd;
        }
        error = hear_opening(fd, link, terms, why);
        if (!error)
            return fd;
        close(fd);
        if (!known || error == -EPROTO)
            return error;
    }
    snprintf(why, LINKS_WHY_MAX, "the sender does not come");
    return -ETIMEDOUT;
}

static void check_hello(const struct hello *hello, const struct hello *ours,
                        char why[LINKS_WHY_MAX])
{
    if (memcmp(hello->build, ours->build, BUILD) != 0)
        snprintf(why, LINKS_WHY_MAX, "the two sides are not the same build of lua-live");
    else if (!hello->heap_bytes || hello->heap_bytes % ARENA_PAGE ||
             hello->heap_bytes > ARENA_BYTES_MAX)
        snprintf(why, LINKS_WHY_MAX, "a heap of this size cannot be");
}

static int hear_hello(int fd, struct hello *ours, const struct uf_postcopy_tls *tls,
                      unsigned patience_ms, char why[LINKS_WHY_MAX])
{
    const struct uf_postcopy_link link = {fd, fd};
    struct uf_postcopy_talk *talk;
    struct hello hello;
    int error = uf_postcopy_talk_new(&talk, &link, tls, patience_ms, why, LINKS_WHY_MAX);

    if (error)
        return error;
    memset(why, 0, LINKS_WHY_MAX);
    error = uf_postcopy_talk_recv(talk, &hello, sizeof(hello), patience_ms);
    if (error) {
        snprintf(why, LINKS_WHY_MAX, "somebody who does not greet: %s", strerror(-error));
    } else {
        check_hello(&hello, ours, why);
        ours->heap_bytes = hello.heap_bytes;
        uf_postcopy_talk_send(talk, why, LINKS_WHY_MAX, patience_ms);
        error = why[0] ? -EPROTO : 0;
    }
    uf_postcopy_talk_free(talk);
    return error;
}

static int be_greeted(int listener, struct links_terms *terms, unsigned patience_ms,
                      char why[LINKS_WHY_MAX])
{
    struct hello ours;
    int error = make_hello(0, &ours, why);
    int fd = error ? error : welcome(listener, GREETING, terms, patience_ms, why);

    if (fd < 0)
        return fd;
    error = hear_hello(fd, &ours, terms->tls, patience_ms ? patience_ms : LINKS_PATIENCE_MS, why);
    close(fd);
    if (!error)
        terms->heap_bytes = ours.heap_bytes;
    return error;
}

int links_accept(int listener, struct links_terms *terms, unsigned patience_ms,
                 struct uf_postcopy_links *ret, char why[LINKS_WHY_MAX])
{
    int error = be_greeted(listener, terms, patience_ms, why);

    no_links(ret);
    for (unsigned char i = 0; !error && i < LINKS; i++) {
        int fd = welcome(listener, i, terms, patience_ms ? patience_ms : LINKS_PATIENCE_MS, why);

        if (fd >= 0)
            put(ret, i, fd);
        error = fd < 0 ? fd : 0;
    }
    if (error) {
        links_close(ret);
        no_links(ret);
    }
    ret->tls = terms->tls;
    return error;
}
