/* SPDX-License-Identifier: MIT */
/*
 * Publishing: content first, then the byte, then the VMA.
 *
 *     private   pwrite(/proc/self/mem) beneath PROT_NONE    byte    mprotect
 *               in bulk: a stage that is moved in           byte
 *     shared    pwrite(file) or the alias                   byte    mprotect or GUARD_REMOVE
 *
 * The step that opens the page is one system call, so no thread sees a half-filled page.
 */
#include <errno.h>

#include "arch/copy.h"
#include "paging/ahead.h"
#include "paging_local.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

const char paging_zeroes[PAGING_PAGE];

static uintptr_t page_down(uintptr_t addr)
{
    return addr & ~(PAGING_PAGE - 1);
}

/* Where process_vm_readv() is forbidden or unknown: a futex that nobody waits for is read, too. */
static bool words_readable(uintptr_t addr, size_t len)
{
    const struct timespec now = {0};
    const uintptr_t last = addr + len - 1;

    for (uintptr_t at = addr; at <= last; at = page_down(at) + PAGING_PAGE) {
        _Atomic uint32_t *word = (_Atomic uint32_t *)(at & ~(uintptr_t)3);

        if (sys_futex_wait(word, 0, &now) == -EFAULT) {
            return false;
        }
    }
    return true;
}

bool paging_readable(uintptr_t addr, size_t len)
{
    /* Written to a page of our own, for which nobody cares. */
    static char sink[2 * PAGING_PAGE] __attribute__((aligned(4096)));
    struct iovec local = {sink, len}, remote = {(void *)addr, len};
    long n = sys_call(SYS_process_vm_readv, sys_gettid(), &local, 1, &remote, 1, 0);

    return n == -ENOSYS || n == -EPERM ? words_readable(addr, len) : n == (long)len;
}

/* Fill whole pages; a page filled in part is emptied again. Return: bytes filled or -errno. */
static long write_private(const struct paging_area *area, uintptr_t start, size_t len,
                          const void *src)
{
    long n;

    if (!paging_env.mem) {
        return paging_fill_by_shadow(area, start, len, src);
    }
    n = sys_pwrite(paging_mem_fd(), src, len, start);
    if (n < 0) {
        return n == -EIO ? -EFAULT : n;
    }
    if ((size_t)n < len) {
        uintptr_t whole = page_down(start + (size_t)n);

        sys_madvise(whole, PAGING_PAGE, MADV_DONTNEED);
        n = (long)(whole - start);
    }
    return n ? n : -EFAULT;
}

static long fill_private(const struct paging_area *area, uintptr_t start, size_t len,
                         const void *src)
{
    size_t done = 0;
    long n;

    /* Nothing is beneath a hidden page: it reads as zeroes, and is there once it can be read. */
    if (src == paging_zeroes && (area->prot & (PROT_READ | PROT_WRITE))) {
        return (long)len;
    }
    if (src == paging_zeroes) {
        len = PAGING_PAGE;
    }
    if (paging_fill_by_stage(area, start, len, src)) {
        return (long)len;
    }
    n = write_private(area, start, len, src);
    if (n != -EFAULT || len == PAGING_PAGE) {
        return n;
    }
    /* The kernel does not tell how far it came before a bad source: page by page, then. */
    while (done < len &&
           write_private(area, start + done, PAGING_PAGE, (const char *)src + done) > 0) {
        done += PAGING_PAGE;
    }
    sys_madvise(start + done, len - done, MADV_DONTNEED);
    return done ? (long)done : -EFAULT;
}

/* A page of the file becomes a hole again. */
void paging_punch(const struct paging_area *area, uintptr_t page)
{
    if (area->fd >= 0) {
        sys_call(SYS_fallocate, area->fd, 3 /* KEEP_SIZE | PUNCH_HOLE */,
                 paging_file_off(area, page), area->page);
    } else {
        sys_madvise(paging_alias(area, page), PAGING_PAGE, MADV_REMOVE);
    }
}

long paging_write(uintptr_t to, const void *from, size_t len)
{
    struct iovec local = {(void *)(uintptr_t)from, len}, remote = {(void *)to, len};
    long n = sys_call(SYS_process_vm_writev, sys_gettid(), &local, 1, &remote, 1, 0);

    /* A filter may know of the one, and not of the other. */
    return n == -EPERM || n == -ENOSYS ? sys_pwrite(paging_mem_fd(), from, len, to) : n;
}

