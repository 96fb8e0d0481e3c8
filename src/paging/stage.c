/* SPDX-License-Identifier: MIT */
/*
 * Publishing private memory in bulk: filled aside, then moved in.
 *
 *     D, registered   none none [none none] none     1 mremap(DONTUNMAP): an empty copy of the
 *                               |        ^             mapping elsewhere, D stays as it is
 *                               v        |           2 writable, filled
 *     the stage                 [page page]          3 mremap(FIXED): the pages come, it is gone
 *
 * A write through /proc/self/mem looks the mapping up, and waits for its lock, page by page; here
 * the kernel does it once for many. What it costs instead is a flush of the TLB on every processor
 * that the process runs on, so it pays for many pages only.
 *
 * The stage is a copy of D's mapping: the same offsets and the same anon_vma. So what comes back
 * merges with its neighbours, and the number of VMAs stays what it is with mprotect. It lives for
 * one call, under the stripe of its chunk: no change of the layout and no fork ever meets one.
 *
 * The pages are open as they arrive, the bytes follow. Between the two the chunk is marked: who
 * finds the mark took the stripe over from a thread that died there.
 */
#include "arch/copy.h"
#include "base/cpu.h"
#include "paging_local.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAUSE 16 /* so many are not tried after one that failed: a hint, any value is right */

static _Atomic unsigned paused;

static bool pausing(void)
{
    unsigned left = atomic_load_explicit(&paused, memory_order_relaxed);

    if (left) {
        atomic_store_explicit(&paused, left - 1, memory_order_relaxed);
    }
    return left;
}

/*
 * Memory with guards beneath is none of this, nor what has no anon_vma: that would merge with
 * nothing afterwards.
 */
static bool pays(const struct paging_area *area, uintptr_t start, size_t len)
{
    return len >= paging_env.stage_min && area->rooted && area->kind == PAGING_ANON &&
           !(paging_chunk_of(start)->flags & (CHUNK_GUARDED | CHUNK_HAS_GUARDS | CHUNK_MOVING)) &&
           !pausing();
}

/*
 * Two ways to fill it. By stores into pages that were brought in before, which is faster; but for a
 * guest whose page tables its host shadows, each page is an exit. So the time that each takes is
 * kept, the better one is used, and now and then the other is tried.
 */
enum { BY_KERNEL, BY_STORES, WAYS };

#define TRY_EVERY 64 /* a power of two */
#define SLOWEST   (UINT32_MAX / 4)

static _Atomic uint32_t pace[WAYS]; /* ticks a page; 0: never tried. An update may get lost. */

static unsigned choose(void)
{
    static _Atomic unsigned turn;
    uint32_t kernel = atomic_load_explicit(&pace[BY_KERNEL], memory_order_relaxed);
    uint32_t stores = atomic_load_explicit(&pace[BY_STORES], memory_order_relaxed);
    bool try = atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % TRY_EVERY == 0;

    if (!kernel || !stores) {
        return !kernel ? BY_KERNEL : BY_STORES;
    }
    return (stores < kernel) != try ? BY_STORES : BY_KERNEL;
}

/* Faster is believed at once; slower may be a thread that had to wait, and counts little. */
static void note_pace(unsigned way, uint64_t ticks, size_t len)
{
    uint64_t old = atomic_load_explicit(&pace[way], memory_order_relaxed);
    uint64_t now = ticks / (len / PAGING_PAGE) + 1;

    if (old && now > old) {
        now = old + ((now < 2 * old ? now : 2 * old) - old) / 8 + 1;
    }
    atomic_store_explicit(&pace[way], (uint32_t)(now < SLOWEST ? now : SLOWEST),
                          memory_order_relaxed);
}

static bool fill_by_kernel(uintptr_t stage, size_t len, const void *src)
{
    struct iovec local = {(void *)(uintptr_t)src, len}, remote = {(void *)stage, len};

    return sys_call(SYS_process_vm_writev, sys_gettid(), &local, 1, &remote, 1, 0) == (long)len;
}

