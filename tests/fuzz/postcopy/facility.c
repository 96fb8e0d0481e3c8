/* SPDX-License-Identifier: MIT */
/*
 * The facility, played: it keeps what is present, and takes nothing that lies outside the regions.
 * Nobody is blocked, for nobody touches; what is missing must stay zero until it is filled.
 */
#include "played.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hole.h"
#include "sink.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static struct facility how;
static unsigned calls, open_contexts;
static bool copied_short;
static uint64_t present[REGIONS]; /* a bit a page */
static bool registered[REGIONS];

void facility_reset(const struct facility *wanted)
{
    how = *wanted;
    calls = open_contexts = 0;
    copied_short = false;
    memset(present, 0, sizeof(present));
    memset(registered, 0, sizeof(registered));
}

bool facility_closed(void)
{
    return open_contexts == 0;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

int uf_context_open(int flags, enum uf_backend backend)
{
    int fd = eventfd(how.faults[0] ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);

    MUST(fd >= 0 && flags == (O_CLOEXEC | O_NONBLOCK));
    open_contexts++;
    return fd;
}

int uf_context_close(int fd)
{
    MUST(open_contexts-- > 0);
    return close(fd);
}

/* Each is told once. */
ssize_t uf_context_read(int fd, struct uf_msg *msgs, size_t len_bytes)
{
    uint64_t value;
    size_t n = 0;

    if (read(fd, &value, sizeof(value)) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(how.faults) / sizeof(how.faults[0]) && how.faults[i]; i++) {
        MUST((n + 1) * sizeof(*msgs) <= len_bytes);
        msgs[n] = (struct uf_msg){.event = UF_EVENT_PAGEFAULT};
        msgs[n].arg.pagefault.address = how.faults[i];
        n++;
    }
    return (ssize_t)(n * sizeof(*msgs));
}

int uf_context_backend(int fd)
{
    return how.kernel ? UF_BACKEND_KERNEL : UF_BACKEND_USER;
}

int uf_set_handler(int fd, uf_handler *handler, void *arg)
{
    MUST(!how.kernel);
    return 0;
}

int uf_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    return poll(fds, count, timeout_ms);
}

struct spot {
    unsigned region;
    uint64_t bit;
    size_t page;
};

static struct spot spot_of(uint64_t address)
{
    struct spot spot = {0};

    for (; spot.region < REGIONS; spot.region++) {
        const struct played_region *region = &played_regions[spot.region];

        if (address - (uintptr_t)region->start >= region->len)
            continue;
        spot.page = region->page;
        spot.bit = (uint64_t)1 << (address - (uintptr_t)region->start) / region->page;
        return spot;
    }
    MUST(!"an address of no region");
    return spot;
}

static bool is_zero(uint64_t start, size_t len)
{
    const char *at = (const char *)(uintptr_t)start;

    return !at[0] && !memcmp(at, at + 1, len - 1);
}

/* From page to page until one is there. Return: bytes that were filled; -errno. */
static int64_t fill(uint64_t start, uint64_t len, const char *from)
{
    struct spot spot;

    MUST(memory_inside(start, len));
    for (uint64_t done = 0; done < len; done += spot.page) {
        spot = spot_of(start + done);
        MUST(registered[spot.region]);
        if (present[spot.region] & spot.bit)
            return done ? (int64_t)done : -EEXIST;
        MUST(is_zero(start + done, spot.page));
        if (done && how.short_copies && !copied_short) {
            copied_short = true;
            return (int64_t)done;
        }
        if (from)
            memcpy((char *)(uintptr_t)(start + done), from + done, spot.page);
        else
            memset((char *)(uintptr_t)(start + done), 0, spot.page);
        present[spot.region] |= spot.bit;
    }
    return (int64_t)len;
}

/* As the kernel answers what was done in part. */
static int answer(int64_t done, uint64_t len, int64_t *ret_field)
{
    *ret_field = done;
    if (done == (int64_t)len)
        return 0;
    return fail(done < 0 ? (int)-done : EAGAIN);
}

static int poison(struct uf_io_poison *arg)
{
    struct spot spot;

    MUST(memory_inside(arg->range.start, arg->range.len));
    for (uint64_t done = 0; done < arg->range.len; done += spot.page) {
        spot = spot_of(arg->range.start + done);
        if (present[spot.region] & spot.bit)
            return answer(done ? (int64_t)done : -EEXIST, arg->range.len, &arg->updated);
        MUST(is_zero(arg->range.start + done, spot.page));
        present[spot.region] |= spot.bit;
    }
    return answer((int64_t)arg->range.len, arg->range.len, &arg->updated);
}

static int shake_hands(struct uf_io_api *api)
{
    uint64_t lacking = UF_FEATURE_WP_ASYNC;

    if (how.no_poison)
        lacking |= UF_FEATURE_POISON;
    if (how.no_unpopulated)
        lacking |= UF_FEATURE_WP_UNPOPULATED;
    return api->features & lacking ? fail(EINVAL) : 0;
}

