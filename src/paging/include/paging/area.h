/* SPDX-License-Identifier: MIT */
/*
 * Hide, publish, protect: the contract; docs/design/paging.md has the mechanism.
 *
 * An area is a stretch of the program's memory of one kind and one protection, all of it
 * registered. While it is registered its VMAs show what the page table decides; nothing here
 * touches its memory through a pointer.
 */
#ifndef PAGING_AREA_H
#define PAGING_AREA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "paging/lock.h"
#include "paging/table.h"

enum paging_kind {
    PAGING_ANON,         /* private anonymous, private /dev/zero */
    PAGING_SHARED,       /* shared: memfd, tmpfs, anonymous, SysV, /dev/zero */
    PAGING_PRIVATE_FILE, /* private mapping of a memfd or tmpfs file */
};

/*
 * What is remembered of a file, so that not every fault and every COPY asks for its size. Written
 * under a stripe, by whoever asked; cut shorter under all of them.
 */
struct paging_file {
    _Atomic uint64_t size;
    _Atomic uint64_t seen; /* ticks when it was; 0: not known */
};

struct paging_area {
    uintptr_t start, end; /* aligned to `page` */
    size_t page;          /* bytes: PAGING_PAGE, or of a huge page of hugetlb */
    int prot;             /* what the program asked for */
    enum paging_kind kind;
    bool missing;  /* pages without content are hidden; else they are as the kernel has them */
    bool minor;    /* pages that their file has are hidden until they are continued */
    bool wp;       /* protected pages trap when written to */
    bool rwp;      /* ... or on any access; never both */
    bool beneath;  /* of two contexts that protect, the outer one asks: PAGE_BENEATH is its mark */
    uint8_t keeps; /* PAGE_WRITES of others, which stay when a page gets its content */
    bool noguard;  /* guard pages were refused here (locked memory) */
    bool divided;  /* the kernel has a mapping of its own from start on, though all is alike */
    bool nofill;   /* private /dev/zero: a file of size 0, nothing can be put there */
    bool unreserved; /* of huge pages: mapped with MAP_NORESERVE */
    bool watched;    /* of another kind than these, say a file on disk: only ever protected */
    bool rooted;     /* all of it has an anon_vma: what is moved out and in again merges */
    int fd;          /* a descriptor of the file, or -1 */
    struct paging_file *file; /* with a descriptor */
    uint64_t off;             /* file offset of start */
    uintptr_t alias; /* second mapping of start, or 0: of a shared file without a descriptor, or
                        that is not to be written to, or the shadow of private memory without
                        /proc/self/mem */
    uintptr_t probe; /* of files of huge pages, start again: a private mapping, see huge.c */
    uint64_t dev, ino;
};

/* Whether pages have to be let through one by one. */
static inline bool paging_hides(const struct paging_area *area)
{
    return area->missing || area->minor;
}

/* Of hugetlb: everything is done by its pages. */
static inline bool paging_is_huge(const struct paging_area *area)
{
    return area->page > PAGING_PAGE;
}

/* The mark of a page that is protected for who asks. */
static inline unsigned paging_mark(const struct paging_area *area)
{
    return area->beneath ? PAGE_BENEATH : PAGE_PROTECTED;
}

static inline uintptr_t paging_page_down(const struct paging_area *area, uintptr_t addr)
{
    return addr & ~(area->page - 1);
}

/* The end of what is worked on in one step from addr on: of its chunk, or of a page beyond it. */
static inline uintptr_t paging_step_end(const struct paging_area *area, uintptr_t addr)
{
    size_t step = area->page > PAGING_CHUNK ? area->page : PAGING_CHUNK;

    return (addr | (step - 1)) + 1;
}

/* What the host allows, and what was forced off; found out with the first context. */
struct paging_env {
    bool guards;      /* MADV_GUARD_INSTALL on private anonymous memory */
    bool mem;         /* writes through /proc/self/mem under PROT_NONE */
    bool mem_huge;    /* ... of private huge pages, too, as far as is known */
    bool cachestat;   /* cachestat(2) */
    bool populate;    /* MADV_POPULATE_READ and _WRITE */
    bool scan;        /* PAGEMAP_SCAN */
    bool procmap;     /* PROCMAP_QUERY */
    bool nomany;      /* paging_moves_many() was forced off */
    size_t stage_min; /* so many bytes of private memory are filled aside and moved in */
    size_t move_min;  /* so many are moved by the kernel, and not copied */
    int drop;         /* advice that drops pages, mlocked ones too since Linux 5.18 */
    bool mceerr;      /* the kernel tells of broken memory by a code of its own */
    long budget;      /* VMAs that the facility may spell out */
};
extern struct paging_env paging_env;

