/* SPDX-License-Identifier: MIT */
/*
 * The fault path: decode, look up, admit or report and wait.
 *
 *     range?  no  -> foreign (or the trap raced a release: look at the kernel's view)
 *     busy?       -> wait for whoever changes it, retry
 *     permitted by the program's own protection?  no -> SEGV_ACCERR
 *     protected from this access, or hidden: missing, or in its file and minor
 *                 -> SIGBUS feature | callback | message and wait, retry
 *     published?  -> admit, retry
 */
#include <errno.h>

#include "core_local.h"
#include "pledges.h"
#include "sys/mem.h"
#include "sys/thread.h"
#include "usage.h"

static bool permits(int prot, enum arch_access access)
{
    switch (access) {
    case ARCH_READ:
        return prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
    case ARCH_WRITE:
        return prot & PROT_WRITE;
    case ARCH_EXEC:
        return prot & PROT_EXEC;
    }
    return false;
}

/* ---- a trap that raced the release of its range */

#define RELEASED 64

static struct {
    _Atomic uintptr_t start, end;
} released[RELEASED];
static _Atomic uint32_t released_next;

void core_note_released(uintptr_t start, uintptr_t end)
{
    uint32_t i = atomic_fetch_add(&released_next, 1) % RELEASED;

    atomic_store(&released[i].end, 0);
    atomic_store(&released[i].start, start);
    atomic_store(&released[i].end, end);
}

static bool was_released(uintptr_t addr)
{
    for (uint32_t i = 0; i < RELEASED; i++) {
        if (addr >= atomic_load(&released[i].start) && addr < atomic_load(&released[i].end)) {
            return true;
        }
    }
    return false;
}

/* Nobody's range: the program's fault, unless it trapped just before a range was let go. */
static enum core_verdict foreign(uintptr_t addr, enum arch_access access)
{
    static _Atomic uintptr_t last_addr;
    static _Atomic uint32_t last_seen;
    uint32_t now = atomic_load(&released_next);

    if (!was_released(addr) || !maps_allows(addr, access)) {
        return CORE_FOREIGN;
    }
    /* Twice in a row with nothing released in between is no race: something else forbids it. */
    if (atomic_exchange(&last_addr, addr) == addr && atomic_exchange(&last_seen, now) == now) {
        return CORE_FOREIGN;
    }
    atomic_store(&last_seen, now);
    return CORE_RETRY;
}

/* Let accesses to a page with content pass. False: not now, for there are no VMAs, or no memory. */
static bool admit(const struct range *range, uintptr_t addr)
{
    uintptr_t page = paging_page_down(&range->area, addr);
    int tid = core_tid();
    struct range now;
    bool admitted = false, published;
    paging_stripes held;

    paging_make_room(ranges_area_of, tid);
    published = paging_byte(addr) & PAGE_PUBLISHED;
    held = published ? paging_lock_beside(page, page + range->area.page, tid)
                     : paging_lock(page, page + range->area.page, tid);
    published = paging_byte(addr) & PAGE_PUBLISHED;
    if (ranges_find(addr, &now) && now.ctx == range->ctx && !now.busy &&
        now.area.page == range->area.page) {
        admitted = paging_admit(&now.area, addr);
    }
    paging_unlock(held);
    if (admitted && published) {
        STAT(readmitted);
    }
    return admitted;
}

/* The area of what is one mapping to the kernel. */
static bool whole_mapping(const struct range *range, uintptr_t addr, struct paging_area *ret)
{
    uintptr_t start, end;

    if (!ranges_mapping(addr, &start, &end)) {
        return false;
    }
    *ret = range->area;
    ret->off -= ret->start - start;
    ret->start = start;
    ret->end = end;
    return true;
}

/* What a read of a page has brought in besides: start == end: nothing. */
struct others {
    uintptr_t start, end;
};

/* A read may bring in more than its page. Return: whether nothing is there, nor the page itself. */
static bool read_around(const struct range *range, uintptr_t addr, struct others *ret_others)
{
    struct paging_area area;
    paging_stripes held;
    struct range now;

    if (!whole_mapping(range, addr, &area)) {
        return false;
    }
    if (paging_bare_around(&area, addr)) {
        return true;
    }
    held = paging_lock(addr, addr + 1, core_tid());
    if (ranges_find(addr, &now) && now.ctx == range->ctx && !now.busy &&
        paging_reads_around(&now.area) && whole_mapping(&now, addr, &area)) {
        paging_read_around(&area, addr, &ret_others->start, &ret_others->end);
    }
    paging_unlock(held);
    return false;
}

