/* SPDX-License-Identifier: MIT */
/*
 * Differences that are as they should be. Each is a row of userfault(7)'s table of differences.
 *
 * A rule is a pair of shell patterns, for a line of the kernel's trace and the line of ours that
 * stands in its place, and what must have gone before in the sequence for its reason to apply. All
 * that went before is alike on both sides.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "known.h"

#define PAGE   4096
#define FAR    (64 * page_bytes) /* beyond the arena, from wherever in it */
#define AROUND 16                /* pages that a fault of a read may map: fault_around_bytes */

static unsigned long long page_bytes; /* that the sequence counts in: some count in huge pages */

/* What a line says: the operation that it is about, and the pages of the arena that this is. */
struct event {
    const char *line;
    int op;
    char name[24];
    int first, end; /* -1: none */
};

struct story {
    const char *const *lines; /* the kernel's, before the two that differ */
    size_t count;
    const char *kernel, *ours;
    struct event op; /* the line with which their operation began */
};

static unsigned long long number_after(const char *line, const char *word)
{
    const char *at = strstr(line, word);

    return at ? strtoull(at + strlen(word), NULL, 0) : 0;
}

/* A length, in pages or in bytes; what is beyond the arena is FAR. */
static int pages_after(const char *line, const char *word)
{
    const char *at = strstr(line, word);
    unsigned long long bytes;
    char *rest;

    if (!at)
        return 0;
    bytes = strtoull(at + strlen(word), &rest, 0);
    bytes = *rest == 'p' && bytes < FAR ? bytes * page_bytes : bytes;
    return (int)((bytes < FAR ? bytes + page_bytes - 1 : FAR) / page_bytes);
}

static bool parse(const char *line, struct event *ret)
{
    const char *at, *len;
    char *rest;

    *ret = (struct event){.line = line, .first = -1, .end = -1};
    if (sscanf(line, "%d %23s", &ret->op, ret->name) != 2)
        return false;
    at = !fnmatch("* mmap * = E*", line, 0) ? NULL : strchr(line, '@'); /* nothing happened */
    if (at) {
        unsigned long long off = 0, bytes = !strcmp(ret->name, "touch") ? 1 : 0;

        ret->first = (int)strtol(at + 1, &rest, 10);
        if (*rest == '+')
            off = strtoull(rest + 1, NULL, 0);
        len = strstr(line, " len=");
        if (len) {
            bytes = strtoull(len + 5, &rest, 0);
            bytes *= *rest == 'p' ? page_bytes : 1;
            bytes = bytes > FAR ? FAR : bytes; /* to the end, or nonsense */
        }
        ret->end = ret->first + (int)((off + bytes + page_bytes - 1) / page_bytes);
        ret->end += !fnmatch("* touch cross *", line, 0);
    }
    return true;
}

static bool covers(const struct event *event, int page)
{
    return event->first <= page && event->end > page;
}

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++) {
        if (!strcmp(name, *names))
            return true;
    }
    return false;
}

/* "... = 0 copy=4096", "... = EAGAIN mapped=4096", "... = EEXIST updated=-17": bytes done. */
static long long bytes_done(const char *line)
{
    const char *at = strrchr(line, '=');
    long long done = at ? strtoll(at + 1, NULL, 10) : 0;

    return done > 0 ? done : 0;
}

/* ---- whether two mappings are one */

/* Whether part of the event's range was written to before, page by page: what moves keeps that. */
static bool written(const struct story *story, size_t before, const struct event *event)
{
    for (size_t i = 0; i < before; i++) {
        struct event e;

        if (parse(story->lines[i], &e) && covers(event, e.first) &&
            (!fnmatch("* touch write *", e.line, 0) || !fnmatch("* touch rmw *", e.line, 0)))
            return true;
    }
    return false;
}

/* A border within what mremap moved to `to`, if only as far as it came: it lies there now. */
static bool carried_between(const struct story *story, const struct event *move, int to, int first,
                            int end)
{
    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (!parse(story->lines[i], &e))
            continue;
        for (int n = 0; n < 2; n++) {
            int border = n ? e.end : e.first, there = to + border - move->first;

            if (border > move->first && border < move->end && there > first && there < end)
                return true;
        }
    }
    return false;
}