/*
 * The file was sealed against what is written from now on (F_SEAL_FUTURE_WRITE); mappings that were
 * writable before stay so, and a second one of the same is, too.
 */
static long write_sealed(uintptr_t to, const void *from, size_t len)
{
    uintptr_t start = page_down(to), end = page_down(to + len - 1) + PAGING_PAGE;
    long second = sys_mremap(start, 0, end - start, MREMAP_MAYMOVE, 0), n;

    if (sys_failed(second)) {
        return -EPERM;
    }
    n = sys_mprotect((uintptr_t)second, end - start, PROT_READ | PROT_WRITE);
    n = n ? n : paging_write((uintptr_t)second + (to - start), from, len);
    sys_munmap((uintptr_t)second, end - start);
    return n;
}

/* Fill pages of the file that are absent. The pages that are present stop it. */
static long fill_shared(const struct paging_area *area, uintptr_t start, size_t len,
                        const void *src)
{
    size_t done = 0;

    while (done < len) {
        bool zero = src == paging_zeroes;
        size_t want = zero ? PAGING_PAGE - done % PAGING_PAGE : len - done;
        const char *from = zero ? paging_zeroes : (const char *)src + done;
        uintptr_t to = start + done;
        long n = area->alias ? paging_write(paging_alias(area, to), from, want)
                             : sys_pwrite(area->fd, from, want, paging_file_off(area, to));

        n = n == -EPERM && !area->alias ? write_sealed(to, from, want) : n;
        if (n <= 0) {
            /* The file may have got a page before the source proved unreadable. */
            paging_punch(area, page_down(to));
            done = page_down(done);
            return done ? (long)done : (n == -EIO || n == 0 ? -EFAULT : n);
        }
        done += (size_t)n;
    }
    return (long)done;
}

/* A private copy was made through the file: give the file its holes back, the copy survives. */
static long fill_private_file(const struct paging_area *area, uintptr_t start, size_t len,
                              const void *src)
{
    size_t done = 0;

    while (done < len) {
        uintptr_t at = start + done;
        bool present = paging_file_present(area, at);
        long n = write_private(area, at, PAGING_PAGE,
                               src == paging_zeroes ? src : (const char *)src + done);

        if (!present && area->fd >= 0) {
            paging_punch(area, at);
        }
        if (n < 0) {
            return done ? (long)done : n;
        }
        done += PAGING_PAGE;
    }
    return (long)done;
}

void paging_lift_guards(const struct paging_area *area, uintptr_t start, size_t len)
{
    unsigned flags = paging_chunk_of(start)->flags;

    if (!(flags & CHUNK_HAS_GUARDS)) {
        return;
    }
    if ((flags & CHUNK_GUARDED) && !(flags & CHUNK_CLOSED)) {
        sys_mprotect(start, len, PROT_NONE);
    }
    sys_madvise(start, len, MADV_GUARD_REMOVE);
}

/* What was lifted for pages that were not published after all. */
static void lower_guards(const struct paging_area *area, uintptr_t start, size_t len)
{
    unsigned flags;

    if (!len) {
        return; /* start may lie beyond all tables then */
    }
    flags = paging_chunk_of(start)->flags;
    if (!(flags & CHUNK_GUARDED)) {
        return;
    }
    sys_madvise(start, len, MADV_GUARD_INSTALL);
    if (!(flags & CHUNK_CLOSED)) {
        sys_mprotect(start, len, area->prot);
    }
}

static long fill_huge(const struct paging_area *area, uintptr_t start, size_t len, const void *src)
{
    for (size_t done = 0; done < len; done += area->page) {
        long n = paging_huge_fill(area, start + done, (const char *)src + done);

        if (n < 0) {
            return done ? (long)done : n;
        }
    }
    return (long)len;
}

static long fill(const struct paging_area *area, uintptr_t start, size_t len, const void *src)
{
    if (paging_is_huge(area)) {
        return fill_huge(area, start, len, src);
    }
    switch (area->kind) {
    case PAGING_ANON:
        return fill_private(area, start, len, src);
    case PAGING_SHARED:
        return fill_shared(area, start, len, src);
    case PAGING_PRIVATE_FILE:
        return fill_private_file(area, start, len, src);
    }
    return -EINVAL;
}