/* Of a page that is not to be had, a read maps all the same what the file has around it. */
static void bring_others(const struct range *range, const struct others *others)
{
    for (uintptr_t at = others->start; at < others->end; at += PAGING_PAGE) {
        if (range->area.kind == PAGING_PRIVATE_FILE && at >= range->area.start &&
            at < range->area.end &&
            (paging_byte(at) & (PAGE_PUBLISHED | PAGE_POISONED)) == PAGE_PUBLISHED &&
            admit(range, at)) {
            paging_populate(at, PAGING_PAGE, false);
        }
    }
}

static void wait_for_edit(void)
{
    core_edit_lock(core_tid());
    core_edit_unlock();
}

/* Its context is gone, and it is going; or it could not for want of VMAs, and may now. */
static void release_orphan(const struct range *range)
{
    core_edit_lock(core_tid());
    if (!context_of_id(range->ctx)) {
        core_unregister_range(range->area.start, range->area.end, range->ctx);
    }
    core_edit_unlock();
}

/*
 * Who waits finds out when the context was closed by another process; with UF_FEATURE_SIGBUS nobody
 * waits. A descriptor of this process's own tells that it was not, without a system call.
 */
static bool closed_elsewhere(struct context *ctx, uint32_t id)
{
    if (!descriptor_here(ctx)) {
        context_release_if_closed(ctx);
    }
    return atomic_load(&ctx->id) != id;
}

/* Report it in whichever way the context asked for. */
static enum core_verdict report(const struct range *range, struct core_report *what,
                                const uint64_t *mask, ucontext_t *uc, bool user_mode,
                                bool *ret_woken)
{
    uint32_t id = nested_told(range, what->flags, what->addr);
    struct context *ctx = context_of_id(id);
    struct context_callback callback;
    int ret;

    if (!user_mode && ctx &&
        (ctx->user_mode_only || (atomic_load(&ctx->features) & UF_FEATURE_SIGBUS))) {
        return CORE_SIGBUS;
    }
    if (!ctx) {
        release_orphan(range);
        return CORE_RETRY;
    }
    if (!(atomic_load(&ctx->features) & UF_FEATURE_EXACT_ADDRESS)) {
        what->addr = paging_page_down(&range->area, what->addr);
    }
    if (core_callback_get(ctx, id, &callback)) {
        what->wakes = atomic_load(&ctx->wakes);
        what->relapses = atomic_load(&paging_relapses);
        ret = core_callback_run(ctx, &callback, what);
        if (ret <= 0) {
            return ret ? CORE_SIGBUS : CORE_RETRY;
        }
        what->told = ret == CORE_CALLBACK_WAIT;
    }
    if ((atomic_load(&ctx->features) & UF_FEATURE_SIGBUS) || managers_dead(ctx)) {
        if ((atomic_load(&ctx->features) & UF_FEATURE_SIGBUS) && closed_elsewhere(ctx, id)) {
            return CORE_RETRY;
        }
        STAT(faults_sigbus);
        return CORE_SIGBUS;
    }
    *ret_woken = waiters_wait(ctx, what, mask, uc);
    return CORE_RETRY;
}

/* Whether an access to the page is for the manager to know first. */
static bool protected_from(const struct range *range, uintptr_t addr, enum arch_access access)
{
    return (range->area.rwp || access == ARCH_WRITE) && (paging_byte(addr) & PAGE_WRITES);
}

/*
 * A write to a protected place: when it is reported, the kernel has brought in the page already, to
 * be read, unless that was to be reported first. Pages of private memory are protected as they are,
 * or there would be nothing to protect.
 */
static void bring_content(const struct range *range, uintptr_t addr)
{
    if (paging_hides(&range->area) && (paging_byte(addr) & PAGE_PUBLISHED)) {
        return;
    }
    if (!paging_page_open(addr)) {
        admit(range, addr);
    }
    /* A page of private memory that was protected is there. */
    if (range->area.kind != PAGING_ANON || paging_is_huge(&range->area) ||
        core_protects_empty(range, nested_top(range, addr))) {
        paging_bring(&range->area, paging_page_down(&range->area, addr));
    }
}