/* A place within (first, end) where a mapping began or ended, or changed. */
static bool border_between(const struct story *story, int first, int end)
{
    static const char *const names[] = {
        "mmap",  "munmap",  "mremap",          "mprotect",          "madvise",
        "mlock", "munlock", "UFFDIO_REGISTER", "UFFDIO_UNREGISTER", "ioctl-pointer",
        NULL};

    for (size_t i = 0; i < story->count; i++) {
        struct event e;
        int other;

        if (!parse(story->lines[i], &e) || !is_one_of(e.name, names))
            continue;
        if ((e.first > first && e.first < end) || (e.end > first && e.end < end))
            return true;
        if (strcmp(e.name, "mremap") != 0)
            continue;
        other = (int)number_after(strstr(e.line, " flags="), "@");
        if (other > first && other < end)
            return true;
        if (first >= other && written(story, i, &e))
            return first < other + pages_after(e.line, " to=");
        if (carried_between(story, &e, other, first, end))
            return true;
        other += pages_after(e.line, " to=");
        if (other > first && other < end)
            return true;
    }
    return false;
}

/* Of hugetlb nothing ever merges. */
static bool may_merge(const struct story *story)
{
    bool huge = page_bytes > PAGE;

    for (size_t i = 0; page_bytes > PAGE && i < story->count; i++) {
        struct event e;

        if (parse(story->lines[i], &e) && covers(&e, story->op.first) && !strcmp(e.name, "mmap"))
            huge = fnmatch("*mmap anon *", e.line, 0) != 0;
    }
    return !huge;
}

static bool border_inside(const struct story *story)
{
    return may_merge(story) && border_between(story, story->op.first, story->op.end);
}

/* Or within its source. */
static bool border_of_move(const struct story *story)
{
    int src = (int)number_after(story->op.line, " src=@");

    return border_inside(story) ||
           border_between(story, src, src + story->op.end - story->op.first);
}

/* ---- what a read maps besides its page, in ranges with write protection alone */

static bool of_file(const char *line)
{
    return !fnmatch("*mmap memfd-*", line, 0) || !fnmatch("*mmap shared-anon *", line, 0) ||
           !fnmatch("*mmap zero-shared *", line, 0);
}

static bool reads(const struct event *event)
{
    static const char *const names[] = {"mlock", "sys-write", "sys-pwrite", NULL};

    return is_one_of(event->name, names) || !fnmatch("* touch read *", event->line, 0) ||
           !fnmatch("* touch cross *", event->line, 0) ||
           !fnmatch("* madvise *arg=2[23] *", event->line, 0);
}

static bool reads_near(const struct event *event, int page)
{
    int first = event->first, end = event->end, start;

    if (strstr(event->line, " src=arena@")) {
        first = (int)number_after(event->line, " src=arena@");
        end += first - event->first;
    } else if (!reads(event)) {
        return false;
    }
    /* So many from there on, or from where the mapping begins. */
    start = first / AROUND * AROUND;
    return page >= start && page < end - 1 + AROUND && !(first == page && end == page + 1);
}

/* The operation that read near the page while writes alone were reported there; -1: none. */
static int read_beside(const struct story *story, int page)
{
    bool file = false, wp = false;

    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (!parse(story->lines[i], &e))
            continue;
        if (covers(&e, page) && !strcmp(e.name, "mmap")) {
            file = of_file(e.line);
            wp = false;
        }
        wp |= covers(&e, page) && !fnmatch("*UFFDIO_REGISTER*mode=0x2 = 0*", e.line, 0);
        if (file && wp && reads_near(&e, page))
            return e.op;
    }
    return -1;
}

/* Of the page at which ours stopped, because it is mapped, the kernel says that it is not. */
static bool mapped_around(const struct story *story)
{
    int page = story->op.first + (int)((unsigned long long)bytes_done(story->ours) / page_bytes);

    return bytes_done(story->kernel) > bytes_done(story->ours) && read_beside(story, page) >= 0;
}

/* ---- calls that write to a file, of memory that goes while they wait */

