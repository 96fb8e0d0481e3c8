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

/* ---- what is asked: of a file */

#define PART ((size_t)64 << 10) /* bytes, on the stack */

static bool is_zero(const char *start, size_t len)
{
    return !start[0] && !memcmp(start, start + 1, len - 1);
}

/*
 * What is read as zeroes may count as a hole, for it is sent as one; read(2) allocates nothing. Of
 * the file's last page it tells no more than what lies within its length, and a mapping has all.
 */
static void ask_by_reading(const struct holes *holes, size_t page, size_t first, size_t count,
                           bool *ret)
{
    char bytes[PART];

    memset(ret, true, count * sizeof(*ret));
    for (size_t at = 0, end = count * page; at < end;) {
        const ssize_t n = pread(holes->fd, bytes, end - at < PART ? end - at : PART,
                                (off_t)(holes->offset + first * page + at));
        const size_t done = n > 0 ? (size_t)n / SMALL * SMALL : 0;

        if (n == 0) /* behind its end */
            break;
        for (size_t i = 0; i < done; i += SMALL)
            ret[(at + i) / page] &= is_zero(bytes + i, SMALL);
        if (!done)
            ret[at / page] = false;
        at += done ? done : SMALL;
    }
}

/* Not in the headers of older systems; from Linux 6.5 on. */
#define CACHESTAT 451

/* Small ones, in memory or in swap; and such as were allocated, and are zeroes. Return: -1: that is
 * not said here. */
static int64_t count_in_file(const struct holes *holes, size_t page, size_t first, size_t count)
{
    const struct {
        uint64_t start, len;
    } range = {holes->offset + first * page, count * page};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } stat = {0};

    return uf_syscall(CACHESTAT, holes->fd, &range, &stat, 0) < 0
               ? -1
               : (int64_t)(stat.cached + stat.evicted);
}

/*
 * Not SEEK_DATA, nor mincore(): a page that the system is moving to another place, or making a part
 * of a huge one, they take for none meanwhile (Linux 6.1). Halved where there are both.
 */
static void ask_by_count(const struct holes *holes, size_t page, size_t first, size_t count,
                         bool *ret)
{
    const int64_t pages = count_in_file(holes, page, first, count);
    const size_t half = count / 2;

    if (pages < 0) {
        ask_by_reading(holes, page, first, count, ret);
    } else if (!pages || count == 1 || (uint64_t)pages >= count * (page / SMALL)) {
        memset(ret, pages == 0, count * sizeof(*ret));
    } else {
        ask_by_count(holes, page, first, half, ret);
        ask_by_count(holes, page, first + half, count - half, ret + half);
    }
}

/* ---- of a second mapping */

/* It maps a page of the file, if the file has one, and makes none. */
static bool lacks(int context, const struct holes *holes, const struct region *region, size_t page)
{
    struct uf_io_continue arg = {
        .range = {.start = (uintptr_t)holes->view + page * region->page, .len = region->page},
        .mode = UF_CONTINUE_MODE_DONTWAKE,
    };

    return uf_context_ioctl(context, UF_IO_CONTINUE, &arg) < 0 && errno == EFAULT;
}

/* ---- and of either, when mincore() shows nothing */

/*
 * What it shows is there, and it shows all of dense memory by one call; but of shared memory
 * nothing of what is in swap. Of a huge page its first bytes. What it cannot say counts as there.
 */
static void look(const struct region *region, size_t first, size_t count, unsigned char *ret_shown)
{
    const size_t each = region->page == SMALL ? count : 1;

    for (size_t at = 0; at < count; at += each) {
        if (uf_syscall(SYS_mincore, region->start + (first + at) * region->page, each * SMALL,
                       ret_shown + at) < 0)
            memset(ret_shown + at, 1, each);
    }
}

/* Of pages that it does not show. */
static void ask(const struct uf_source *source, unsigned index, size_t first, size_t count,
                bool *ret)
{
    const struct region *region = &source->peer.regions[index];
    const struct holes *holes = &source->holes[index];

    if (holes->way == HOLES_FILE)
        ask_by_count(holes, region->page, first, count, ret);
    else
        for (size_t i = 0; i < count; i++)
            ret[i] =
                holes->way == HOLES_OWN || lacks(source->holes_context, holes, region, first + i);
}

bool holes_unknown(const struct uf_source *source, unsigned region)
{
    return !source->holes || source->holes[region].way == HOLES_READ;
}

void holes_show(const struct uf_source *source, unsigned index, size_t first, size_t count,
                bool *ret)
{
    unsigned char shown[HOLES_ASKED];

    memset(ret, 0, count * sizeof(*ret));
    if (holes_unknown(source, index))
        return;
    look(&source->peer.regions[index], first, count, shown);
    for (size_t at = 0, n; at < count; at += n) {
        for (n = 1; at + n < count && (shown[at + n] & 1) == (shown[at] & 1);)
            n++;
        if (!(shown[at] & 1))
            ask(source, index, first + at, n, ret + at);
    }
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