void paging_map_in(const struct paging_area *area, uintptr_t start, size_t len, bool zero)
{
    bool write = (area->prot & PROT_WRITE) && paging_page_passes(start, true);

    if (area->kind == PAGING_SHARED) {
        paging_populate(start, len, write);
    } else if (zero) {
        paging_populate(start, len, false);
    }
}

/* Whether the page is taken, as far as the page tables say: ours, or the kernel's. */
static bool taken(const struct paging_area *area, uintptr_t page, bool zero)
{
    if (zero && area->kind != PAGING_SHARED && (paging_byte(page) & PAGE_MARKS)) {
        return true; /* the kernel's zero page goes over no marker */
    }
    /* Of shared memory its file decides. */
    return area->kind == PAGING_SHARED ? paging_hides(area) && (paging_byte(page) & PAGE_PUBLISHED)
                                       : paging_mapped(area, page);
}

/* The end of the pages from start on that can be given content. */
static uintptr_t empty_end(const struct paging_area *area, uintptr_t start, uintptr_t end,
                           bool zero)
{
    uintptr_t at = start;

    while (at < end && !taken(area, at, zero)) {
        at += area->page;
    }
    return area->kind == PAGING_SHARED && at > start ? paging_file_next_present(area, start, at)
                                                     : at;
}

int paging_seize(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct paging_area part = *area;

    part.start = start;
    part.end = end;
    return paging_hides(area) ? 0 : paging_hide(&part);
}

/*
 * The kernel reads the source before it looks whether the destination is there. A source that is a
 * mapping of the same file puts the page there by being read, or maps what the file has around: not
 * yet the page that is to be filled. A source that is not mapped is read, then, and copied page by
 * page. Return: how much of it is to be copied now.
 */
static size_t read_absent(uintptr_t src, size_t len)
{
    uintptr_t start = page_down(src), end = src + len;

    if (paging_all_here(start, (end - start + PAGING_PAGE - 1) / PAGING_PAGE)) {
        return len;
    }
    paging_readable(src, PAGING_PAGE);
    return PAGING_PAGE;
}

/*
 * Of huge pages the source is read after that, which may put the page there, too. It lies in one
 * of the source's, or in two. Return: the end of what is to be copied now.
 */
static uintptr_t read_absent_huge(const struct paging_area *area, uintptr_t start, uintptr_t src)
{
    paging_readable(src, 1);
    paging_readable(src + area->page - 1, 1);
    return start + area->page;
}

/* Private huge pages can be put beyond the end of their file. */
static uintptr_t publish_end(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    return paging_is_huge(area) && area->kind != PAGING_SHARED ? end
                                                               : paging_clip_eof(area, start, end);
}

/* A plain page, in a chunk where nothing else is beneath hidden ones. */
static bool may_fill_ahead(const struct paging_area *area, uintptr_t start, size_t len,
                           const void *src)
{
    return ARCH_COPIES_HASTILY && len == PAGING_PAGE && src != paging_zeroes && paging_env.mem &&
           area->kind == PAGING_ANON && !paging_is_huge(area) && paging_hides(area) &&
           !paging_byte(start) &&
           !(paging_chunk_of(start)->flags & (CHUNK_GUARDED | CHUNK_HAS_GUARDS | CHUNK_MOVING));
}