/* Whether any of it went while the call waited. */
static bool memory_goes(const struct story *story)
{
    static const char *const names[] = {"mmap",    "munmap",    "mremap",    "mprotect",
                                        "madvise", "ftruncate", "fallocate", NULL};

    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (parse(story->lines[i], &e) && e.op > story->op.op && is_one_of(e.name, names) &&
            (e.first < 0 || (e.first < story->op.end && e.end > story->op.first)))
            return true;
    }
    return false;
}

/* The kernel stops at the beginning of a page of the file, ours at the page that went. */
static bool stops_earlier(const struct story *story)
{
    const char *kernel = strstr(story->kernel, " = "), *ours = strstr(story->ours, " = ");
    unsigned long long more = strtoull(ours + 3, NULL, 10);
    unsigned long long less = strcmp(kernel, " = EFAULT") ? strtoull(kernel + 3, NULL, 10) : 0;

    return less % PAGE == 0 && less < more && memory_goes(story);
}

/* ---- pages of zeroes */

/* Whether the operation filled the page. */
static bool filled(const struct event *event, const char *name, int page)
{
    return !strcmp(event->name, name) && event->first <= page &&
           event->first + (int)((unsigned long long)bytes_done(event->line) / page_bytes) > page;
}

static bool zeroed(const struct story *story, int page)
{
    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (parse(story->lines[i], &e) && filled(&e, "UFFDIO_ZEROPAGE", page))
            return true;
    }
    return false;
}

/* Of which file what page is mapped there; -1: none. */
struct place {
    int file, page;
};

static struct place place_of(const struct story *story, size_t before, int page)
{
    struct place place = {-1, -1};

    for (size_t i = 0; i < before; i++) {
        struct event e;

        if (!parse(story->lines[i], &e) || strcmp(e.name, "mmap") != 0 || !covers(&e, page))
            continue;
        place.file = !fnmatch("*mmap memfd-* m*", e.line, 0)
                         ? (int)number_after(strstr(e.line, "mmap memfd-"), " m")
                         : -1;
        place.page = (int)number_after(e.line, " off=") + page - e.first;
    }
    return place;
}

/* A private mapping of a file that was allocated: what COPY and ZEROPAGE wrote has read the page.
 */
static bool file_read(const struct story *story, int page)
{
    struct place place = place_of(story, story->count, page);
    bool allocated = false;

    for (size_t i = 0; i < story->count && place.file >= 0; i++) {
        struct event e;

        if (!parse(story->lines[i], &e))
            continue;
        allocated |= !fnmatch("* fallocate *arg=[01] *", e.line, 0);
        for (int at = e.first; allocated && at >= 0 && at < e.end; at++) {
            struct place other = place_of(story, i, at);

            if ((filled(&e, "UFFDIO_COPY", at) || filled(&e, "UFFDIO_ZEROPAGE", at)) &&
                other.file == place.file && other.page == place.page)
                return true;
        }
    }
    return false;
}

/* Ours stopped at a page that is mapped, since another one was read and the file had both. */
static bool file_read_around(const struct story *story)
{
    int page = story->op.first + (int)((unsigned long long)bytes_done(story->ours) / page_bytes);
    bool near = false;

    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        near |= parse(story->lines[i], &e) && reads_near(&e, page);
    }
    return near && bytes_done(story->kernel) > bytes_done(story->ours) && file_read(story, page);
}

/* Two answers of mincore, in which only @side says of some pages that they are there: all such. */
static bool only_there(const struct story *story, const char *side,
                       bool (*such)(const struct story *story, int page))
{
    const char *kernel = strstr(story->kernel, " = 0"), *ours = strstr(story->ours, " = 0");
    int page = story->op.first;

    if (!kernel || !ours)
        return false;
    for (kernel += 4, ours += 4; *kernel && *ours; page++) {
        long of_kernel = strtol(kernel, (char **)&kernel, 10);
        long of_ours = strtol(ours, (char **)&ours, 10);
        long more = side == story->kernel ? of_kernel - of_ours : of_ours - of_kernel;

        if (more && (more < 0 || !such(story, page)))
            return false;
    }
    return *kernel == *ours;
}

static bool file_was_read(const struct story *story)
{
    return only_there(story, story->ours, file_read);
}

static bool zeroes_gone(const struct story *story)
{
    return only_there(story, story->kernel, zeroed);
}

