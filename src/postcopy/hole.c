/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hole.h"

#define SMALL ((size_t)4096)

/* ---- what is asked */

/* The first page from at on of which the file has something, and no further than to count. */
static size_t next_content(const struct holes *holes, size_t page, size_t first, size_t at,
                           size_t count)
{
    const uint64_t from = holes->offset + (first + at) * page;
    const off_t found = lseek(holes->fd, (off_t)from, SEEK_DATA);

    if (found < 0)
        return errno == ENXIO ? count : at; /* nothing up to its end; or who knows */
    if ((uint64_t)found - from >= (count - at) * page)
        return count;
    return at + ((uint64_t)found - from) / page;
}

/*
 * What mincore() shows is there, and it shows all of dense memory by one call; but nothing of what
 * is in swap. So of the rest the file is asked.
 */
static void ask_file(const struct holes *holes, const struct region *region, size_t first,
                     size_t count, bool *ret)
{
    unsigned char shown[HOLES_ASKED] = {0};
    size_t next = 0;

    if (region->page == SMALL)
        uf_syscall(SYS_mincore, region->start + first * SMALL, count * SMALL, shown);
    for (size_t i = 0; i < count; i++) {
        if (i >= next && !(shown[i] & 1))
            next = next_content(holes, region->page, first, i, count);
        ret[i] = i < next && !(shown[i] & 1);
    }
}

/* It maps a page of the file, if the file has one, and makes none. */
static bool lacks(int context, const struct holes *holes, const struct region *region, size_t page)
{
    struct uf_io_continue arg = {
        .range = {.start = (uintptr_t)holes->view + page * region->page, .len = region->page},
        .mode = UF_CONTINUE_MODE_DONTWAKE,
    };

    return uf_context_ioctl(context, UF_IO_CONTINUE, &arg) < 0 && errno == EFAULT;
}

/* Of a huge page its first bytes. Of shared memory no more than a hint. */
static bool shows(const struct region *region, size_t page)
{
    unsigned char shown = 0;

    return uf_syscall(SYS_mincore, region->start + page * region->page, SMALL, &shown) < 0 ||
           shown & 1;
}

bool holes_unknown(const struct uf_source *source, unsigned region)
{
    return !source->holes || source->holes[region].way == HOLES_READ;
}

bool holes_show(const struct uf_source *source, unsigned index, size_t first, size_t count,
                bool *ret)
{
    const struct region *region = &source->peer.regions[index];
    const struct holes *holes = source->holes ? &source->holes[index] : NULL;
    bool any = false;

    memset(ret, 0, count * sizeof(*ret));
    if (holes_unknown(source, index))
        return false;
    if (holes->way == HOLES_FILE)
        ask_file(holes, region, first, count, ret);
    for (size_t i = 0; i < count; i++) {
        if (holes->way == HOLES_OWN)
            ret[i] = !shows(region, first + i);
        if (holes->way == HOLES_VIEW)
            ret[i] =
                !shows(region, first + i) && lacks(source->holes_context, holes, region, first + i);
        any |= ret[i];
    }
    return any;
}

size_t holes_alike(const bool *holes, size_t count)
{
    size_t n = 1;

    while (n < count && holes[n] == holes[0])
        n++;
    return n;
}

/* ---- how it is prepared */

/* The facility takes memory for one context only, so who can register it is alone. */
static bool registers(int context, const char *start, size_t len, uint64_t mode)
{
    struct uf_io_register arg = {.range = {.start = (uintptr_t)start, .len = len}, .mode = mode};

    return uf_context_ioctl(context, UF_IO_REGISTER, &arg) == 0;
}

static bool any_known(const struct uf_source *source)
{
    for (unsigned i = 0; i < source->peer.count; i++) {
        if (!holes_unknown(source, i))
            return true;
    }
    return false;
}

#define WRITES (UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM)

/* With WP_ASYNC, if there is that, memory of any kind can be registered. Return: a context; -errno.
 */
static int open_for_writes(const struct peer *peer)
{
    const int flags = O_CLOEXEC | O_NONBLOCK;
    int context = peer_context(peer, WRITES | UF_FEATURE_WP_ASYNC, flags);

    return context >= 0 ? context : peer_context(peer, WRITES, flags);
}

static void leave_what_is_taken(struct uf_source *source, int context)
{
    const struct peer *peer = &source->peer;

    for (unsigned i = 0; i < peer->count; i++) {
        const struct region *region = &peer->regions[i];

        if (!holes_unknown(source, i) &&
            (context < 0 || !registers(context, region->start, region->len, UF_REGISTER_MODE_WP)))
            source->holes[i].way = HOLES_READ;
    }
}