/* For the statistics; whoever has them looks. */
struct paging_counts {
    _Atomic uint64_t vmas_peak, compacted, taken_back;
    _Atomic uint64_t moved; /* pages */
    _Atomic uint64_t left;  /* pages, closed until others followed */
    _Atomic uint64_t ahead; /* pages, found filled already */
};
extern struct paging_counts paging_counts;

/*
 * Whether private huge pages are filled aside: what was registered is replaced, page by page, by a
 * mapping that lacks the advice given to it. So are those of a gigabyte, since x86 kernels take the
 * entry of one that is closed for none, and a write through /proc/self/mem looks for it for ever.
 */
static inline bool paging_huge_moves_in(const struct paging_area *area)
{
    return paging_is_huge(area) && area->kind != PAGING_SHARED &&
           (!paging_env.mem_huge || area->page >= PAGING_LEAF);
}

/* Forced degradations and the budget of the environment. Context: once, before any area. */
struct paging_force {
    bool noguard, nomem, nocachestat, noscan, noprocmap, nomany, noadvice;
    bool stage, nostage; /* always, not only in bulk; never */
    long budget;         /* 0: half of vm.max_map_count */
};
void paging_init(const struct paging_force *force);

/* Whether the kernel moves several mappings by one mremap (Linux 6.17). */
bool paging_moves_many(void);

/* Descriptors that paging keeps: opened with the first context, again after fork. */
void paging_env_stale(void);
int paging_env_reopen(void); /* 0, or for want of descriptors -errno: then again */
/* An errno that says that there are no more descriptors, or no memory. */
bool paging_exhausted(long ret);
int paging_mem_fd(void);
int paging_maps_fd(void);
/* Another of the same, with a position of its own; -errno. */
long paging_open_maps(void);
int paging_pagemap_fd(void);
/* The lowest of them at or above fd, or -1. */
int paging_next_hidden(int fd);
/* The number is needed: move what is ours there. */
int paging_evict(int fd);
/* The same file at another number, as high as can be had: the number, or -EMFILE. */
int paging_move_fd(int fd);

/* Move a descriptor out of the way of the program's, close-on-exec; returns the new one. */
int paging_keep_fd(int fd);

/**
 * paging_enter() - hide an area for the first time
 * @area: rooted if it may be; cleared when it could not be done
 *
 * Private memory gets an anon_vma before: without one the kernel forgets, as it hides, that the
 * mapping was accounted for, and what is opened later would never merge with the rest again.
 *
 * Context: stripes of the area held. Return: 0 or -errno.
 */
int paging_enter(struct paging_area *area);

/**
 * paging_make_shadow() - prepare private memory for publishing without /proc/self/mem
 * @area: hidden; its alias is set
 * Context: stripes of the area held. Return: 0 or -errno.
 */
int paging_make_shadow(struct paging_area *area);
/* One that is not made of the area: what comes from there merges with nothing. */
int paging_plain_shadow(struct paging_area *area);

/**
 * paging_huge_enter() - the mappings by which huge pages of a file are filled and looked for
 * @area: of huge pages, with a descriptor unless it is anonymous; its aliases are set
 * Context: any. Return: 0 or -errno.
 */
int paging_huge_enter(struct paging_area *area);

/* Whatever else was mapped for the area goes. */
void paging_drop_aliases(const struct paging_area *area);
/* Nobody gets through them for a while; then they are as they were, and not locked. Context: their
 * stripes held. */
void paging_shut_aliases(const struct paging_area *area, bool closed);

/* The part of an area in [start, end). */
struct paging_area paging_slice(const struct paging_area *area, uintptr_t start, uintptr_t end);

