/* SPDX-License-Identifier: MIT */
/* The address space: start, entering and leaving the facility, the log. */
#include <errno.h>

#include "base/cpu.h"
#include "base/lock.h"
#include "base/own.h"
#include "base/text.h"
#include "core/settings.h"
#include "core/remote.h"
#include "core_local.h"
#include "events.h"
#include "paging/pin.h"
#include "pledges.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

_Atomic bool core_active;
_Atomic bool core_bypassed;
_Atomic int core_program_handlers;
_Atomic int core_undeferred_handlers;
_Atomic bool core_cancels;
_Atomic uint32_t core_unwiped_forks;
uint64_t core_all_signals = ~SYS_SIGBIT(33);
struct core_options core_options;
int core_pid;

static struct uf_stats own_stats;
struct uf_stats *core_stats = &own_stats;
static struct base_lock edit_lock;
static struct base_lock tables_lock;
static _Atomic bool tables_made;
static _Atomic uint32_t before_start = 1;
static bool unwiped; /* the mark stays in a forked child: it has to be told */
_Atomic uint32_t *core_space_mark = &before_start;

static _Atomic bool bypass_ended;

void core_bypass(void)
{
    atomic_store(&core_bypassed, true);
    if (atomic_load(&bypass_ended)) { /* perhaps meanwhile */
        atomic_store(&core_bypassed, false);
    }
}

void core_end_bypass(void)
{
    atomic_store(&bypass_ended, true);
    atomic_store(&core_bypassed, false);
}

void core_activate(void)
{
    atomic_store(&core_active, true);
    core_end_bypass();
}

bool core_started(void)
{
    return core_space_mark != &before_start;
}

static int mark_space(void)
{
    if (!core_started()) {
        _Atomic uint32_t *mark = base_own(PAGING_PAGE);

        if (!mark) {
            return -ENOMEM;
        }
        unwiped = !sys_wiped_on_fork(mark, PAGING_PAGE);
        atomic_store(mark, 1);
        core_space_mark = mark;
    }
    core_pid = sys_getpid();
    atomic_store(core_space_mark, 1);
    return 0;
}

int core_init(const struct core_options *options)
{
    struct paging_force force = {
        .noguard = options->noguard,
        .nomem = options->nomem,
        .nocachestat = options->nocachestat,
        .noscan = options->noscan,
        .noprocmap = options->noprocmap,
        .nomany = options->nomany,
        .noadvice = options->noadvice,
        .stage = options->stage,
        .nostage = options->nostage,
        .budget = options->budget,
    };

    if (core_started()) {
        return 0;
    }
    core_options = *options;
    if (options->stats) {
        core_stats = options->stats;
    }
    STAT(processes);
    paging_init(&force);
    core_stack_init();
    if (options->preloaded) {
        paging_lanes_begin();
    }
    if (core_stats->vma_budget < (uint64_t)paging_env.budget) {
        core_stats->vma_budget = (uint64_t)paging_env.budget;
    }
    waiters_init();
    pledges_init();
    return mark_space();
}

/* 66 MiB of addresses, which mlockall(2) would fill: not for programs that have no context. */
static int make_tables(void)
{
    int ret = ranges_init();

    if (ret == 0) {
        ret = contexts_init();
    }
    if (ret == 0) {
        ret = waiters_tables();
    }
    return ret ? ret : events_init();
}

int core_have_tables(void)
{
    struct core_guard guard;
    int ret = 0;

    if (!core_started()) {
        return -ENOMEM;
    }
    if (atomic_load(&tables_made)) {
        return 0;
    }
    core_enter(&guard);
    base_lock_acquire(&tables_lock, guard.tid);
    if (!atomic_load(&tables_made)) {
        ret = make_tables();
        atomic_store(&tables_made, ret == 0);
    }
    base_lock_release(&tables_lock);
    core_leave(&guard);
    return ret;
}

_Atomic bool core_tls_shared;
_Atomic long core_short_way;
static _Atomic bool short_way_ended;

static long tid_offset;

long core_serve_tid_offset(void)
{
    return tid_offset;
}

void core_short_way_at(long offset)
{
    tid_offset = offset;
    if (!atomic_load(&short_way_ended)) {
        atomic_store(&core_short_way, offset);
    }
}

void core_end_short_way(void)
{
    atomic_store(&short_way_ended, true);
    atomic_store(&core_short_way, 0);
}

/* Those who wait already may end so, too. */
void core_note_cancels(void)
{
    if (!atomic_exchange(&core_cancels, true)) {
        waiters_unpost(UINT32_MAX);
    }
}

void core_share_tls(void)
{
    atomic_store(&core_tls_shared, true);
    core_end_short_way();
}