/* Before the process forked, the page was read. */
static bool only_read(const struct story *story, int page)
{
    bool read = false;

    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (!fnmatch("[0-9]* divide*", story->lines[i], 0))
            return read;
        if (parse(story->lines[i], &e) && covers(&e, page))
            read |= reads(&e);
    }
    return false;
}

static bool read_before_fork(const struct story *story)
{
    return only_there(story, story->kernel, only_read) || only_there(story, story->ours, only_read);
}

/* The page of the source at which the kernel stopped. */
static bool source_read_before_fork(const struct story *story)
{
    int src = (int)number_after(story->op.line, " src=@");

    return only_read(story,
                     src + (int)((unsigned long long)bytes_done(story->kernel) / page_bytes));
}

/* ---- huge pages */

/* Ours stopped at a page of a private mapping of a file, which the kernel gave content. */
static bool beyond_end(const struct story *story)
{
    int page = story->op.first + (int)((unsigned long long)bytes_done(story->ours) / page_bytes);
    bool private = false;

    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (parse(story->lines[i], &e) && covers(&e, page) && !strcmp(e.name, "mmap"))
        private = !fnmatch("*mmap memfd-private *", e.line, 0);
    }
    return private && page_bytes > PAGE && bytes_done(story->kernel) > bytes_done(story->ours);
}

static bool huge(const struct story *story)
{
    return page_bytes > PAGE;
}

static bool huge_file(const struct story *story, int page)
{
    bool file = false;

    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (parse(story->lines[i], &e) && covers(&e, page) && !strcmp(e.name, "mmap"))
            file = !fnmatch("*mmap memfd-*", e.line, 0) || !fnmatch("*mmap sysv *", e.line, 0) ||
                   !fnmatch("*mmap huge-shared *", e.line, 0);
    }
    return file && page_bytes > PAGE;
}

static bool table_made(const struct story *story)
{
    return only_there(story, story->ours, huge_file);
}

/* ---- what a file has, where minor faults are not reported */

static bool not_minor(const struct story *story)
{
    long long kernel = bytes_done(story->kernel), ours = bytes_done(story->ours);
    long long less = kernel < ours ? kernel : ours;
    int page = story->op.first + (int)((unsigned long long)less / page_bytes);
    bool plain = false;

    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (parse(story->lines[i], &e) && covers(&e, page) && !strcmp(e.name, "UFFDIO_REGISTER") &&
            !fnmatch("* = 0*", e.line, 0))
            plain = fnmatch("*mode=0x[4-7] *", e.line, 0) != 0;
    }
    return plain && page_bytes == PAGE;
}

/* ---- the rules */

#define MERGING                                                                                    \
    "whether two mappings that are alike and touch are one to the kernel depends on history that " \
    "it shows nobody: which was faulted first, advice given before they were registered"
#define AROUND_WP                                                                                  \
    "where writes alone are reported, a read maps what the file has around it: our range is "      \
    "plain memory to the kernel, which would not do so in one of its own"
#define WRITES                                                                                     \
    "a call that writes to a file: the kernel waits for all that goes to one page of the file "    \
    "before it moves any of it, ours moves what comes before the hidden page"
#define ZEROES                                                                                     \
    "of pages of zeroes that were provided and not touched, nothing is mapped: mincore says so "   \
    "once they are not registered any more"
#define FILE_READ                                                                                  \
    "what is written beneath a private mapping reads the file's page first: of a file that was "   \
    "allocated and never written, mincore counts the page from then on, and reads map it"
#define FILTER                                                                                     \
    "the launcher's filter, which forbids the kernel's facility for this test, looks at the "      \
    "command before anybody looks at the descriptor"
#define LATE_ZEROES                                                                                \
    "a hole in a file drops the kernel's page of zeroes from a private mapping; ours is a copy, "  \
    "which stays where it is not registered any more"
#define TABLE_MADE                                                                                 \
    "of a file of huge pages mincore says what is mapped, or what the file has where there is no " \
    "page table; in the kernel a fault that waits makes one"
#define NOT_MINOR                                                                                  \
    "where minor faults are not reported, which pages of a file are mapped beside those that "     \
    "were "                                                                                        \
    "touched is forgotten when they are registered anew, and matters to UFFDIO_CONTINUE alone"