/**
 * paging_hide() - no access to the area passes from now on; pages published keep their content
 *
 * O(1) in time and memory for what was never touched. Afterwards every page traps, published ones
 * are re-admitted as they are touched.
 *
 * Context: stripes of the area held. Return: 0 or -ENOMEM.
 */
int paging_hide(const struct paging_area *area);

/*
 * Pages of zeroes that nothing was written to go when their file gets a hole there, as the kernel's
 * page of zeroes does, and private copies do not. Context: stripes held, the area hidden.
 */
void paging_drop_zeroes(const struct paging_area *area);

/*
 * Of zeroes that were provided and nobody touched, nothing is mapped, where the kernel would have
 * its page of zeroes: that is there now, at `to`, where such memory is plain.
 */
void paging_show_zeroes(const struct paging_area *area, uintptr_t to);

/* Forget the content: every page of the area is hidden and empty. Context: stripes held. */
int paging_drop(const struct paging_area *area);

/*
 * The area's pages, hidden (paging_hide()), have moved to where it is hidden as before: what is
 * known of them there. Context: stripes of both held, the table reserved.
 */
void paging_carry(const struct paging_area *area, uintptr_t to);

/* The mapping is gone or replaced already: forget it, touching no VMA. Context: stripes held. */
void paging_forget(const struct paging_area *area);

/**
 * paging_forked() - this is a forked child, and the area goes on in it
 * @tables: the kernel has copied its page tables
 *
 * Where it has not, nothing is there as yet, as in the kernel, and no mark and no guard.
 *
 * Context: alone. Return: 0 or -errno.
 */
int paging_forked(const struct paging_area *area, bool tables);

/*
 * Before it: of memory that is not hidden, but protected, the kernel copies the page tables, ours
 * it does not if nothing in them is private. Here is mapped what is there in the parent.
 *
 * Context: alone; the descriptors of paging are still the parent's.
 */
void paging_inherit(const struct paging_area *area);

/*
 * A change of the layout will cut here: a chunk that the address divides goes back to its plain
 * form first. Context: stripes of the address held.
 */
void paging_cut(uintptr_t addr);

/*
 * The area leaves the facility: the program's protection everywhere, no guard left behind. Out of
 * VMAs (-ENOMEM) it stays as it is.
 */
int paging_release(const struct paging_area *area);

/*
 * An area that is about to become plain memory: what is there, though nobody may access it, is
 * brought into the kernel's page table. Context: stripes of the area held.
 */
void paging_show(const struct paging_area *area);

/* Whether the kernel could read the program's memory now. Context: any. */
bool paging_readable(uintptr_t addr, size_t len);

/*
 * Have whole pages mapped as by an access that their mapping permits; of a huge page, a part will
 * do. Return: 0; -EFAULT where the access would be SIGBUS, or is not permitted (then it may be
 * another error, too), and what was brought in before stays.
 */
long paging_populate(uintptr_t start, size_t len, bool write);

/* Stands for a source of zeroes of any length. */
extern const char paging_zeroes[];

/* How pages are published. */
#define PAGING_WAITED  0x1u /* a thread waits for it: make the first access cheap */
#define PAGING_PROTECT 0x2u /* writes are to trap from the first one on */
#define PAGING_AHEAD   0x8u /* with those that are expected next, see paging/ahead.h */
#define PAGING_LATER   0x4u /* nobody waits: they may stay closed, see paging_left() */

/**
 * paging_publish() - give content to hidden pages, atomically page by page
 * @area: where start lies
 * @start: page-aligned
 * @len: bytes, a multiple of the page size, within one step (paging_step_end()) and the area
 * @src: the program's memory, any alignment and any value; paging_zeroes for zeroes
 * @how: PAGING_WAITED and its like
 *
 * Stops at the first page that is present already.
 *
 * Context: stripes of [start, start + len) held.
 * Return: bytes published, more than 0; -EEXIST first page present; -EFAULT source unreadable
 * (nothing was published); -ENXIO beyond the end of the file; -ENOMEM. That the pool of huge pages
 * is empty is -EEXIST, too.
 */
long paging_publish(const struct paging_area *area, uintptr_t start, size_t len, const void *src,
                    unsigned how);

/*
 * What was published with PAGING_LATER and is closed as yet, so that a row of such pages is opened
 * by one mprotect: one row in the process, its first page and how many in one word; 0 is none. A
 * hint: the page table alone says what may be opened.
 */