long paging_publish(const struct paging_area *area, uintptr_t start, size_t len, const void *src,
                    unsigned how)
{
    struct paging_area opened = *area;
    bool zero = src == paging_zeroes, protect = how & PAGING_PROTECT, ahead;
    uintptr_t end, from;
    unsigned set;
    long n;

    end = area->nofill ? start : publish_end(area, start, start + len);
    if (end == start) {
        return paging_is_huge(area) && paging_huge_present(area, start) ? -EEXIST : -ENXIO;
    }
    if (protect) {
        paging_unguard(start);
    }
    if (protect || area->keeps) {
        opened.prot = paging_readonly(area->prot);
    }
    if (area->kind != PAGING_ANON && !zero && !paging_is_huge(area)) {
        end = start + read_absent((uintptr_t)src, end - start);
    }
    /* Looked at before they are closed, too: what is there may be the source. */
    end = empty_end(area, start, end, zero);
    if (end > start && area->kind != PAGING_ANON && paging_is_huge(area)) {
        end = empty_end(area, start, read_absent_huge(area, start, (uintptr_t)src), zero);
    }
    if (end > start && !paging_hides(area)) {
        n = paging_seize(area, start, end);
        if (n != 0) {
            return n;
        }
        end = empty_end(area, start, end, zero);
    }
    if (end == start) {
        return -EEXIST;
    }
    ahead = how & PAGING_AHEAD && may_fill_ahead(area, start, end - start, src);
    if (!ahead) {
        paging_ahead_end_within(start, end);
    }
    paging_undo_move(start, end - start);
    paging_lift_guards(area, start, end - start);
    n = ahead && paging_fill_ahead(area, start, src) ? (long)PAGING_PAGE
                                                     : fill(&opened, start, end - start, src);
    if (n < 0) {
        lower_guards(area, start, end - start);
        return n;
    }
    lower_guards(area, start + (size_t)n, end - start - (size_t)n);
    set = (protect ? paging_mark(area) : 0) | (paging_hides(area) ? 0 : PAGE_HERE) |
          (zero && area->kind != PAGING_SHARED ? PAGE_ZEROED : 0);
    end = start + (size_t)n;
    paging_table_change(start, end, set, paging_marks_gone(area, protect));
    if (ahead) {
        paging_ahead_passed(start);
    }
    if (how & PAGING_LATER && !set && paging_leave(area, start, end)) {
        paging_table_change(start, end, PAGE_PUBLISHED, PAGE_ZEROED | PAGE_HERE);
        return n;
    }
    from = start;
    if (how & PAGING_LATER) { /* not of MOVE, whose source may be beside it, closed */
        paging_with_closed(area, &from, &end);
    }
    /* Where the kernel is to say what is there, zeroes have to be there. */
    if (paging_open(area, from, end) == 0 && (how & PAGING_WAITED || !paging_hides(area))) {
        paging_map_in(area, start, (size_t)n, zero);
    }
    return n;
}

bool paging_admissible(const struct paging_area *area, uintptr_t addr, uintptr_t page)
{
    return paging_passable(area, page) && !(paging_byte(page) & PAGE_POISONED) &&
           !((paging_byte(page) ^ paging_byte(addr)) & PAGE_WRITES);
}

/* The run of such pages around addr, within its chunk. */
static void run_around(const struct paging_area *area, uintptr_t addr, uintptr_t *ret_start,
                       uintptr_t *ret_end)
{
    uintptr_t floor = paging_max(paging_chunk_base(addr), area->start);
    uintptr_t ceiling = paging_min(paging_step_end(area, addr), area->end);
    uintptr_t start = addr, end = addr + area->page;

    while (start > floor && paging_admissible(area, addr, start - area->page)) {
        start -= area->page;
    }
    while (end < ceiling && paging_admissible(area, addr, end)) {
        end += area->page;
    }
    *ret_start = start;
    *ret_end = end;
}

bool paging_admit(const struct paging_area *area, uintptr_t addr)
{
    uintptr_t start, end;

    addr = paging_page_down(area, addr);
    if (paging_shut(area, addr)) {
        return false;
    }
    if (paging_passable(area, addr)) {
        paging_left_met(addr);
        run_around(area, addr, &start, &end);
        return paging_open(area, start, end) == 0;
    }
    /* Ours to let through, unless that is for UFFDIO_CONTINUE or UFFDIO_COPY to do. */
    if (area->kind != PAGING_ANON && paging_file_present(area, addr) ? area->minor
                                                                     : area->missing) {
        return false;
    }
    paging_lift_guards(area, addr, area->page);
    if (!area->wp && !area->rwp) {
        paging_table_change(addr, addr + area->page, 0, PAGE_PROTECTED); /* of no content */
    }
    if (paging_open(area, addr, addr + area->page) == 0) {
        paging_map_in(area, addr, area->page, true);
    }
    return true;
}

void paging_bring(const struct paging_area *area, uintptr_t page)
{
    char byte;

    /* A write makes a copy at once, but of a page that is mapped already. */
    if (area->kind == PAGING_PRIVATE_FILE && !paging_is_huge(area) && paging_env.mem &&
        !paging_page_here(page) && sys_pread(paging_mem_fd(), &byte, 1, page) == 1) {
        sys_pwrite(paging_mem_fd(), &byte, 1, page);
        return;
    }
    paging_populate(page, PAGING_PAGE, false);
}
