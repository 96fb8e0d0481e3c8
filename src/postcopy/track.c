/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "track.h"

/* Not in the headers of older systems. */
#define PAGEMAP_SCAN          0xc0606610ul
#define PAGE_IS_WRITTEN       2u
#define PM_SCAN_WP_MATCHING   1u
#define PM_SCAN_CHECK_WPASYNC 2u

struct scan_run {
    uint64_t start, end, categories;
};

struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAUSE_MS 1 /* from one look to the next, where it cannot be waited */

#define FEATURES (UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM)

/* Return: 0; -errno; -EAGAIN: an event is to be read first. */
static int try_protect(const struct tracker *tracker, const char *start, size_t len, bool on)
{
    struct uf_io_writeprotect arg = {
        .range = {.start = (uintptr_t)start, .len = len},
        .mode = on ? UF_WRITEPROTECT_MODE_WP : 0,
    };

    return uf_context_ioctl(tracker->fd, UF_IO_WRITEPROTECT, &arg) < 0 ? -errno : 0;
}

/* Where somebody else reads what comes, if anything does. */
static int protect(const struct tracker *tracker, const char *start, size_t len, bool on)
{
    int ret;

    do
        ret = try_protect(tracker, start, len, on);
    while (ret == -EAGAIN);
    return ret;
}

/* ---- by messages, and of what is discarded either way */

static void read_messages_locked(struct tracker *tracker);

/*
 * While somebody discards nothing can be protected or opened until that was read, and who reads
 * waits for the lock. So it is read here, and may lead here again: once a thread of the program's.
 */
static int protect_locked(struct tracker *tracker, const char *start, size_t len, bool on)
{
    int ret;

    while ((ret = try_protect(tracker, start, len, on)) == -EAGAIN)
        read_messages_locked(tracker);
    return ret;
}

/* Marked and opened under one lock, the caller's: a collection sees both or neither. */
static void note_write(struct tracker *tracker, uintptr_t address)
{
    unsigned index;
    const struct region *region = peer_region_at(tracker->peer, address, &index);
    size_t page;
    int ret;

    if (!region)
        return;
    page = (address - (uintptr_t)region->start) / region->page;
    bitmap_set(&tracker->written[index], page, 1);
    ret = protect_locked(tracker, region->start + page * region->page, region->page, false);
    if (ret < 0)
        peer_fail(tracker->peer, ret, "opening a page that is written to: %s", strerror(-ret));
}

/* Whether the pagemap tells what is discarded there: of shared and of huge pages it does not, for
 * they stay protected. */
static bool shows_removed(const struct tracker *tracker, unsigned index)
{
    return tracker->pagemap >= 0 && !tracker->shared[index];
}

/*
 * The program discards pages, and their protection with them. It does so when this has been read,
 * so what a collection protects meanwhile may be lost: from now on they count as written each time.
 */
static void note_removed(struct tracker *tracker, uint64_t start, uint64_t end)
{
    const struct peer *peer = tracker->peer;

    for (unsigned i = 0; i < peer->count; i++) {
        const struct region *region = &peer->regions[i];
        uint64_t from = (uintptr_t)region->start, to = from + region->len;
        uint64_t first = start > from ? start : from, last = end < to ? end : to;

        if (first < last && !shows_removed(tracker, i))
            bitmap_set(&tracker->removed[i], (first - from) / region->page,
                       (last - from + region->page - 1) / region->page -
                           (first - from) / region->page);
    }
}

static void read_messages_locked(struct tracker *tracker)
{
    struct uf_msg msgs[16];
    ssize_t n = uf_context_read(tracker->fd, msgs, sizeof(msgs));

    for (ssize_t i = 0; i < n / (ssize_t)sizeof(msgs[0]); i++) {
        if (msgs[i].event == UF_EVENT_PAGEFAULT)
            note_write(tracker, msgs[i].arg.pagefault.address);
        else if (msgs[i].event == UF_EVENT_REMOVE)
            note_removed(tracker, msgs[i].arg.remove.start, msgs[i].arg.remove.end);
    }
}

/*
 * Who discards goes on when this has been read: a collection behind that waits for the lock, and
 * sees it.
 */
static void note_messages(struct tracker *tracker)
{
    pthread_mutex_lock(&tracker->lock);
    read_messages_locked(tracker);
    pthread_mutex_unlock(&tracker->lock);
}

static void *note_writes(void *arg)
{
    struct tracker *tracker = arg;
    struct pollfd fds[2] = {{.fd = tracker->fd, .events = POLLIN},
                            {.fd = tracker->stop_fd, .events = POLLIN}};

    for (;;) {
        if (uf_poll(fds, 2, -1) < 0 && errno != EINTR) {
            peer_fail(tracker->peer, -errno, "waiting for writes: %s", strerror(errno));
            poll(&fds[1], 1, PAUSE_MS); /* whoever writes goes on none the less */
        }
        if (fds[1].revents)
            break;
        note_messages(tracker);
    }
    return NULL;
}