#define BEYOND_END                                                                                 \
    "a private huge page beyond the end of its file: nothing but UFFDIO_COPY of the kernel can "   \
    "put content there"
#define NEVER_TOUCHED                                                                              \
    "a destination that is taken, and a source that is missing: which of the two is told depends " \
    "on whether the source's page table was ever made"
#define COPIED_TABLE                                                                               \
    "a fork copies the page table of memory with an anon_vma, which in the kernel a COPY or MOVE " \
    "that fails makes, and guards do in ours: so what was read only is mapped in the child, or "   \
    "not"
#define REMOVED_ELSEWHERE                                                                          \
    "what another process takes out of a file behind an open page comes back as zeroes, without "  \
    "a message"
#define ALLOCATED                                                                                  \
    "without cachestat nothing tells that a page was allocated in a file and never written: to "   \
    "ours it is missing"
#define DROPPED                                                                                    \
    "without cachestat nothing tells for certain what a file has: MADV_DONTNEED leaves pages of "  \
    "shared memory mapped"
static const struct rule {
    const char *kernel, *ours;
    bool (*fits)(const struct story *story);
    const char *reason;
} rules[] = {
    {"* UFFDIO_[CZP]*ENOENT*", "* UFFDIO_[CZP]*", border_inside, MERGING},
    {"* UFFDIO_[CZP]*", "* UFFDIO_[CZP]*ENOENT*", border_inside, MERGING},
    {"* UFFDIO_MOVE*EINVAL*", "* UFFDIO_MOVE*", border_of_move, MERGING},
    {"* UFFDIO_MOVE*", "* UFFDIO_MOVE*EINVAL*", border_of_move, MERGING},
    {"* UFFDIO_MOVE*ENOENT*", "* UFFDIO_MOVE*EEXIST*", huge, NEVER_TOUCHED},
    {"* UFFDIO_MOVE* = E[NA]*", "* UFFDIO_MOVE*", source_read_before_fork, COPIED_TABLE},
    {"* UFFDIO_COPY*", "* UFFDIO_COPY* = E[EA]*", beyond_end, BEYOND_END},
    {"*ioctl-pointer * 0xc02[08]aa0[34] * ENOENT", "*ioctl-pointer *", border_inside, MERGING},
    {"*ioctl-pointer * 0xc02[08]aa0[34] *", "*ioctl-pointer * ENOENT", border_inside, MERGING},
    {"*mremap: = EFAULT", "*mremap: = [@e]*", border_inside, MERGING},
    {"*mremap: = [@e]*", "*mremap: = EFAULT", border_inside, MERGING},
    /* the move itself, or its length, is refused, too */
    {"*mremap: = EFAULT", "*mremap: = EINVAL", border_inside, MERGING},
    {"*mremap: = EINVAL", "*mremap: = EFAULT", border_inside, MERGING},
    {"*mremap: = EFAULT", "*mremap: = ENOMEM", border_inside, MERGING},
    {"*mremap: = ENOMEM", "*mremap: = EFAULT", border_inside, MERGING},
    {"* UFFDIO_[CZP]*", "* UFFDIO_[CZP]* = E[EA]*", mapped_around, AROUND_WP},
    {"*finishes*write: = *", "*finishes*write: = [1-9]*", stops_earlier, WRITES},
    {"* mincore * = 0*", "* mincore * = 0*", zeroes_gone, ZEROES},
    {"* mincore * = 0*", "* mincore * = 0*", file_was_read, FILE_READ},
    {"* UFFDIO_[CZP]*", "* UFFDIO_[CZP]* = E[EA]*", file_read_around, FILE_READ},
    {"* mincore * = 0*", "* mincore * = 0*", table_made, TABLE_MADE},
    {"* mincore * = 0*", "* mincore * = 0*", read_before_fork, COPIED_TABLE},
    {"* UFFDIO_CONTINUE* = 0*", "* UFFDIO_CONTINUE* = E[EA]*", not_minor, NOT_MINOR},
    {"* UFFDIO_CONTINUE* = E[EA]*", "* UFFDIO_CONTINUE* = 0*", not_minor, NOT_MINOR},
    {"* UFFDIO_CONTINUE* = EEXIST*", "* UFFDIO_CONTINUE* = EAGAIN*", not_minor, NOT_MINOR},
    {"* UFFDIO_CONTINUE* = EAGAIN*", "* UFFDIO_CONTINUE* = EEXIST*", not_minor, NOT_MINOR},
    {"*ioctl-unknown * 0xaa00 = EBADF", "*ioctl-unknown * 0xaa00 = EPERM", NULL, FILTER},
    {NULL, NULL, NULL, NULL},
};