/*
 * Ours may let a second context have what a first one has registered (UF_EXTENSION_NESTED), but no
 * third one. So it is let have it here, and is the third if there is another first.
 */
static void ask_ours(struct uf_source *source)
{
    struct uf_io_extend nested = {.extensions = UF_EXTENSION_NESTED};
    struct uf_io_api api = {.api = UF_API, .features = WRITES | UF_FEATURE_WP_ASYNC};
    int first = uf_context_open(O_CLOEXEC | O_NONBLOCK, UF_BACKEND_USER);
    int second = open_for_writes(&source->peer);

    if (first >= 0 && (uf_context_ioctl(first, UF_IO_EXTEND, &nested) < 0 ||
                       uf_context_ioctl(first, UF_IO_API, &api) < 0)) {
        uf_context_close(first);
        first = -1;
    }
    leave_what_is_taken(source, first);
    leave_what_is_taken(source, second);
    if (second >= 0)
        uf_context_close(second);
    if (first >= 0)
        uf_context_close(first);
}

/*
 * Memory that somebody else watches is read, as its manager expects. On the kernel's facility it is
 * the tracker that finds out, if there is one; else it stays registered, for to let it go the
 * kernel looks at all of it while nobody's fault goes on, 25 ms a GiB.
 */
static void leave_what_is_watched(struct uf_source *source, bool tracked)
{
    int context = open_for_writes(&source->peer);
    bool is_kernel = context >= 0 && uf_context_backend(context) == UF_BACKEND_KERNEL;

    if (context >= 0 && !is_kernel)
        ask_ours(source);
    else if (!is_kernel || !tracked)
        leave_what_is_taken(source, context);
    if (is_kernel && !tracked)
        source->holes_watch = context;
    else if (context >= 0)
        uf_context_close(context);
}

/* Return: NULL: there can be none. Nobody touches it, and no child has it. */
static char *make_view(const struct holes *holes, const struct region *region)
{
    char *view = holes->fd >= 0 ? mmap(NULL, region->len, PROT_NONE, MAP_SHARED | MAP_NORESERVE,
                                       holes->fd, (off_t)holes->offset)
                                : mremap(region->start, 0, region->len, MREMAP_MAYMOVE);

    if (view == MAP_FAILED)
        return NULL;
    madvise(view, region->len, MADV_DONTFORK);
    madvise(view, region->len, MADV_DONTDUMP);
    return view;
}

/* Of memory without a descriptor our backend does not know what is in swap; the kernel's does. */
static bool tells(int context, const struct holes *holes)
{
    return context >= 0 && (holes->fd >= 0 || uf_context_backend(context) == UF_BACKEND_KERNEL);
}

void holes_begin(struct uf_source *source)
{
    const struct peer *peer = &source->peer;
    bool wanted = false;

    if (!source->holes)
        return;
    for (unsigned i = 0; i < peer->count; i++)
        wanted |= source->holes[i].way == HOLES_VIEW;
    if (wanted)
        source->holes_context = peer_context(
            peer, UF_FEATURE_MINOR_HUGETLBFS | UF_FEATURE_MINOR_SHMEM, O_CLOEXEC | O_NONBLOCK);
    for (unsigned i = 0; i < peer->count; i++) {
        struct holes *holes = &source->holes[i];

        if (holes->way == HOLES_VIEW && tells(source->holes_context, holes))
            holes->view = make_view(holes, &peer->regions[i]);
        if (holes->way == HOLES_VIEW &&
            (!holes->view || !registers(source->holes_context, holes->view, peer->regions[i].len,
                                        UF_REGISTER_MODE_MINOR)))
            holes->way = HOLES_READ;
    }
}

void holes_look(struct uf_source *source, bool tracked)
{
    source->holes_context = source->holes_watch = -1;
    source->holes = calloc(source->peer.count, sizeof(*source->holes));
    if (!source->holes)
        return;
    for (unsigned i = 0; i < source->peer.count; i++)
        source->holes[i].fd = -1;
    holes_find(source);
    if (any_known(source))
        leave_what_is_watched(source, tracked);
}

void holes_end(struct uf_source *source)
{
    for (unsigned i = 0; source->holes && i < source->peer.count; i++) {
        if (source->holes[i].view)
            uf_syscall(SYS_munmap, source->holes[i].view, source->peer.regions[i].len);
        holes_close(&source->holes[i]);
    }
    if (source->holes && source->holes_context >= 0)
        uf_context_close(source->holes_context);
    if (source->holes && source->holes_watch >= 0)
        uf_context_close(source->holes_watch);
    free(source->holes);
    source->holes = NULL;
}
