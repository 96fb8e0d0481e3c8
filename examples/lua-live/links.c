/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "arena.h"
#include "links.h"
#include "net.h"

#define MAGIC    "lualive1"
#define BUILD    20 /* bytes of a build id */
#define LINKS    3  /* control, urgent, and one for the background */
#define PATIENCE 10 /* seconds, for a greeting */

/* First on each link; the other side answers with why not, or with nothing but zeroes. */
struct hello {
    char magic[8];
    unsigned char build[BUILD];
    unsigned char link, zero[3];
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

static int make_hello(size_t heap_bytes, struct hello *ret)
{
    *ret = (struct hello){.magic = MAGIC, .heap_bytes = heap_bytes};
    return dl_iterate_phdr(find_build, ret->build) == 2 ? 0 : -ENOEXEC;
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

/* While they greet; the engine has ways of its own to wait. */
static void be_patient(int fd, int seconds)
{
    const struct timeval patience = {.tv_sec = seconds};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

static int greet(int fd, const struct hello *hello, char why[LINKS_WHY_MAX])
{
    int error;

    be_patient(fd, PATIENCE);
    error = net_send(fd, hello, sizeof(*hello));
    if (!error)
        error = net_recv(fd, why, LINKS_WHY_MAX);
    be_patient(fd, 0);
    why[LINKS_WHY_MAX - 1] = 0;
    if (error)
        snprintf(why, LINKS_WHY_MAX, "greeting the receiver: %s", strerror(-error));
    return error || !why[0] ? error : -ECONNREFUSED;
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

int links_connect(const char *name, size_t heap_bytes, const struct uf_postcopy_tls *tls,
                  struct uf_postcopy_links *ret, char why[LINKS_WHY_MAX])
{
    struct hello hello;
    int error = make_hello(heap_bytes, &hello);

    no_links(ret);
    if (error)
        snprintf(why, LINKS_WHY_MAX, "this program was linked without a build id");
    for (; !error && hello.link < LINKS; hello.link++) {
        int fd = net_connect(name);

        if (fd < 0)
            snprintf(why, LINKS_WHY_MAX, "%.80s: %s", name, strerror(-fd));
        else
            put(ret, hello.link, fd);
        error = fd < 0 ? fd : greet(fd, &hello, why);
    }
    if (error) {
        links_close(ret);
        no_links(ret);
    }
    ret->tls = tls;
    return error;
}

/* Return: 0; -errno, and why, for both. */
static int check(const struct hello *hello, const struct hello *ours, char why[LINKS_WHY_MAX])
{
    if (memcmp(hello->magic, ours->magic, sizeof(ours->magic)) != 0 || hello->link != ours->link)
        snprintf(why, LINKS_WHY_MAX, "this is no greeting of lua-live");
    else if (memcmp(hello->build, ours->build, BUILD) != 0)
        snprintf(why, LINKS_WHY_MAX, "the two sides are not the same build of lua-live");
    else if (!hello->heap_bytes || hello->heap_bytes % ARENA_PAGE ||
             hello->heap_bytes > ARENA_BYTES_MAX)
        snprintf(why, LINKS_WHY_MAX, "a heap of this size cannot be");
    return why[0] ? -EPROTO : 0;
}

static int welcome(int fd, struct hello *ours, char why[LINKS_WHY_MAX])
{
    struct hello hello;
    int error;

    memset(why, 0, LINKS_WHY_MAX);
    be_patient(fd, PATIENCE);
    error = net_recv(fd, &hello, sizeof(hello));
    be_patient(fd, 0);
    if (error) {
        snprintf(why, LINKS_WHY_MAX, "somebody who does not greet: %s", strerror(-error));
        return error;
    }
    error = check(&hello, ours, why);
    ours->heap_bytes = hello.heap_bytes;
    net_send(fd, why, LINKS_WHY_MAX);
    return error;
}

int links_accept(int listener, const struct uf_postcopy_tls *tls, size_t *ret_heap_bytes,
                 struct uf_postcopy_links *ret, char why[LINKS_WHY_MAX])
{
    struct hello ours;
    int error = make_hello(0, &ours);

    no_links(ret);
    if (error)
        snprintf(why, LINKS_WHY_MAX, "this program was linked without a build id");
    for (; !error && ours.link < LINKS; ours.link++) {
        int fd;

        be_patient(listener, ours.link ? PATIENCE : 0); /* for the first as long as it takes */
        fd = net_accept(listener, 0);
        if (fd < 0)
            snprintf(why, LINKS_WHY_MAX, "accept: %s", strerror(-fd));
        else
            put(ret, ours.link, fd);
        error = fd < 0 ? fd : welcome(fd, &ours, why);
    }
    if (error) {
        links_close(ret);
        no_links(ret);
    } else {
        *ret_heap_bytes = ours.heap_bytes;
    }
    ret->tls = tls;
    return error;
}