/* "12 touch ..." and "    w2 finishes 12 touch: ...": 12. -1: a line that belongs to none. */
static int operation_of(const char *line)
{
    int op;

    if (sscanf(line, " w%*d finishes %d", &op) == 1 || sscanf(line, "%d ", &op) == 1)
        return op;
    return -1;
}

/*
 * A difference that shows late: UFFDIO_ZEROPAGE on a private mapping of a file, which is not
 * registered any more when a hole is punched in the file. Return: the last such operation before
 * the line that differs, or -1.
 */
static int late_zeropage(const struct story *story)
{
    bool private_file = false;
    int last = -1, found = -1;

    for (size_t i = 0; i < story->count; i++) {
        const char *at = story->lines[i];

        private_file |= !fnmatch("*mmap memfd-private*= 0", at, 0);
        if (private_file && !fnmatch("* UFFDIO_ZEROPAGE*zeropage=[1-9]*", at, 0))
            last = atoi(at);
        if (last >= 0 &&
            (!fnmatch("* fallocate*= 0", at, 0) || !fnmatch("* ftruncate*= 0", at, 0) ||
             !fnmatch("* madvise*arg=9 *", at, 0)))
            found = last;
    }
    return found;
}

/*
 * Another: content that the kernel put beyond the end of a file of huge pages, by a call whose
 * answer could not be written, so that it was the same on both sides. Return: the last, or -1.
 */
static int late_beyond_end(const struct story *story)
{
    bool shortened = false;
    int found = -1;

    for (size_t i = 0; i < story->count && page_bytes > PAGE; i++) {
        struct event e;

        if (!parse(story->lines[i], &e))
            continue;
        shortened |= !fnmatch("* ftruncate *= 0", e.line, 0);
        if (shortened && !fnmatch("* ioctl-pointer * readonly 0xc028aa03 *= EFAULT", e.line, 0) &&
            place_of(story, i, e.first).file >= 0)
            found = e.op;
    }
    return found;
}

/* Whether a part of what the operation was about had been mapped shared. */
static bool was_shared(const struct story *story, const struct event *op)
{
    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (parse(story->lines[i], &e) && e.op < op->op && of_file(e.line) &&
            fnmatch("*mmap memfd-private *", e.line, 0) && e.first < op->end && e.end > op->first)
            return true;
    }
    return false;
}

/*
 * Others that show late, while cachestat is forced off: a file was allocated, or shared memory had
 * MADV_DONTNEED. Return: the last such operation before the line that differs, without which the
 * rest must not differ, or -1.
 */
static int late_without_cachestat(const struct story *story, const char **ret_reason)
{
    const char *forced = getenv("USERFAULT_FORCE");
    int found = -1;

    for (size_t i = 0; i < story->count && forced && strstr(forced, "nocachestat"); i++) {
        struct event e;

        if (!parse(story->lines[i], &e))
            continue;
        if (!fnmatch("* fallocate *arg=[01] = 0", e.line, 0)) {
            *ret_reason = ALLOCATED;
            found = e.op;
        } else if ((!fnmatch("* madvise *arg=4 = 0", e.line, 0) ||
                    !fnmatch("* madvise *arg=24 = 0", e.line, 0)) &&
                   was_shared(story, &e)) {
            *ret_reason = DROPPED;
            found = e.op;
        }
    }
    return found;
}

static void find_operation(struct story *story, const char *line, int op)
{
    for (size_t i = 0; i < story->count; i++) {
        if (parse(story->lines[i], &story->op) && story->op.op == op)
            return;
    }
    parse(line, &story->op);
}