extern _Atomic uint64_t paging_left_row __attribute__((visibility("hidden")));

/* Whether there is one. */
static inline bool paging_left(void)
{
    return atomic_load_explicit(&paging_left_row, memory_order_relaxed);
}

/* Whether what is published at start goes on with it, or there is none. */
bool paging_left_ends_at(uintptr_t start);
/* There is none any more: its last page, 0 if there was none. */
uintptr_t paging_left_take(void);

/**
 * paging_protect() - writes to the area's pages trap from now on
 * @empty: also those that will be to pages without content; always so of mappings of a file
 *
 * Pages of private memory that have no content are left alone otherwise, and are not protected
 * when they get some.
 *
 * Context: stripes of the area held. Return: 0 or -errno.
 */
int paging_protect(const struct paging_area *area, bool empty);

/**
 * paging_protect_access() - any access to pages that are there traps from now on
 * @area: with rwp, and hidden since it was registered
 * @start: page-aligned, in the area
 * @end: the same
 *
 * All others are left alone, of mappings of a file too, and are not protected when they get some.
 *
 * Context: stripes of [start, end) held. Return: 0 or -errno.
 */
int paging_protect_access(const struct paging_area *area, uintptr_t start, uintptr_t end);

/* Accesses to its protected pages pass again. Context: stripes of the area held. */
void paging_admit_access(const struct paging_area *area);

/**
 * paging_collapse() - a huge page in the place of small ones
 * @base: of a chunk that lies within the area
 *
 * Nothing that was hidden comes into view: every page must have its content, and no mark.
 *
 * Context: stripes of the chunk held. Return: 0, or -errno as MADV_COLLAPSE.
 */
int paging_collapse(const struct paging_area *area, uintptr_t base);

/**
 * paging_poison() - accesses to pages without content are to end in SIGBUS
 * @start: page-aligned
 * @len: bytes, a multiple of the page size, within one step and the area
 *
 * Context: stripes of [start, start + len) held.
 * Return: bytes, more than 0; -EEXIST first page has content, or is marked; -EFAULT beyond the end
 * of the file; -ENOMEM.
 */
long paging_poison(const struct paging_area *area, uintptr_t start, size_t len);

/* The first poisoned run from `at` on within the area; false: none. Context: stripes held. */
bool paging_next_poisoned(const struct paging_area *area, uintptr_t at, uintptr_t *ret_start,
                          uintptr_t *ret_end);

/*
 * Poisoned pages are marked as protected too, which only who reads the pagemap sees: a scan does
 * it, UFFDIO_WRITEPROTECT leaves them as they are. Context: stripes held.
 */
void paging_protect_poisoned(const struct paging_area *area);

/* Poisoned pages whose content is dropped are new pages. Context: stripes of the area held. */
void paging_unpoison(const struct paging_area *area);

/* What was poisoned elsewhere was moved here: close it. Context: stripes of the area held. */
void paging_poisoned_here(const struct paging_area *area);

/*
 * Writes to the area's pages pass again, unless another protects them. Context: stripes of the area
 * held.
 */
void paging_unprotect(const struct paging_area *area);

/*
 * Of two contexts that protect: another comes above the one that did, whose marks are those of
 * PAGE_BENEATH from now on; or the one whose area->beneath it is goes, and the other is alone.
 * Context: stripes of the area held.
 */
void paging_protect_beneath(const struct paging_area *area);
void paging_protect_alone(const struct paging_area *area);

/**
 * paging_expect_missing() - an area whose pages without content were the kernel's: hide them
 * Context: stripes of the area held. Return: 0 or -errno.
 */
int paging_expect_missing(struct paging_area *area);

/* One whose pages were hidden and are the kernel's from now on. Context: stripes held. */
void paging_expect_all(const struct paging_area *area);

/**
 * paging_admit() - a page that traps although it has its content: let accesses through
 *
 * A protected page is let be read only, or not at all. Also finds that shared memory was filled
 * behind our back, by another mapping of the file.
 *
 * Context: stripes of the page held.
 * Return: true when accesses pass now, false when the page is missing.
 */
bool paging_admit(const struct paging_area *area, uintptr_t addr);