/*
 * Whoever writes or discards waits for this lock, a handler of a signal in this thread as well,
 * which is the program's: none runs meanwhile.
 */
static int collect_noted(struct tracker *tracker, unsigned index, struct bitmap *map, bool again)
{
    const struct region *region = &tracker->peer->regions[index];
    struct bitmap *written = &tracker->written[index];
    size_t first, count, at = 0;
    sigset_t mask;
    int ret = 0;

    peer_lock_quietly(&tracker->lock, &mask);
    while (ret == 0 && (count = bitmap_next(written, at, SIZE_MAX, &first)) > 0) {
        if (again) {
            ret = protect_locked(tracker, region->start + first * region->page,
                                 count * region->page, true);
            bitmap_clear(written, first, count);
        }
        bitmap_set(map, first, count);
        at = first + count;
    }
    peer_unlock_quietly(&tracker->lock, &mask);
    return ret;
}

static void collect_removed(struct tracker *tracker, unsigned index, struct bitmap *map)
{
    size_t first, count, at = 0;
    sigset_t mask;

    if (!tracker->removed)
        return;
    peer_lock_quietly(&tracker->lock, &mask);
    while ((count = bitmap_next(&tracker->removed[index], at, SIZE_MAX, &first)) > 0) {
        bitmap_set(map, first, count);
        at = first + count;
    }
    peer_unlock_quietly(&tracker->lock, &mask);
}

static int start_notes(struct tracker *tracker)
{
    const struct peer *peer = tracker->peer;
    int ret = 0;

    tracker->written = calloc(peer->count, sizeof(*tracker->written));
    tracker->removed = calloc(peer->count, sizeof(*tracker->removed));
    if (!tracker->written || !tracker->removed)
        return -ENOMEM;
    for (unsigned i = 0; ret == 0 && i < peer->count; i++) {
        size_t pages = peer->regions[i].len / peer->regions[i].page;

        ret = bitmap_init(&tracker->removed[i], pages);
        if (ret == 0 && tracker->pagemap < 0)
            ret = bitmap_init(&tracker->written[i], pages);
    }
    tracker->stop_fd = ret ? -1 : eventfd(0, EFD_CLOEXEC);
    if (ret == 0 && tracker->stop_fd < 0)
        ret = -errno;
    if (ret == 0)
        ret = peer_thread(&tracker->thread, note_writes, tracker);
    if (ret && tracker->stop_fd >= 0) {
        close(tracker->stop_fd);
        tracker->stop_fd = -1;
    }
    return ret;
}

/* ---- by the pagemap */

static int collect_scanned(struct tracker *tracker, unsigned index, struct bitmap *map, bool again)
{
    const struct region *region = &tracker->peer->regions[index];
    const uintptr_t base = (uintptr_t)region->start;
    struct scan_run runs[512];
    struct scan arg = {
        .size = sizeof(arg),
        .flags = (again ? PM_SCAN_WP_MATCHING : 0) | PM_SCAN_CHECK_WPASYNC,
        .start = base,
        .end = base + region->len,
        .vec = (uintptr_t)runs,
        .vec_len = sizeof(runs) / sizeof(runs[0]),
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };

    while (arg.start < arg.end) {
        long n = uf_syscall(SYS_ioctl, tracker->pagemap, PAGEMAP_SCAN, &arg);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        for (long i = 0; i < n; i++) {
            size_t first = (runs[i].start - base) / region->page;
            size_t end = (runs[i].end - base + region->page - 1) / region->page;

            bitmap_set(map, first, end - first);
        }
        arg.start = arg.walk_end;
    }
    return 0;
}

/* ---- either */

static void note_shared(const struct tracker *tracker, uintptr_t start, uintptr_t end)
{
    for (unsigned i = 0; i < tracker->peer->count; i++) {
        const struct region *region = &tracker->peer->regions[i];

        if ((uintptr_t)region->start < end && start < (uintptr_t)region->start + region->len)
            tracker->shared[i] = true;
    }
}

/* Return: 0; -ENOMEM. */
static int find_shared(struct tracker *tracker)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    bool begins = true; /* a line; the end of a long one tells nothing */
    char line[256];

    tracker->shared = calloc(tracker->peer->count, sizeof(*tracker->shared));
    for (unsigned i = 0; tracker->shared && i < tracker->peer->count; i++)
        tracker->shared[i] = !maps || tracker->peer->regions[i].page > 4096;
    for (; tracker->shared && maps && fgets(line, sizeof(line), maps);
         begins = strchr(line, '\n') != NULL) {
        unsigned long long start, end;
        char share;

        if (begins && sscanf(line, "%llx-%llx %*1c%*1c%*1c%c", &start, &end, &share) == 3 &&
            share == 's')
            note_shared(tracker, (uintptr_t)start, (uintptr_t)end);
    }
    if (maps)
        fclose(maps);
    return tracker->shared ? 0 : -ENOMEM;
}