/*
 * Only ours goes on: a call that writes to a file, whose first page the kernel waits for once more;
 * or an access to a page that is mapped, by a read of another one, since before its minor faults
 * were to be reported.
 */
static const char *goes_on(struct story *story, int *ret_op)
{
    int op = operation_of(story->ours);
    bool minor = false;

    /* Only the kernel ends, for the destination is no one mapping to it: ours asks for the source.
     */
    if (!fnmatch("*finishes*UFFDIO_COPY: = ENOENT*", story->kernel, 0)) {
        op = operation_of(story->kernel);
        find_operation(story, story->kernel, op);
        *ret_op = op;
        return op >= 0 && border_inside(story) ? MERGING : NULL;
    }
    if (op < 0 || op == operation_of(story->kernel) || !strstr(story->ours, " finishes "))
        return NULL;
    find_operation(story, story->ours, op);
    *ret_op = op;
    if (!fnmatch("*finishes*write: = [1-9]*", story->ours, 0) && memory_goes(story))
        return WRITES;
    for (size_t i = 0; i < story->count; i++)
        minor |= !fnmatch("*UFFDIO_REGISTER*mode=0x[4-7] = 0*", story->lines[i], 0);
    *ret_op = minor && story->op.first >= 0 ? read_beside(story, story->op.first) : -1;
    return *ret_op >= 0 ? AROUND_WP : NULL;
}

static const char *reason_of(struct story *story, int *ret_op)
{
    int op = operation_of(story->kernel);

    if (op < 0 || op != operation_of(story->ours))
        return NULL;
    find_operation(story, story->kernel, op);
    for (const struct rule *rule = rules; rule->reason; rule++) {
        if (!fnmatch(rule->kernel, story->kernel, 0) && !fnmatch(rule->ours, story->ours, 0) &&
            (!rule->fits || rule->fits(story))) {
            *ret_op = op;
            return rule->reason;
        }
    }
    return NULL;
}

/* ---- two processes */

#define BY_CHILD " by child"

static bool about_context(const char *line)
{
    static const char *const names[] = {"userfaultfd", "UFFDIO_", "ioctl-",
                                        "read c",      "dup c",   NULL};
    const char *name = line + strspn(line, "0123456789 ");

    for (int i = 0; names[i]; i++) {
        if (!strncmp(name, names[i], strlen(names[i])))
            return true;
    }
    return false;
}

/* Whether the operation was on the child's memory. */
static bool on_child(const char *line)
{
    const char *slot = strstr(line, " c");

    return about_context(line) ? slot && slot[2] >= '4' : strstr(line, BY_CHILD) != NULL;
}

static bool on_file(const char *line)
{
    return strstr(line, " fallocate m") || strstr(line, " ftruncate m") ||
           strstr(line, " pwrite m");
}

/* Of what is told, the result stands on a line of its own, behind what was to be read before. */
static const char *result_of(const char *const *lines, size_t count, size_t i)
{
    while (++i < count && lines[i][0] == ' ') {
        if (!strncmp(lines[i], "    = ", strlen("    = ")))
            return lines[i] + strlen("   ");
    }
    return "";
}

/* With its result, and as if there were no other process. */
static char *whole_line(const char *const *lines, size_t count, size_t i)
{
    static const char told[] = " told";
    size_t len = strlen(lines[i]), tail = strlen(told);
    bool is_told = len > tail && !strcmp(lines[i] + len - tail, told);
    const char *result = is_told ? result_of(lines, count, i) : "";
    char *line = malloc(len + strlen(result) + 1), *by;

    if (!line)
        abort();
    sprintf(line, "%.*s%s", (int)(is_told ? len - tail : len), lines[i], result);
    by = strstr(line, BY_CHILD);
    if (by)
        memmove(by, by + strlen(BY_CHILD), strlen(by + strlen(BY_CHILD)) + 1);
    return line;
}

/* The line with which the operation began: the one that differs, or one before it. */
static const char *beginning(const struct story *story, const char *line)
{
    int op = operation_of(line);

    for (size_t i = 0; i < story->count; i++) {
        if (story->lines[i][0] != ' ' && operation_of(story->lines[i]) == op)
            return story->lines[i];
    }
    return line;
}

/*
 * What happened to the memory that the line is about: a child's is what its parent's was, until
 * then. Return: the story of one process; its lines are the caller's, in @ret_lines.
 */