/* A page of a protected place that can be read now is to be there: the access that traps is a
 * write. Context: any. */
void paging_bring(const struct paging_area *area, uintptr_t page);

/**
 * paging_read_around() - a read of the page traps: what the kernel maps besides
 * @area: one of paging_reads_around(), all of what is one mapping to the kernel
 *
 * Of a mapping of a file, a fault of a read maps what the file has in the 16 pages around it
 * (fault_around_bytes), unless faults of such pages, or writes to them, are to be reported. To
 * UFFDIO_POISON and UFFDIO_CONTINUE such pages are there, of a private mapping to UFFDIO_COPY too.
 *
 * Context: stripes of the chunk held. Return: where others than the page are, somewhere in
 * [*ret_start, *ret_end); empty: there are none.
 */
void paging_read_around(const struct paging_area *area, uintptr_t addr, uintptr_t *ret_start,
                        uintptr_t *ret_end);
bool paging_reads_around(const struct paging_area *area);
/* Whether there are none, nor the page itself, as far as one question tells. Context: any. */
bool paging_bare_around(const struct paging_area *area, uintptr_t addr);

/*
 * Whether the kernel has private copies of pages in [start, end), as far as its page tables tell.
 * Context: any.
 */
bool paging_has_copies(uintptr_t start, uintptr_t end);

/* Mark what is present already in a freshly registered, hidden area. Return: 0 or -errno. */
int paging_adopt(const struct paging_area *area);

/*
 * Whether the touch lies beyond the end of the file behind the area. What this process takes off
 * the file is seen at once (paging_file_changed()), what others do within 200 us.
 */
bool paging_beyond_eof(const struct paging_area *area, uintptr_t addr);

/* The file may have got shorter. Context: all stripes held, since before it did. */
void paging_file_changed(struct paging_file *file);

enum paging_content {
    PAGING_EMPTY,
    PAGING_CACHED, /* its file has it, and we have not let it through */
    PAGING_MAPPED, /* published, or the kernel's affair */
    PAGING_BROKEN, /* poisoned */
};

/* What a page holds. A look without a lock: paging_admit() decides. Context: any. */
enum paging_content paging_content(const struct paging_area *area, uintptr_t addr);

/**
 * paging_continue() - let accesses through to what the file has
 * @start: page-aligned
 * @len: bytes, a multiple of the page size, within one step and the area
 * @protect: writes are to trap from the first one on
 *
 * Context: stripes of [start, start + len) held.
 * Return: bytes, more than 0; -EEXIST first page mapped already; -EFAULT its file does not have it;
 * -EINVAL no mapping of a file, or beyond its end; -ENOMEM.
 */
long paging_continue(const struct paging_area *area, uintptr_t start, size_t len, bool protect);

struct paging_span {
    uintptr_t start, end;
};

struct paging_move {
    const struct paging_area *to, *from; /* from is NULL: plain private memory */
    uintptr_t dst, src;                  /* page-aligned */
    size_t len;                          /* within one chunk of dst, one area of each */
    bool locked;                         /* both are */
    struct paging_span vma;              /* of plain memory */
    bool holes;                          /* are stepped over */
    bool bulk;     /* the mappings are alike in all that moves along with one */
    bool unrooted; /* out: the source may have lost its anon_vma */
};

/**
 * paging_move() - pages of private memory go to hidden places, atomically page by page
 *
 * As many as are alike from the first one on. Source and destination may overlap.
 *
 * Context: edit lock; stripes of both held.
 * Return: bytes, more than 0, holes counted; -EEXIST something is at the destination; -ENOENT
 * nothing at the source; -EBUSY it is another process's too; -EFAULT a marker; -ENOMEM.
 */
long paging_move(struct paging_move *move);

/* Whether the host lets pages be moved at all. Context: any. */
bool paging_moves(void);

/* Whether mapped private memory is locked. Context: any. */
bool paging_locked(uintptr_t page);

/**
 * paging_make_room() - take back open runs until the table is inside its budget
 * @area_of: finds the area of an address; false when there is none
 *
 * Context: no stripe held, signals blocked.
 */
void paging_make_room(bool (*area_of)(uintptr_t addr, struct paging_area *ret), int tid);

#endif