static bool any_shared(const struct tracker *tracker)
{
    for (unsigned i = 0; i < tracker->peer->count; i++) {
        if (tracker->shared[i])
            return true;
    }
    return false;
}

/* A place without a page cannot be protected everywhere: have one, of zeroes. Of shared memory and
 * huge pages it can, and each would be allocated. */
static void populate(const struct region *region)
{
    for (size_t at = 0; at < region->len; at += region->page)
        (void)*(volatile char *)(region->start + at);
}

static int watch_region(const struct tracker *tracker, unsigned index, bool unpopulated)
{
    const struct region *region = &tracker->peer->regions[index];
    struct uf_io_register arg = {
        .range = {.start = (uintptr_t)region->start, .len = region->len},
        .mode = UF_REGISTER_MODE_WP,
    };

    if (!unpopulated && !tracker->shared[index])
        populate(region);
    if (uf_context_ioctl(tracker->fd, UF_IO_REGISTER, &arg) < 0)
        return -errno;
    return protect(tracker, region->start, region->len, true);
}

/* Return: a context, and which of the ways it offers; -errno. */
static int open_context(struct tracker *tracker, bool *ret_unpopulated)
{
    const int flags = O_CLOEXEC | O_NONBLOCK;
    uint64_t best = FEATURES | UF_FEATURE_WP_UNPOPULATED;
    uint64_t removed = any_shared(tracker) ? UF_FEATURE_EVENT_REMOVE : 0;
    int fd;

    *ret_unpopulated = true;
    tracker->pagemap =
        (int)uf_syscall(SYS_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    fd = tracker->pagemap < 0
             ? -1
             : peer_context(tracker->peer, best | removed | UF_FEATURE_WP_ASYNC, flags);
    if (fd >= 0)
        return fd;
    if (tracker->pagemap >= 0)
        close(tracker->pagemap);
    tracker->pagemap = -1;
    fd = peer_context(tracker->peer, best | UF_FEATURE_EVENT_REMOVE, flags);
    if (fd != -EINVAL)
        return fd;
    *ret_unpopulated = false;
    return peer_context(tracker->peer, FEATURES | UF_FEATURE_EVENT_REMOVE, flags);
}

int tracker_start(struct tracker *tracker, struct peer *peer)
{
    bool unpopulated = false;
    int ret;

    memset(tracker, 0, sizeof(*tracker));
    tracker->peer = peer;
    tracker->stop_fd = -1;
    pthread_mutex_init(&tracker->lock, NULL);
    tracker->fd = tracker->pagemap = -1;
    ret = find_shared(tracker);
    if (ret == 0)
        tracker->fd = ret = open_context(tracker, &unpopulated);
    ret = ret < 0 ? ret : 0;
    if (ret == 0 && (tracker->pagemap < 0 || any_shared(tracker)))
        ret = start_notes(tracker);
    for (unsigned i = 0; ret == 0 && i < peer->count; i++)
        ret = watch_region(tracker, i, unpopulated);
    if (ret < 0) {
        peer_fail(peer, ret, "watching the regions for writes: %s", strerror(-ret));
        tracker_stop(tracker);
    }
    return ret;
}

/* again: from now on further writes to them are noticed, too. */
static int collect(struct tracker *tracker, struct bitmap *maps, bool again)
{
    struct peer *peer = tracker->peer;
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < peer->count; i++) {
        ret = tracker->pagemap >= 0 ? collect_scanned(tracker, i, &maps[i], again)
                                    : collect_noted(tracker, i, &maps[i], again);
        collect_removed(tracker, i, &maps[i]);
    }
    return ret < 0 ? peer_fail(peer, ret, "asking which pages were written: %s", strerror(-ret))
                   : 0;
}

int tracker_collect(struct tracker *tracker, struct bitmap *maps)
{
    return collect(tracker, maps, true);
}

int tracker_look(struct tracker *tracker, struct bitmap *maps)
{
    return collect(tracker, maps, false);
}

void tracker_stop(struct tracker *tracker)
{
    if (tracker->stop_fd >= 0) {
        peer_ring(tracker->stop_fd);
        pthread_join(tracker->thread, NULL);
        close(tracker->stop_fd);
    }
    for (unsigned i = 0; tracker->written && i < tracker->peer->count; i++)
        bitmap_fini(&tracker->written[i]);
    for (unsigned i = 0; tracker->removed && i < tracker->peer->count; i++)
        bitmap_fini(&tracker->removed[i]);
    free(tracker->written);
    free(tracker->removed);
    free(tracker->shared);
    if (tracker->pagemap >= 0)
        close(tracker->pagemap);
    if (tracker->fd >= 0)
        uf_context_close(tracker->fd); /* who waits goes on */
    pthread_mutex_destroy(&tracker->lock);
    tracker->written = tracker->removed = NULL;
    tracker->shared = NULL;
    tracker->fd = tracker->pagemap = tracker->stop_fd = -1;
}