/* What was written before is there. */
static int do_register(const struct uf_io_register *arg)
{
    struct spot spot;

    MUST(memory_inside(arg->range.start, arg->range.len));
    for (uint64_t done = 0; done < arg->range.len; done += spot.page) {
        spot = spot_of(arg->range.start + done);
        registered[spot.region] = true;
        if (!(how.holes && memory_is_hole(spot.region, spot.bit)) &&
            !is_zero(arg->range.start + done, spot.page))
            present[spot.region] |= spot.bit;
    }
    return 0;
}

static int do_ioctl(unsigned long request, void *arg)
{
    struct uf_io_copy *copy = arg;
    struct uf_io_zeropage *zero = arg;
    const struct uf_io_writeprotect *protect = arg;
    const struct uf_io_range *range = arg;

    if (++calls == how.fail_at)
        return fail(how.fail_errno);
    switch (request) {
    case UF_IO_API:
        return shake_hands(arg);
    case UF_IO_REGISTER:
        return do_register(arg);
    case UF_IO_COPY:
        return answer(fill(copy->dst, copy->len, (const char *)(uintptr_t)copy->src), copy->len,
                      &copy->copy);
    case UF_IO_ZEROPAGE:
        return answer(fill(zero->range.start, zero->range.len, NULL), zero->range.len,
                      &zero->zeropage);
    case UF_IO_POISON:
        return poison(arg);
    case UF_IO_WAKE:
        MUST(memory_inside(range->start, range->len));
        return 0;
    case UF_IO_WRITEPROTECT:
        MUST(memory_inside(protect->range.start, protect->range.len));
        return 0;
    default:
        MUST(!"an ioctl that is not played");
        return -1;
    }
}

int uf_context_ioctl(int fd, unsigned long request, void *arg)
{
    int ret;

    pthread_mutex_lock(&lock);
    ret = do_ioctl(request, arg);
    pthread_mutex_unlock(&lock);
    return ret;
}

/* In the place of src/postcopy/hole_find.c: all is there but what memory.c shuts. */
void holes_find(struct uf_source *source)
{
    for (unsigned i = 0; how.holes && i < source->peer.count; i++)
        source->holes[i].way = HOLES_OWN;
}

void holes_close(struct holes *holes)
{
    MUST(!holes->opened);
}

/* In the place of src/postcopy/kind.c. */
int kind_find(struct uf_sink *sink)
{
    for (unsigned i = 0; i < sink->peer.count; i++)
        sink->peer.regions[i].drop = how.keeps_shared ? MADV_REMOVE : MADV_DONTNEED;
    return 0;
}

static long drop(uintptr_t start, size_t len, int advice)
{
    struct spot spot;

    MUST(memory_inside(start, len) && advice == (how.keeps_shared ? MADV_REMOVE : MADV_DONTNEED));
    pthread_mutex_lock(&lock);
    for (size_t at = 0; at < len; at += spot.page) {
        spot = spot_of(start + at);
        present[spot.region] &= ~spot.bit;
    }
    memset((char *)start, 0, len);
    pthread_mutex_unlock(&lock);
    return 0;
}

/* Of huge pages, whose reading may go wrong as well. */
static long populate(uintptr_t start, size_t len)
{
    MUST(memory_inside(start, len) && len && spot_of(start).page > PAGE);
    MUST(start % spot_of(start).page == 0 && len % spot_of(start).page == 0);
    return fail(EINVAL); /* as before Linux 5.14 */
}

static long show(uintptr_t start, size_t len, unsigned char *vec)
{
    MUST(len % PAGE == 0);
    pthread_mutex_lock(&lock);
    for (size_t at = 0; at < len; at += PAGE) { /* small ones, also of a huge page */
        struct spot spot = spot_of(start + at);

        vec[at / PAGE] = how.holes ? !memory_is_hole(spot.region, spot.bit)
                                   : (present[spot.region] & spot.bit) != 0;
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

/* Of what is lost. It stays readable for who looks at it in the end. */
static long deny(uintptr_t start, size_t len, int protection)
{
    long ret;

    MUST(memory_inside(start, len) && len && protection == PROT_NONE);
    MUST(start % spot_of(start).page == 0 && len % spot_of(start).page == 0);
    pthread_mutex_lock(&lock);
    ret = ++calls == how.fail_at ? fail(how.fail_errno) : 0;
    pthread_mutex_unlock(&lock);
    return ret;
}

long uf_syscall(long nr, ...)
{
    va_list args;
    long ret;

    va_start(args, nr);
    if (nr == SYS_madvise) {
        uintptr_t start = (uintptr_t)va_arg(args, char *);
        size_t len = va_arg(args, size_t);
        int advice = va_arg(args, int);

        ret = advice == MADV_POPULATE_WRITE ? populate(start, len) : drop(start, len, advice);
    } else if (nr == SYS_mincore) {
        uintptr_t start = (uintptr_t)va_arg(args, char *);
        size_t len = va_arg(args, size_t);

        ret = show(start, len, va_arg(args, unsigned char *));
    } else if (nr == SYS_mprotect) {
        uintptr_t start = (uintptr_t)va_arg(args, char *);
        size_t len = va_arg(args, size_t);

        ret = deny(start, len, va_arg(args, int));
    } else {
        MUST(nr == SYS_openat); /* the pagemap: not here */
        ret = fail(ENOENT);
    }
    va_end(args);
    return ret;
}