/* Asynchronous: the access is let through, and that it was shows in the pagemap. */
bool core_lifts_alone(const struct range *range, uintptr_t addr)
{
    const struct context *ctx = nested_top(range, addr);

    if (!range->area.wp && !range->area.rwp) {
        return true; /* protected when it was registered for that */
    }
    return ctx && (atomic_load(&ctx->features) &
                   (range->area.rwp ? UF_FEATURE_RWP_ASYNC : UF_FEATURE_WP_ASYNC));
}

static void lift(const struct range *range, uintptr_t addr)
{
    uintptr_t page = paging_page_down(&range->area, addr);
    int tid = core_tid();
    paging_stripes held;
    struct range now;

    paging_make_room(ranges_area_of, tid);
    held = paging_lock(page, page + range->area.page, tid);
    if (ranges_find(page, &now) && now.ctx == range->ctx && !now.busy &&
        core_lifts_alone(&now, page)) {
        struct paging_area area = nested_area(&now, nested_top(&now, page));

        area = paging_slice(&area, page, page + range->area.page);
        if (area.rwp) {
            paging_admit_access(&area);
        } else {
            paging_unprotect(&area);
        }
    }
    paging_unlock(held);
}

/* Whether the kernel's answer to the access is SIGBUS. What may not be accessed is not meant. */
static bool bus_error(uintptr_t page, enum arch_access access)
{
    return paging_populate(page, PAGING_PAGE, access == ARCH_WRITE) == -EFAULT &&
           (paging_env.populate || maps_allows(page, access));
}

/*
 * Whether a write goes beyond the end of the file, where it leaves the protection as it is. Of what
 * is only watched there is no descriptor to ask for the size: the kernel tries to bring the page.
 */
static bool beyond_eof(const struct range *range, uintptr_t addr, enum arch_access access)
{
    uintptr_t page = paging_page_down(&range->area, addr);

    if (!range->area.watched) {
        return paging_beyond_eof(&range->area, addr);
    }
    return protected_from(range, addr, access) && bus_error(page, ARCH_READ);
}

/* @ret_woken: it waited for the page, and is to look again. */
static enum core_verdict fault(uintptr_t addr, enum arch_access access, const uint64_t *mask,
                               ucontext_t *uc, bool user_mode, bool *ret_woken)
{
    struct core_report what = {addr, access == ARCH_WRITE ? UF_PAGEFAULT_FLAG_WRITE : 0};
    enum paging_content content;
    struct range range;
    struct vma vma;
    struct others others = {0};
    bool bare = false, closed;

    *ret_woken = false;
    pledges_end_pages(addr, addr + 1);
    if (!ranges_find(addr, &range)) {
        return foreign(addr, access);
    }
    if (range.busy) {
        wait_for_edit();
        return CORE_RETRY;
    }
    if (!permits(range.area.prot, access)) {
        return CORE_ACCERR;
    }
    if (access == ARCH_WRITE && range.area.kind != PAGING_SHARED && !range.root) {
        core_edit_lock(core_tid());
        mappings_prepare(addr);
        core_edit_unlock();
    }
    if (access != ARCH_WRITE && paging_reads_around(&range.area) &&
        !(paging_byte(addr) & (PAGE_PUBLISHED | PAGE_POISONED))) {
        bare =
            read_around(&range, addr, &others); /* also where the page itself is beyond the end */
    }
    if (range.area.kind != PAGING_ANON && beyond_eof(&range, addr, access)) {
        bring_others(&range, &others);
        return CORE_SIGBUS;
    }
    content = bare ? PAGING_EMPTY : paging_content(&range.area, addr);
    if (content == PAGING_BROKEN) {
        return CORE_POISONED;
    }
    if (content != PAGING_MAPPED && !range.area.wp && !range.area.rwp &&
        (paging_byte(addr) & PAGE_PROTECTED)) {
        lift(&range, addr); /* a place that was protected once: any access ends that */
    }
    closed = protected_from(&range, addr, access); /* looked at once: another may change it */
    if (content == PAGING_CACHED && range.area.minor) {
        what.flags |= UF_PAGEFAULT_FLAG_MINOR;
    } else if (content == PAGING_EMPTY && range.area.missing) {
        bring_others(&range, &others);
    } else if (closed && core_lifts_alone(&range, addr)) {
        lift(&range, addr);
        return CORE_RETRY;
    } else if (closed && range.area.rwp) {
        what.flags |= UF_PAGEFAULT_FLAG_RWP;
    } else if (closed) {
        bring_content(&range, addr);
        what.flags |= UF_PAGEFAULT_FLAG_WP;
    } else {
        /* Or what was seen is so no more: the next trap tells. */
        return admit(&range, addr) || maps_next(addr, addr + 1, &vma) ? CORE_RETRY : CORE_MAPERR;
    }
    return report(&range, &what, mask, uc, user_mode, ret_woken);
}