/* Whether a trap of this thread reaches the facility's handler: where all is blocked, it kills. */
static bool may_trap(void)
{
    uint64_t mask;

    return sys_sigmask(SIG_BLOCK, NULL, &mask) == 0 &&
           !(mask & (SYS_SIGBIT(SIGSEGV) | SYS_SIGBIT(SIGBUS)));
}

/* Nobody is waited for where the source is hidden: that is for the caller, who holds no lock. */
static bool fill(uintptr_t stage, size_t len, const void *src)
{
    unsigned way = choose();
    uint64_t begin = base_cpu_ticks();
    bool good;

    if (way == BY_STORES && !may_trap()) {
        way = BY_KERNEL;
    }
    if (way == BY_STORES && (!ARCH_COPIES_HASTILY || paging_populate(stage, len, true) != 0)) {
        atomic_store_explicit(&pace[BY_STORES], SLOWEST, memory_order_relaxed);
        way = BY_KERNEL;
    }
    good = way == BY_STORES ? arch_copy_hastily((void *)stage, src, len) == 0
                            : fill_by_kernel(stage, len, src);
    if (good) {
        note_pace(way, base_cpu_ticks() - begin, len);
    }
    return good;
}

/* All of it, or it is not used: another way finds out where a source ends. */
static bool fill_stage(const struct paging_area *area, uintptr_t stage, size_t len, const void *src)
{
    return sys_mprotect(stage, len, PROT_READ | PROT_WRITE) == 0 && fill(stage, len, src) &&
           (area->prot == (PROT_READ | PROT_WRITE) || sys_mprotect(stage, len, area->prot) == 0);
}

void paging_undo_move(uintptr_t start, size_t len)
{
    if (paging_chunk_of(start)->flags & CHUNK_MOVING) {
        sys_mprotect(start, len, PROT_NONE);
        paging_empty(start, len);
    }
}

static bool move_in(uintptr_t stage, size_t len, uintptr_t to)
{
    return !sys_failed(sys_mremap(stage, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to));
}

/* Context: the chunk is not marked: a mark that one who died has left stays. */
static bool publish_stage(uintptr_t stage, size_t len, uintptr_t to)
{
    struct paging_chunk *chunk = paging_chunk_of(to);
    bool moved;

    chunk->flags |= CHUNK_MOVING;
    atomic_signal_fence(memory_order_seq_cst);
    moved = move_in(stage, len, to);
    if (moved) {
        paging_table_set(to, to + len, PAGE_PUBLISHED);
        atomic_fetch_add_explicit(&paging_counts.moved, len / PAGING_PAGE, memory_order_relaxed);
    }
    atomic_signal_fence(memory_order_seq_cst);
    chunk->flags &= (uint16_t)~CHUNK_MOVING;
    return moved;
}

/* The stage takes D's place empty: D may have been a mapping of its own and lost its anon_vma. */
static void give_back(uintptr_t stage, size_t len, uintptr_t to)
{
    if (sys_mprotect(stage, len, PROT_NONE) != 0 || sys_madvise(stage, len, MADV_DONTNEED) != 0 ||
        !move_in(stage, len, to)) {
        sys_munmap(stage, len);
    }
}

bool paging_fill_by_stage(const struct paging_area *area, uintptr_t start, size_t len,
                          const void *src)
{
    long stage;

    if (!pays(area, start, len)) {
        return false;
    }
    /* Refused on locked memory, of which the move would take the lock. */
    if (sys_madvise(start, len, MADV_DONTNEED) != 0) {
        return false;
    }
    stage = sys_mremap(start, len, len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    if (!sys_failed(stage)) {
        if (fill_stage(area, (uintptr_t)stage, len, src) &&
            publish_stage((uintptr_t)stage, len, start)) {
            return true;
        }
        give_back((uintptr_t)stage, len, start);
    }
    atomic_store_explicit(&paused, PAUSE, memory_order_relaxed);
    return false;
}
