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
#include "story.h"

#define PAGE   4096
#define AROUND 16 /* pages that a fault of a read may map: fault_around_bytes */

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

        if (divides(story->lines[i]))
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

        if (divides(story->lines[i]))
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