/* Whether a handler is to run first. */
static bool signal_pending(const uint64_t *mask)
{
    uint64_t pending = 0;

    sys_call(SYS_rt_sigpending, &pending, sizeof pending);
    return pending & CORE_ALL_SIGNALS & ~*mask;
}

/*
 * Woken, the kernel looks at the same address again before it lets the thread repeat its access:
 * of an access that crosses into a second page, the one that was waited for decides.
 */
static enum core_verdict look_again(uintptr_t addr, enum arch_access access, const uint64_t *mask,
                                    ucontext_t *uc, bool *ret_woken)
{
    struct range range;
    struct vma vma;
    bool ranged = ranges_find(addr, &range);

    *ret_woken = false;
    if ((paging_page_passes(addr, access == ARCH_WRITE) &&
         !(ranged && !permits(range.area.prot, access))) ||
        signal_pending(mask)) {
        return CORE_RETRY;
    }
    if (ranged) {
        return fault(addr, access, mask, uc, true, ret_woken);
    }
    if (!maps_next(addr, addr + 1, &vma)) {
        return CORE_MAPERR;
    }
    if (!maps_allows(addr, access)) {
        return CORE_ACCERR;
    }
    /* Plain memory by now: what the kernel does with it, beyond the end of a file for one. */
    return bus_error(addr & ~(PAGING_PAGE - 1), access) ? CORE_SIGBUS : CORE_RETRY;
}

bool core_tells_broken(void)
{
    return paging_env.mceerr;
}

enum core_verdict core_fault(uintptr_t addr, enum arch_access access, ucontext_t *uc)
{
    uint64_t mask = *arch_sigmask(uc) & CORE_ALL_SIGNALS;
    enum core_verdict verdict;
    bool woken;

    if (!atomic_load_explicit(&core_active, memory_order_relaxed)) {
        return CORE_FOREIGN;
    }
    if (!core_same_space()) {
        core_fork_child();
        return CORE_RETRY;
    }
    verdict = fault(addr, access, &mask, uc, true, &woken);
    while (verdict == CORE_RETRY && woken) {
        verdict = look_again(addr, access, &mask, uc, &woken);
    }
    if (verdict == CORE_RETRY) {
        usage_count(core_tid(), false);
    }
    return verdict;
}

bool core_page_ready(uintptr_t addr, enum arch_access access)
{
    return (paging_byte(addr) & PAGE_PUBLISHED) && paging_page_passes(addr, access == ARCH_WRITE);
}

int core_fault_round(uintptr_t addr, enum arch_access access)
{
    const uint64_t all = CORE_ALL_SIGNALS;
    enum core_verdict verdict;
    uint64_t mask;
    bool woken;

    sys_sigmask(SIG_BLOCK, &all, &mask);
    verdict = fault(addr, access, &mask, NULL, false, &woken);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    if (verdict != CORE_RETRY) {
        return -EFAULT;
    }
    usage_count(core_tid(), woken);
    return 0;
}

int core_fault_in(uintptr_t addr, enum arch_access access)
{
    struct range range;
    bool found;
    int ret;

    if (!ranges_find(addr, &range)) {
        return -EFAULT;
    }
    do {
        ret = core_fault_round(addr, access);
        found = ranges_find(addr, &range);
    } while (ret == 0 && found && (range.busy || !core_page_ready(addr, access)));
    /* The program may have forbidden the access while it was waited for. */
    return found && !permits(range.area.prot, access) ? -EFAULT : ret;
}

int core_fault_unasked(uintptr_t addr, enum arch_access access)
{
    enum paging_content content;
    struct range range;

    if (!ranges_find(addr, &range)) {
        return -EFAULT;
    }
    pledges_end_pages(addr, addr + 1);
    content = paging_content(&range.area, addr);
    if (content == PAGING_BROKEN || (content == PAGING_CACHED && range.area.minor) ||
        (content == PAGING_EMPTY && range.area.missing) ||
        (protected_from(&range, addr, access) && !core_lifts_alone(&range, addr))) {
        return -EFAULT;
    }
    return core_fault_in(addr, access);
}
