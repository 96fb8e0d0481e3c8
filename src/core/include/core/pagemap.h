/* SPDX-License-Identifier: MIT */
/* What stands of pages in our table, for those who read the kernel's pagemap. */
#ifndef CORE_PAGEMAP_H
#define CORE_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A run of pages that are alike. */
struct core_pages {
    uintptr_t start, end, range_end;
    bool huge;       /* of hugetlb */
    bool registered; /* for protection, or poisoned */
    bool access;     /* ... from all accesses; else from writes */
    bool async;      /* ... from writes, which is lifted without a message */
    bool is_protected;
    bool poisoned;
    bool published; /* ours has given it its content, though the kernel may have nothing there */
    bool hidden;    /* without content: whatever the kernel holds there is ours */
    bool files;     /* ... unless it is mapped: that is the file's page, that the program touched */
};

/* Whether there ever was a range with protection, or poison: nobody else needs to ask. One load. */
bool core_protects(void);

/* The run at @addr, page-aligned, within [@addr, @end). Context: any. */
struct core_pages core_pages_at(uintptr_t addr, uintptr_t end);

/*
 * Writes to [start, end), in ranges with write protection, are seen from now on.
 * Context: normal, no lock held. Return: 0 or -errno.
 */
int core_protect_pages(uintptr_t start, uintptr_t end);

struct pm_scan_arg;

/**
 * core_pagemap_scan() - PAGEMAP_SCAN as the kernel does it, or, before Linux 6.7, as it would
 * @fd: a pagemap of this process
 * @pages: a run that all of what is scanned lies in; or NULL, and its mappings are looked up
 * Context: normal, no lock held. Return: regions, -errno.
 */
long core_pagemap_scan(int fd, struct pm_scan_arg *arg, const struct core_pages *pages);

/* Whether that is the kernel's to answer. */
bool core_kernel_scans(void);

struct core_run {
    uintptr_t start, end;
};

/* How much is to be found. */
struct core_room {
    size_t runs;
    uint64_t pages;
    bool joins; /* a run that begins where it is begun to look is one more than `runs` */
};

/*
 * The program looks at pages, its own or another process's, by other means than an access (a
 * pagemap, process_vm_readv(), ptrace(), /proc/PID/mem): what it has given for pages is in place
 * when this returns, and from now on no page is known beforehand to be copied (core/pledges.h),
 * which is not there yet. Whether it does; true also where its calls are not seen.
 * Context: normal, may wait
 */
void core_note_looking(void);
bool core_is_looking(void);

/**
 * core_unprotected() - runs of pages that are not protected from writes, in rising order
 * @at: where to begin, in a range of small pages; set to how far it came
 * @end: at most the range's end
 * @protect: they are protected from now on; what is written after that is found by the next call
 * Context: normal, no lock held. Return: how many, or -errno. None, and *@at unchanged: there was
 * no room, or the range has changed, look again.
 */
long core_unprotected(uintptr_t *at, uintptr_t end, const struct core_room *room, bool protect,
                      struct core_run *ret_runs);

#endif