static struct story one_of_two(const struct story *both, const char *line, const char **ret_lines)
{
    struct story one = {.lines = ret_lines};
    bool child = on_child(beginning(both, line)), divided = false;

    for (size_t i = 0; i < both->count; i++) {
        const char *at = both->lines[i];

        bool divides = !fnmatch("[0-9]* divide*", at, 0);

        divided |= divides;
        if (at[0] == ' ' || !divided || divides || on_file(at) || on_child(at) == child)
            ret_lines[one.count++] = whole_line(both->lines, both->count, i);
    }
    one.kernel = both->kernel ? whole_line(&both->kernel, 1, 0) : NULL;
    one.ours = both->ours ? whole_line(&both->ours, 1, 0) : NULL;
    return one;
}

static void story_fini(struct story *story)
{
    for (size_t i = 0; i < story->count; i++)
        free((char *)story->lines[i]);
    free((char *)story->kernel);
    free((char *)story->ours);
}

/*
 * What one process takes out of a file stays open in the other. Return: the last operation that did
 * so when there were two, without which the rest must not differ, or -1.
 */
static int removed_elsewhere(const struct story *both)
{
    bool divided = false;
    int found = -1;

    for (size_t i = 0; i < both->count; i++) {
        const char *at = both->lines[i];

        divided |= !fnmatch("[0-9]* divide*", at, 0);
        if (divided && (!fnmatch("* fallocate *arg=3* = 0", at, 0) || strstr(at, " ftruncate m") ||
                        !fnmatch("* madvise *arg=9*", at, 0)))
            found = operation_of(at);
    }
    return found;
}

/*
 * Another that shows late: what was tried and failed on a page that had been read only, and then
 * the process forked. Return: the last such operation, or -1.
 */
static int late_copied_table(struct story *story)
{
    const char *line =
        story->kernel && operation_of(story->kernel) >= 0 ? story->kernel : story->ours;
    int found = -1;

    if (!line)
        return -1;
    find_operation(story, line, operation_of(line));

    for (size_t i = 0; i < story->count; i++) {
        struct event e;

        if (!fnmatch("[0-9]* divide*", story->lines[i], 0))
            return found;
        if (parse(story->lines[i], &e) && !fnmatch("* UFFDIO_[CZM]* = E*", e.line, 0) &&
            only_read(story, story->op.first))
            found = e.op;
    }
    return -1;
}

static const char *reason_in(struct story *story, int *ret_op);

const char *known_reason(const char *const *lines, size_t count, const char *kernel,
                         const char *ours, int *ret_op)
{
    const struct story both = {.lines = lines, .count = count, .kernel = kernel, .ours = ours};
    const char *line = kernel ? kernel : ours ? ours : "", *reason;
    const char **own = calloc(count + 1, sizeof(*own));
    struct story one;
    int removal;

    if (!own)
        return NULL;
    page_bytes = count > 1 && !strncmp(lines[1], "pages of ", 9)
                     ? 1024 * number_after(lines[1], "of ")
                     : PAGE;
    one = one_of_two(&both, line, own);
    reason = reason_in(&one, ret_op);
    removal = removed_elsewhere(&both);
    if (!reason && removal >= 0) {
        reason = REMOVED_ELSEWHERE;
        *ret_op = removal;
    }
    story_fini(&one);
    free(own);
    return reason;
}

static const char *reason_in(struct story *story, int *ret_op)
{
    const char *kernel = story->kernel, *ours = story->ours, *reason;
    int late;

    reason = kernel && ours ? reason_of(story, ret_op) : NULL;
    if (!reason && kernel && ours)
        reason = goes_on(story, ret_op);
    if (reason)
        return reason;
    late = late_zeropage(story);
    reason = LATE_ZEROES;
    if (late < 0) {
        late = late_beyond_end(story);
        reason = BEYOND_END;
    }
    if (late < 0) {
        late = late_copied_table(story);
        reason = COPIED_TABLE;
    }
    if (late < 0)
        late = late_without_cachestat(story, &reason);
    *ret_op = late >= 0 ? late : *ret_op;
    return late >= 0 ? reason : NULL;
}