/* What paging counted since the last time, into the run's statistics. */
void core_count_paging(void)
{
    uint64_t peak = atomic_load_explicit(&paging_counts.vmas_peak, memory_order_relaxed);
    uint64_t seen = __atomic_load_n(&core_stats->vmas_peak, __ATOMIC_RELAXED);

    while (peak > seen && !__atomic_compare_exchange_n(&core_stats->vmas_peak, &seen, peak, true,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    if (atomic_load_explicit(&paging_counts.moved, memory_order_relaxed)) {
        STAT_ADD(copy_moved, atomic_exchange(&paging_counts.moved, 0));
    }
    if (atomic_load_explicit(&paging_counts.left, memory_order_relaxed)) {
        STAT_ADD(copy_left, atomic_exchange(&paging_counts.left, 0));
    }
    if (atomic_load_explicit(&paging_counts.ahead, memory_order_relaxed)) {
        STAT_ADD(copy_ahead, atomic_exchange(&paging_counts.ahead, 0));
    }
    if (atomic_load_explicit(&paging_counts.compacted, memory_order_relaxed)) {
        STAT_ADD(chunks_compacted, atomic_exchange(&paging_counts.compacted, 0));
    }
    if (atomic_load_explicit(&paging_counts.taken_back, memory_order_relaxed)) {
        STAT_ADD(runs_taken_back, atomic_exchange(&paging_counts.taken_back, 0));
    }
}

int core_tid(void)
{
    if (core_options.thread_id && !atomic_load_explicit(&core_tls_shared, memory_order_relaxed)) {
        return core_options.thread_id();
    }
    return sys_gettid();
}

/*
 * Threads inside the facility with signals open. While the program has no handler nothing can come
 * in; before it gets its first one, whoever installs it waits until these are out. A thread puts
 * its name down and then looks whether there are handlers; an installer counts its handler and then
 * looks at the names: one sees the other. A name is a thread id and the time, of which two tell a
 * dead thread from a living one with its id.
 *
 * With handlers, those who publish still go in open: a handler's entry that finds its own thread's
 * name puts the signal off (core_defer_signal()), and who leaves lets it in.
 */
#define OPEN_THREADS 64
#define OPEN_TRIES   4 /* so many places belong to a thread */
#define TID_BITS     24
#define TID_MASK     (((uint32_t)1 << 22) - 1) /* the kernel's limit */
#define DEFERRED     ((uint64_t)1 << 23)       /* a signal came in: all are blocked, mask is set */
#define TICK_SHIFT   16                        /* a tick is kept to some 20 us, for months */
#define ASK_AFTER    1000
#define COMES_US     1000000 /* an installer waits no longer: no handler of fork may hang on it */

static struct open_thread {
    _Atomic uint64_t name;
    uint64_t mask;   /* with DEFERRED: what was in force, for the thread to restore */
    uint64_t pad[6]; /* each thread has a cache line for itself */
} open_threads[OPEN_THREADS];

static struct open_thread *open_place(int tid, uint32_t i)
{
    return &open_threads[((uint32_t)tid + i) % OPEN_THREADS];
}

bool core_inside_open(const struct core_guard *guard)
{
    return !guard->masked && guard->open && !(atomic_load(&guard->open->name) & DEFERRED);
}

/* Return: false when one of @handlers, or want of a place, asks for signals to be blocked. */
static bool enter_open(struct core_guard *guard, const _Atomic int *handlers)
{
    uint64_t name = (base_cpu_ticks() >> TICK_SHIFT << TID_BITS) | (uint32_t)guard->tid;

    for (uint32_t i = 0; i < OPEN_TRIES; i++) {
        struct open_thread *place = open_place(guard->tid, i);
        uint64_t none = 0;

        if (atomic_compare_exchange_strong(&place->name, &none, name)) {
            guard->open = place;
            if (atomic_load(handlers) == 0) {
                return true;
            }
            core_leave(guard);
            guard->open = NULL;
            return false;
        }
    }
    return false;
}

/* Whether the name is older than the thread that has its id now. */
static bool open_thread_other(uint64_t name)
{
    return base_thread_newer((int)(name & TID_MASK), ((name >> TID_BITS) + 1) << TICK_SHIFT);
}

static bool open_thread_gone(uint64_t name)
{
    return base_thread_dead((int)(name & TID_MASK)) || open_thread_other(name);
}

bool core_defer_signal(ucontext_t *uc)
{
    const uint64_t all = CORE_ALL_SIGNALS;
    uint64_t mask;
    int tid;

    if (!atomic_load_explicit(&core_active, memory_order_relaxed) || !core_same_space()) {
        return false;
    }
    tid = core_tid();
    for (uint32_t i = 0; i < OPEN_TRIES; i++) {
        struct open_thread *place = open_place(tid, i);
        uint64_t name = atomic_load(&place->name);

        if ((name & TID_MASK) != (uint32_t)tid || open_thread_other(name)) {
            continue;
        }
        /*
         * A second signal may have come in on the way here, and been put off with the mask of this
         * handler. From now on none does, and the mask that counts is that of the outermost.
         */
        sys_sigmask(SIG_BLOCK, &all, &mask);
        place->mask = *arch_sigmask(uc);
        atomic_fetch_or(&place->name, DEFERRED);
        *arch_sigmask(uc) |= all;
        return true;
    }
    return false;
}

void core_handler_comes(int tid)
{
    uint64_t limit = base_cpu_ticks() + COMES_US * base_cpu_ticks_per_us();

    /* In a child of a fork that we have not seen, the names are its parent's threads. */
    for (uint32_t i = 0; i < OPEN_THREADS && core_same_space(); i++) {
        uint64_t first = atomic_load(&open_threads[i].name), name = first;

        for (unsigned turns = 1; name && !((name ^ first) & ~DEFERRED) &&
                                 (int)(name & TID_MASK) != tid && base_cpu_ticks() < limit;
             turns++) {
            if (turns % ASK_AFTER == 0 && open_thread_gone(name)) {
                atomic_compare_exchange_strong(&open_threads[i].name, &name, 0);
            }
            sys_call(SYS_sched_yield);
            name = atomic_load(&open_threads[i].name);
        }
    }
}

static void forget_open_threads(void)
{
    for (uint32_t i = 0; i < OPEN_THREADS; i++) {
        atomic_store(&open_threads[i].name, 0);
    }
}

static void enter(struct core_guard *guard, const _Atomic int *handlers)
{
    const uint64_t all = CORE_ALL_SIGNALS;

    if (!core_same_space()) {
        core_fork_child();
    }
    guard->tid = core_tid();
    guard->open = NULL;
    guard->masked =
        !core_options.preloaded || atomic_load(handlers) > 0 || !enter_open(guard, handlers);
    if (guard->masked) {
        sys_sigmask(SIG_BLOCK, &all, &guard->mask);
    }
}

void core_enter(struct core_guard *guard)
{
    enter(guard, &core_program_handlers);
}

void core_enter_deferring(struct core_guard *guard)
{
    enter(guard, &core_undeferred_handlers);
}

void core_leave(const struct core_guard *guard)
{
    struct open_thread *open = guard->open;
    uint64_t name, mask = guard->mask;

    if (open) {
        name = atomic_load(&open->name);
        do { /* the place is another's as soon as the name is gone */
            mask = name & DEFERRED ? open->mask : 0;
        } while (!atomic_compare_exchange_strong(&open->name, &name, 0));
        if (!(name & DEFERRED)) {
            return;
        }
    }
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}

enum core_backend core_backend(void)
{
    return core_options.backend;
}

void core_count_kernel(long ret)
{
    if (sys_failed(ret)) {
        STAT(refused);
    } else {
        STAT(contexts_kernel);
    }
}

void core_edit_lock(int tid)
{
    if (base_lock_acquire(&edit_lock, tid)) {
        core_finish_busy(tid); /* its holder was killed in the middle of a change */
    }
    if (atomic_load(&paging_pledged)) {
        pledges_end_all(tid);
    }
}

bool core_edit_locked(void)
{
    return atomic_load(&edit_lock.word);
}

void core_edit_unlock(void)
{
    base_lock_release(&edit_lock);
}

void core_edit_lock_reset(void)
{
    base_lock_reset(&edit_lock);
}

void core_never_block(uint64_t signals)
{
    core_all_signals &= ~signals;
}

void core_note(const char *text)
{
    core_log(text, 0);
}

void core_log(const char *text, uint64_t number)
{
    char line[256];
    struct base_text out = base_text_on(line, sizeof line);

    if (core_options.log_fd < 0) {
        return;
    }
    base_text_str(&out, "userfault[");
    base_text_dec(&out, (uint64_t)sys_getpid());
    base_text_str(&out, "]: ");
    base_text_str(&out, text);
    if (out.len && line[out.len - 1] == ' ') {
        base_text_str(&out, "0x");
        base_text_hex(&out, number);
    }
    base_text_str(&out, "\n");
    sys_write(core_options.log_fd, line, out.len);
}

int core_reopen(void)
{
    int ret = paging_env_reopen();

    contexts_reopen();
    return ret;
}

void core_space_forked(void)
{
    if (unwiped && core_started()) {
        atomic_store(core_space_mark, 0);
        atomic_fetch_add(&core_unwiped_forks, 1);
    }
}

void core_space_begin(void)
{
    forget_open_threads();
    base_lock_reset(&tables_lock);
    mark_space();
}

/* ---- exec */

void core_exec_prepare(void)
{
    if (core_remote && atomic_load(&core_active) && core_own_table()) {
        core_remote->exec_prepare();
    }
}

void core_exec_failed(void)
{
    if (core_remote && atomic_load(&core_active) && core_own_table()) {
        core_remote->exec_failed();
    }
}
