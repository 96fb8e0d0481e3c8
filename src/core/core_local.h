/* SPDX-License-Identifier: MIT */
/*
 * The userfaultfd object: what the files of core share, and nobody else.
 *
 *     descriptor --fdmap--> context <--id-- range --area--> page table
 *                              ^
 *                              |id
 *                            waiter (a slot of a trapped thread)
 *
 * Lock order: edit lock, then stripes (paging/lock.h). Fault handlers read ranges and contexts
 * without either, and write waiters only.
 */
#ifndef CORE_LOCAL_H
#define CORE_LOCAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <ucontext.h>

#include "arch/context.h"
#include "base/stats.h"
#include "core/call.h"
#include "core/core.h"
#include "core/fault.h"
#include "core/place.h"
#include "core/signals.h"
#include "paging/area.h"
#include "paging/lock.h"
#include "paging/table.h"
#include "sys/thread.h"
#include "userfault/abi.h"

/* ---- space.c: the address space, entering and leaving the facility */

/*
 * But 33, by which libc changes the user of all threads at once and waits until each has, and
 * SIGSYS where system calls are trapped. A thread that is cancelled in here (32) would leave its
 * locks.
 */
#define CORE_ALL_SIGNALS core_all_signals
extern uint64_t core_all_signals;

struct core_guard {
    int tid;
    bool masked;
    uint64_t mask;            /* to restore */
    struct open_thread *open; /* where it stands that this thread is inside, not masked */
};

void core_count_paging(void);

/* Every call of the facility from normal context stands between these two. */
void core_enter(struct core_guard *guard);
/*
 * The same, with signals open where the entry of every handler puts them off until we leave. For
 * short work that no signal interrupts half-way: a system call in between must not answer EINTR.
 */
void core_enter_deferring(struct core_guard *guard);
void core_leave(const struct core_guard *guard);
/* Whether all signals are open inside, and none was put off: a trap is answered. */
bool core_inside_open(const struct core_guard *guard);

/* Ranges that a killed thread left busy become plain memory. Context: edit lock held. */
void core_finish_busy(int tid);

/* A change of the layout: held before any stripe. */
void core_edit_lock(int tid);
void core_edit_unlock(void);
bool core_edit_locked(void);
/* See core_fds_lock(), which it is a half of. Context: edit lock held. */
void core_fds_pass(bool any);
void core_edit_lock_reset(void);

extern struct uf_stats *core_stats;
#define STAT_ADD(field, n) __atomic_fetch_add(&core_stats->field, (uint64_t)(n), __ATOMIC_RELAXED)
#define STAT(field)        STAT_ADD(field, 1)
/* A call that resolves pages, and what came of it: bytes, or -errno. */
#define STAT_RESOLVED(what, ret)                                                                   \
    do {                                                                                           \
        STAT(what##_calls);                                                                        \
        if ((ret) > 0) {                                                                           \
            STAT_ADD(what##_pages, (uint64_t)(ret) / PAGING_PAGE);                                 \
            STAT_ADD(what##_bytes, ret);                                                           \
        }                                                                                          \
    } while (0)

extern struct core_options core_options;

/* After fork: descriptors that stand for the parent are replaced, once. */
int core_reopen(void); /* 0, or for want of descriptors or memory -errno */

/* In a forked child: the mark that tells is to be changed by hand, if fork has not wiped it. */
void core_space_forked(void);
/* ... and from now on the address space is ours. */
void core_space_begin(void);

/* There is something that the program's calls can concern. */
void core_activate(void);

/* Whether core_init() has succeeded: else there are no contexts. */
bool core_started(void);
/* Before the first context: memory for what they need. Return: 0, -ENOMEM. */
int core_have_tables(void);

/* One line to the log, if there is one: text, and a number in hex when text ends in " ". */
void core_log(const char *text, uint64_t number);

/* ---- ranges.c: the registered ranges */

struct range {
    struct paging_area area;
    uint32_t ctx;  /* id; 0: not registered, pages that stay poisoned */
    uint32_t busy; /* being registered or changed: wait for the edit lock, then look again */
    uint64_t mode;
    uint64_t outer_mode;
    uint32_t outer;  /* the context beneath, see nested.c; 0: none */
    uint32_t traits; /* what else divides mappings in the kernel: advice, locking */
    uint32_t root;   /* which anon_vma it would have in the kernel; 0: none. See mappings.c */
};

#define TRAIT_RANDOM     1u
#define TRAIT_SEQUENTIAL 2u
#define TRAIT_DONTFORK   4u
#define TRAIT_HUGEPAGE   8u
#define TRAIT_NOHUGEPAGE 16u
#define TRAIT_DONTDUMP   32u
#define TRAIT_WIPEONFORK 64u
#define TRAIT_LOCKED     ((uint32_t)1 << 31)
#define TRAIT_ONFAULT    ((uint32_t)1 << 29) /* with it: what is not there is not brought in */
#define TRAIT_HUGE       ((uint32_t)1 << 28) /* of hugetlb */
#define TRAIT_SMALL      ((uint32_t)1 << 27) /* kept from huge pages by us; plain memory only */
#define TRAIT_UNRESERVED ((uint32_t)1 << 26) /* of hugetlb, MAP_NORESERVE; where it matters */
#define TRAIT_ACCOUNTED  ((uint32_t)1 << 30) /* private memory that was writable once */

bool ranges_find(uintptr_t addr, struct range *ret);
/* The first range that overlaps [start, end). */
bool ranges_next(uintptr_t start, uintptr_t end, struct range *ret);
/* The first that is the context's (0: any). Context: edit lock held. */
bool ranges_next_of(uint32_t ctx_id, uintptr_t start, uintptr_t end, struct range *ret);
/* The end of the last range that ends at or below addr; 0: none. Context: edit lock held. */
uintptr_t ranges_end_before(uintptr_t addr);
/* As ranges_find(), for paging: without the context. */
bool ranges_area_of(uintptr_t addr, struct paging_area *ret);
bool ranges_any(void);
/*
 * Whether area.off is an offset in a file. Else (plain private memory) it is the address at which
 * it got its anon_vma: by that the kernel tells whether two mappings can be one.
 */
static inline bool ranges_keep_offset(enum paging_kind kind, size_t page, bool dev_zero)
{
    return kind != PAGING_ANON || page > PAGING_PAGE || dev_zero;
}
/* Whether [start, end) is registered in one piece: what the kernel sees as one mapping. */
bool ranges_span(uintptr_t start, uintptr_t end);
/* The mapping around addr, as the kernel sees it. False: not registered. */
bool ranges_mapping(uintptr_t addr, uintptr_t *ret_start, uintptr_t *ret_end);
/* Whether b begins where a ends, and nothing tells them apart but their anon_vmas. */
bool ranges_alike(const struct range *a, const struct range *b);
/* The same, but that contexts and protections may differ. */
bool ranges_similar(const struct range *a, const struct range *b);
/* Of those that have none, in place. Context: edit lock held; no range is cut by start or end. */
void ranges_set_root(uintptr_t start, uintptr_t end, uint32_t root);
int ranges_init(void);

/*
 * Whatever stands in [start, end) gives way to `range` (NULL: nothing); equal neighbours merge.
 * Context: edit lock held. Return: 0, -ENOMEM.
 */
int ranges_replace(uintptr_t start, uintptr_t end, const struct range *range);
/* Mark a range, or a part of one, as busy or not. Context: edit lock held. */
int ranges_set_busy(const struct range *range, uint32_t busy);

/* ---- context.c, bells.c, descriptors.c */

/* struct sockaddr_un as far as the names need it, and its length. */
struct bell_name {
    uint16_t family;
    char path[62]; /* abstract: starts with a zero byte */
    uint32_t len;
    uint64_t ino; /* of a bell: its socket's, which no other has while it lives */
};

/* Those in other processes, and what is to be when the last is gone. See managers.c. */
struct managers {
    _Atomic uint32_t count;      /* that have come, and are there */
    _Atomic uint32_t mode;       /* UF_DEATH_MODE_... */
    _Atomic uint32_t timeout_ms; /* how long a successor is waited for */
    _Atomic uint64_t gone;       /* tick at which the last one went; 0: it is not waited for */
    _Atomic bool read_here;      /* the program is a manager, too */
    _Atomic bool dead;           /* nobody came: SIGBUS */
};

struct context {
    _Atomic uint32_t id;   /* 0: free; generation << 16 | index */
    struct bell_name bell; /* of the program's descriptor */
    bool user_mode_only;
    _Atomic bool nonblock;
    _Atomic bool in_epoll;       /* someone may look at the doorbell alone: never delay it */
    _Atomic uint64_t features;   /* as enabled, CONTEXT_READY set */
    _Atomic uint64_t extensions; /* UF_EXTENSION_... */
    struct managers managers;
    _Atomic uint64_t ticket;      /* order of messages */
    _Atomic uint64_t spin_until;  /* a reader spins until this tick: it need not be rung */
    _Atomic uint32_t spin_misses; /* waits in a row that spinning did not end */
    _Atomic uint32_t wakes;       /* calls of UFFDIO_WAKE, and what stands for one */
    _Atomic uint64_t unheard;     /* datagrams in the bell, and how often it was emptied; or: */
    _Atomic uint32_t board;       /* index + 1; 0: none. See core/place.h */
    int hub, probe;               /* the sockets of the time when it was made */
    int flags;                    /* O_CLOEXEC and O_NONBLOCK as it was made */
    _Atomic int seen;             /* a descriptor of this process that was its, or any number */
    struct bell_name heir;        /* while a fork is under way: the child's; or its len is 0 */
    _Atomic uint32_t callback_changes; /* its lowest bit says which of the two is valid */
    struct context_callback {
        core_caller *caller;
        core_callback *callback;
        void *arg;
        int fd;
    } callback[2];
};

#define CONTEXT_READY ((uint64_t)1 << 63)
#define CORE_FEATURES                                                                              \
    (UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_MISSING_HUGETLBFS | UF_FEATURE_MINOR_HUGETLBFS |    \
     UF_FEATURE_MISSING_SHMEM | UF_FEATURE_SIGBUS | UF_FEATURE_THREAD_ID |                         \
     UF_FEATURE_MINOR_SHMEM | UF_FEATURE_EXACT_ADDRESS | UF_FEATURE_WP_HUGETLBFS_SHMEM |           \
     UF_FEATURE_WP_UNPOPULATED | UF_FEATURE_POISON | UF_FEATURE_WP_ASYNC | UF_FEATURE_RWP |        \
     UF_FEATURE_RWP_ASYNC | UF_FEATURE_EVENT_REMOVE | UF_FEATURE_EVENT_UNMAP |                     \
     UF_FEATURE_EVENT_REMAP | UF_FEATURE_EVENT_FORK)
#define CORE_API_IOCTLS                                                                            \
    ((uint64_t)1 << UF_NR_REGISTER | (uint64_t)1 << UF_NR_UNREGISTER |                             \
     (uint64_t)1 << UF_NR_SET_MODE | (uint64_t)1 << UF_NR_API)
#define CORE_RANGE_IOCTLS                                                                          \
    ((uint64_t)1 << UF_NR_WAKE | (uint64_t)1 << UF_NR_COPY | (uint64_t)1 << UF_NR_ZEROPAGE |       \
     (uint64_t)1 << UF_NR_POISON)

#define CORE_EXTENSIONS (UF_EXTENSION_EVENT_ACK | UF_EXTENSION_DEATH | UF_EXTENSION_NESTED)

/* UF_REGISTER_MODE_... that can be asked for. */
#define CORE_MODES                                                                                 \
    (UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP | UF_REGISTER_MODE_MINOR | UF_REGISTER_MODE_RWP)

/* What stands in the table of descriptors beside ids, which are below. */
#define FD_REMOTE  0x80000000u /* and its index: a context of another process */
#define FD_FOREIGN 0xfffffffeu /* perhaps such one, perhaps nobody's any more */
#define FD_DEVICE  0xffffffffu

static inline bool token_remote(uint32_t token)
{
    return token >= FD_REMOTE && token < FD_FOREIGN;
}

static inline uint32_t remote_of(uint32_t token)
{
    return token & ~FD_REMOTE;
}

int contexts_init(void);
struct context *context_of_id(uint32_t id);
struct context *context_of_fd(int fd);
/* The next that is there; NULL: the first, and none. */
struct context *context_next(struct context *ctx);
/*
 * read(2) and poll(2) without waiting; NULL: it is gone. @reader: 0, or a number of the manager in
 * another process that asks; @stop: the caller makes the descriptors of new contexts himself: where
 * such a message is next, reading ends, and it is told here
 */
struct core_serve_fork;
long context_read(struct context *ctx, uint32_t reader, void *buf, size_t len,
                  struct core_serve_fork *stop);
short context_poll(struct context *ctx, bool nonblock);
/* Whether events of it are acknowledged, not only read. */
static inline bool context_acks(const struct context *ctx)
{
    return atomic_load_explicit(&ctx->extensions, memory_order_relaxed) & UF_EXTENSION_EVENT_ACK;
}
/* Somebody has emptied the bell. */
void context_emptied(struct context *ctx);
/* Return: false when it could not be rung now. */
bool context_ring(struct context *ctx);
/* The same, if something is still to be read. */
void context_ring_on(struct context *ctx);
/* Where it is counted: the manager that has its board sees it, too. */
_Atomic uint64_t *context_unheard(struct context *ctx);
/* A reader spins until this tick. */
uint64_t context_spin_until(struct context *ctx);
/* Whether as many were sent as were heard, as far as they are counted. */
static inline bool context_silent(struct context *ctx)
{
    return (atomic_load(context_unheard(ctx)) & BELL_COUNT) == 0;
}
/* Whether its manager leaves it ringing, and looks for messages before it sleeps. */
static inline bool context_rings_on(struct context *ctx)
{
    return atomic_load(context_unheard(ctx)) & BELL_LEFT;
}
/* The hub is another process's now; make one of our own. */
void contexts_stale(void);
void contexts_reopen(void);
/*
 * A forked child's own context in the place of one of ours: its bell, made beforehand, and a hub
 * for all of them. Context: edit lock held. Return: a handle of the bell, or -errno.
 */
int context_make_heir(struct context *ctx);
/* The parent has no more to do with them. Context: edit lock held. */
void contexts_heirs_gone(void);
/* In the child: the hub that was made for it is ours. Before core_reopen(). */
void contexts_take_hub(void);
/* In the child: all contexts are the parent's, but for those that have an heir. */
void contexts_forget(bool keep_heirs);
/* Release those of which no descriptor is left anywhere. Context: no lock held. */
void contexts_release_closed(void);
/* A descriptor may have left unseen, by pidfd_getfd: whoever has it says hello to the hub. */
void context_serve_if_asked(const struct context *ctx);
/* Release the context if no descriptor of it is left anywhere. Else look at its managers. */
void context_release_if_closed(struct context *ctx);
/* Whether this process itself has a descriptor of it. */
bool descriptor_here(struct context *ctx);

/* ---- managers.c */

/* A new context: what the environment asked for. */
void managers_begin(struct managers *managers);
/* UF_IO_DEATH. */
long managers_ioctl(struct context *ctx, const void *arg);
/* A message is read, by the program (0) or a manager. */
void managers_read(struct context *ctx, uint32_t reader);
/*
 * No descriptor of it is left anywhere. Return: whether it stays nevertheless, since its manager
 * was the last to have one, and died. Context: edit lock held.
 */
bool managers_outlived(struct context *ctx);
/* What is due now is done. Return: ms until something is due; -1: nothing will be. */
long managers_due(struct context *ctx);
/* Whether a touch of missing memory is to end by SIGBUS. */
static inline bool managers_dead(const struct context *ctx)
{
    return atomic_load(&ctx->managers.dead);
}

/* ---- nested.c */

/* What the context has registered the range for; 0: it has not. */
uint64_t nested_mode(const struct range *range, uint32_t id);
/* Whether a range of a context may be registered with this one so: it is its own, or nested. */
bool nested_may(const struct range *range, const struct context *ctx, uint64_t mode);
/* It is registered so: as the inner one, unless it is there already. */
void nested_enter(struct range *range, uint32_t id, uint64_t mode);
/* One of the two is not there any more. */
void nested_leave(struct range *range, uint32_t id);
/* Whether both of its contexts protect pages. */
bool nested_both(const struct range *range);
/* Which of the contexts is told of a fault with such flags at the address. */
uint32_t nested_told(const struct range *range, uint64_t flags, uintptr_t addr);
/* Which of them protects the page; NULL: gone. */
const struct context *nested_top(const struct range *range, uintptr_t addr);
/*
 * The one that protects pages, of both the one that asks; NULL, who reads the pagemap: the one with
 * UF_FEATURE_WP_ASYNC, or the inner one. Return: NULL: gone.
 */
const struct context *nested_protector(const struct range *range, const struct context *asks);
/* The area for what the context does to pages, or who reads the pagemap; and what its mark is. */
struct paging_area nested_area(const struct range *range, const struct context *asks);
unsigned nested_mark(const struct range *range, const struct context *asks);
/*
 * Where both protect and the one is going, its marks are gone; where one comes to protect above one
 * that does, or ceases to, they are whose they were. @part, @now: which pages. Context: stripes
 * held.
 */
void nested_marks_left(const struct range *range, uint32_t id, const struct paging_area *part);
void nested_marks_change(const struct range *before, const struct range *now, uint32_t id);
/* Whether its ioctls may protect pages there, and let writes pass. */
bool nested_protects(const struct range *range, const struct context *ctx);
/* The context has provided pages: those who wait for the other one go on, too. */
void nested_wake(uint32_t id, uintptr_t start, uintptr_t end);

/* ---- waiters.c, wait.c */

void waiters_init(void);
int waiters_tables(void); /* 0, -ENOMEM */
/* Whether a thread waits in [start, end), for whatever context. Context: any. */
bool waiters_within(uintptr_t start, uintptr_t end);
/* Wake the context's waiters in [start, end). */
void waiters_wake(uint32_t ctx_id, uintptr_t start, uintptr_t end);
/* Those of them whose reports have all of these flags. */
void waiters_wake_of(uint32_t ctx_id, uintptr_t start, uintptr_t end, uint32_t flags);
/* What was read and not resolved is told again. */
void waiters_tell_again(uint32_t ctx_id);
/* Take the oldest unread message. */
bool waiters_take(struct context *ctx, struct uf_msg *ret);
bool waiters_pending(uint32_t ctx_id);
/* ... without a place on a board. */
bool waiters_pending_apart(uint32_t ctx_id);
/* How many messages are pending, and how many threads wait whose messages were read. */
void waiters_count(uint32_t ctx_id, uint64_t *ret_pending, uint64_t *ret_read);
void waiters_reset(void);
/* Who waits with a message on that board does so without; UINT32_MAX: on any. */
void waiters_unpost(uint32_t board);

/* Whether there is something to be read: faults, or events. */
bool core_pending(uint32_t ctx_id);
/* ... which hangs on no board. */
bool core_pending_apart(uint32_t ctx_id);

/* A fault that is to be reported. */
struct core_report {
    uintptr_t addr;
    uint64_t flags;    /* UF_PAGEFAULT_FLAG_... */
    bool told;         /* the program's callback has seen to it: nobody else is told */
    uint32_t wakes;    /* of the context, before it did */
    uint32_t relapses; /* of pages, the same */
};

/* What a message of it says. */
void core_fill_message(const struct context *ctx, const struct core_report *report, uint32_t tid,
                       struct uf_msg *ret);

/**
 * waiters_wait() - report the fault and wait until it is resolved, woken or interrupted
 * @mask: signals blocked while waiting
 * @uc: the trapped context that a signal handler is shown; NULL in normal context
 * Return: whether it was woken.
 */
bool waiters_wait(struct context *ctx, const struct core_report *report, const uint64_t *mask,
                  ucontext_t *uc);

/* One of the kernel's mappings. */
struct vma {
    uintptr_t start, end;
    int prot;
    bool shared, special, sysv;
    bool dev_zero, anon_huge, stack;
    size_t page; /* bytes; 0: not known, see maps_page_size() */
    uint64_t off, dev, ino;
};

/* ---- mappings.c: what the kernel would take for one mapping. Context: edit lock held */

/* Something about the range that ends or begins at addr has changed: one with its neighbour now? */
void mappings_settle(uintptr_t addr);
/* The memory gets an anon_vma, registered or not, unless it has one. Any address. */
void mappings_prepare(uintptr_t addr);
/* Where in (start, end) one of our mappings is two of the kernel's, of different anon_vmas; or end.
 */
uintptr_t mappings_border(uintptr_t start, uintptr_t end);
/* Whether plain memory before and behind addr was one when it was let go. */
bool mappings_one(uintptr_t addr);
/* Writes to a range that hides nothing go unseen: has it an anon_vma by now? */
void mappings_learn(uintptr_t addr);
/* The same of any range: those pages go unseen, too, that were there, unwritten, when it began. */
void mappings_learn_all(uintptr_t addr);
/* What is known of a mapping that is about to be registered; its part begins at @start. */
void mappings_known(const struct vma *vma, uintptr_t start, uint32_t *ret_traits,
                    uint32_t *ret_root);
/* The range's part is not registered any more. */
void mappings_note(const struct range *range, uintptr_t start, uintptr_t end);
/* Whether memory that is not registered is known to be locked. To *ret_stop. */
bool mappings_locked(uintptr_t start, uintptr_t end, uintptr_t *ret_stop);
/* Memory that is not registered got traits, or lost them. */
void mappings_note_traits(uintptr_t start, uintptr_t end, uint32_t set, uint32_t clear);
/*
 * Mappings of huge pages never become one again. Ours are cut page by page, so what is the kernel's
 * one is remembered by a number: also in range.root, and of memory that was registered once.
 * [start, end) is registered next: what reaches beyond it is two mappings from now on.
 */
void mappings_cut_huge(uintptr_t start, uintptr_t end);
/* What is known of such memory that is about to be registered. */
void mappings_known_huge(uintptr_t start, uint32_t *ret_traits, uint32_t *ret_root);
/* Whether that memory, which is not registered any more, is one mapping, whatever ours are. */
bool mappings_one_huge(uintptr_t start, uintptr_t end);
/* A change of a part that ends within a huge page fails, but the kernel has cut it off before. */
void mappings_cut(uintptr_t addr);
/* A part of a range that changes: a mapping of its own, if it is of huge pages. */
void mappings_part(struct range *part, const struct range *whole);
/* It is no more, or another. */
void mappings_forget(uintptr_t start, uintptr_t end);
/* What is not registered was moved, and grew at its end. To where it is: it grew. */
void mappings_move(uintptr_t from, uintptr_t to, size_t kept, size_t added);
/*
 * What was registered stays so where it came to lie, of all of one mapping of the kernel's. *root:
 * 0; for the next part of it as it was left by the one before.
 */
void mappings_follow(struct range *moved, uint32_t *root);
/* What was registered is not where it came to lie. */
void mappings_moved(const struct range *range, uintptr_t start, uintptr_t end);
/* The next part of [*at, end) that has been kept from huge pages, and is registered no more. */
bool mappings_next_small(uintptr_t *at, uintptr_t end, uintptr_t *ret_stop);
/* Traits of memory that is not registered, as far as they are known. */
uint32_t mappings_traits(uintptr_t addr);
/* Whether anything is known of memory in [start, end) that is not registered. Context: any. */
bool mappings_any(uintptr_t start, uintptr_t end);

/* ---- layout.c's parts */

struct change {
    struct core_guard guard;
    paging_stripes held;
};

/* Around a change of [start, end): locks, and chunks that are cut go back to their plain form. */
void core_change_begin(struct change *change, uintptr_t start, uintptr_t end);
void core_change_end(struct change *change);
/* The kernel has replaced or removed the mapping: its VMAs are not ours to change. */
void core_forget_gone(uintptr_t start, uintptr_t end);
/* Call `each` with every registered part of [start, end), until it returns what is not 0. */
int core_each_part(uintptr_t start, uintptr_t end,
                   int (*each)(const struct range *, const struct paging_area *, int arg), int arg);
/* As the kernel's mappings are divided, so are the ranges. Context: edit lock held. */
void core_set_traits(uintptr_t start, uintptr_t end, uint32_t set, uint32_t clear);

/* ---- madvise.c */

/*
 * Whether all that two mappings have of advice that moves along with a mapping is known, and the
 * same. Advice of a process that was given before there was a context is not known.
 */
bool core_advice_alike(uint32_t a, uint32_t b);
/* ---- thp.c: huge pages that come by themselves */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Whether a write to its file brings a huge page, of which it fills a part; a mapping can forbid.
 */
bool core_writes_huge(const struct paging_area *area);
/* What is registered has none; when it is let go, the program's advice holds again. */
void core_keep_small(const struct paging_area *area);
void core_let_be_huge(const struct range *range, uintptr_t start, uintptr_t end);
/* MADV_COLLAPSE. */
long core_collapse(uintptr_t addr, uintptr_t end);
/* MADV_HUGEPAGE, where it may hold. Context: as core_change_begin() leaves it. */
long core_advise_huge(uintptr_t addr, uintptr_t end);

/* Such traits have been forgotten. */
void core_advice_lost(uint32_t traits);

/* ---- removal.c */

/* One step from @at on. Context: edit lock and stripes held. Return: 0, -errno. */
typedef long core_removal(uintptr_t at, uintptr_t end, int advice, uintptr_t *ret_stop);
/*
 * Advice that takes content away from [start, end), step by step in rising order; contexts that
 * want to know are told before. What refuses ends it, registered or not; a hole does not.
 * Context: no lock held. Return: 0, -errno.
 */
long core_remove(uintptr_t start, uintptr_t end, int advice, core_removal *next);

/* ---- holes.c */

/* MADV_REMOVE. Context: no lock held. */
long core_madvise_remove(uintptr_t addr, size_t len);

/* ---- mlock.c */

/* Fault in what was locked, in rising order. Context: no lock held. Return: 0 or -ENOMEM. */
long core_populate_locked(uintptr_t start, uintptr_t end);

static inline uintptr_t core_page_up(uintptr_t len)
{
    return (len + PAGING_PAGE - 1) & ~(PAGING_PAGE - 1);
}

/* ---- release.c */

/* What becomes of memory that cannot be released, for want of VMAs. */
enum core_release {
    CORE_RELEASE_OR_KEEP,   /* it stays the range that it was, busy, and -ENOMEM */
    CORE_RELEASE_OR_ORPHAN, /* its context goes: released when it is touched */
    CORE_RELEASE_COPY,      /* a forked child's copy: of it only parts may be mapped */
};
#define CORE_ORPHAN 0xfffffffdu /* in place of its context's id */

/*
 * Everything of [start, end) that belongs to the context leaves the facility; what cannot, for want
 * of VMAs or ranges, becomes an orphan. Context: edit lock held.
 */
void core_unregister_range(uintptr_t start, uintptr_t end, uint32_t ctx_id);
/*
 * As UFFDIO_UNREGISTER of that context, where nothing is another's: also what is poisoned. What
 * cannot stays as it is. Context: edit lock held. Return: 0, -errno.
 */
int core_unregister_own(uintptr_t start, uintptr_t end, uint32_t ctx_id);

/*
 * The area leaves the facility, and the array, but for what is poisoned there: that stays, as a
 * range of no context. Context: edit lock and stripes of the area held.
 */
int core_release_area(const struct range *range, const struct paging_area *area,
                      enum core_release how);
/*
 * A read fault maps what the file has around it in the VMA. One that is open for us and plain
 * memory beside it must not be one, or pages of that would be there too early: mappings of files
 * are marked by advice that has no effect on a tmpfs.
 */
void core_keep_apart(const struct paging_area *area);
/* The advice of the program instead, where the range is, or was moved to. */
void core_keep_apart_no_more(const struct range *range, uintptr_t start, size_t len);
/* Poison moves along when a mapping does. Context: edit lock and all stripes held. */
void core_move_poison(const struct range *range, const struct paging_area *from, uintptr_t to);

/* ---- huge.c */

/* Whether user space can do it on this host, for a mapping of huge pages: 0, -EINVAL, -ENOMEM. */
int core_huge_check(const struct vma *vma);
/* What is advised for such a mapping: of one whose pages are replaced it is to be known exactly. */
void core_huge_learn(struct range *range, const struct vma *vma);
/* ... and is advised again for the pages that were. Context: their stripes held. */
void core_huge_advise(const struct range *range, uintptr_t start, size_t len);
/* Whether any of [start, end) is registered huge pages. */
bool core_huge_any(uintptr_t start, uintptr_t end);
/* The size of the pages of what moves, or moved once, as one mapping. */
size_t core_huge_moving(uintptr_t addr, uintptr_t end);
/* Addresses for so much, where pages of that size can be mapped. */
long core_huge_room(uintptr_t hint, size_t len, size_t page);

/* ---- policy.c */

/* Whether the configured policy lets the caller have a context, or open the device so. */
bool policy_permits_create(int flags);
bool policy_permits_device(int flags);
/* Whether it may have messages of new contexts with forked children. */
bool policy_permits_fork_events(void);

/* ---- pagemap.c */

/* From now on there may be protected pages. */
void core_note_protection(void);

/* ---- maps.c */

/* The first mapping that overlaps [start, end). */
bool maps_next(uintptr_t start, uintptr_t end, struct vma *ret);
/* The same, but that mappings which only pages moved in have divided are one. */
bool maps_next_whole(uintptr_t start, uintptr_t end, struct vma *ret);
/* Whether the kernel's own protection lets this access pass now. */
bool maps_allows(uintptr_t addr, enum arch_access access);
/* Whether the device is a tmpfs. */
int maps_is_shmem(uint64_t dev); /* 1, 0, or -errno when it cannot be told */
/* The size of the mapping's pages: hugetlb has other ones. */
size_t maps_page_size(const struct vma *vma);
/* Whether it is none of memory: of a driver, or of the kernel's own, as its rings are. */
bool maps_is_special(const struct vma *vma);
/* What was advised and asked for with it, as TRAIT_...; 0 where that cannot be read. */
uint32_t maps_traits(const struct vma *vma);

/* ---- files.c */

/*
 * A descriptor, kept and shared, of the file behind a mapping; -1 when none can be had, -ENOMEM
 * when the process or the system has no more of them.
 */
int files_fd_for(const struct vma *vma, struct paging_file **ret_file);
/* The file may have got shorter. Context: edit lock and all stripes held. */
void files_changed(uint64_t dev, uint64_t ino);
/* Close those that no range uses. Context: edit lock held. */
void files_trim(void);
/* The number is needed: move the file's descriptor, in all ranges too. */
int files_evict(int fd); /* 0, -errno */
void files_fork_child(void);
/* The lowest of them at or above fd, or -1. */
int files_next_hidden(int fd);

/* ---- descriptors.c */

/* Of ours that do not come and go the lowest at or above fd, or INT_MAX. */
int descriptors_next_lasting(int fd);

/* ---- fault.c */

/* The interval leaves the facility; a trap that raced it looks twice. */
void core_note_released(uintptr_t start, uintptr_t end);

/* Whether an access that the program's own protection allows passes: published, and open. */
bool core_page_ready(uintptr_t addr, enum arch_access access);

/* Whether accesses to protected pages of the range are let through without a message. */
bool core_lifts_alone(const struct range *range, uintptr_t addr);
/* Whether pages without content are protected, too, by the context; see nested_protector(). */
bool core_protects_empty(const struct range *range, const struct context *asks);

/* A page that normal code is about to need: fault it in as an access would. -EFAULT or 0. */
int core_fault_in(uintptr_t addr, enum arch_access access);
/* The same, but -EFAULT where it would be reported: there the kernel could not wait. */
int core_fault_unasked(uintptr_t addr, enum arch_access access);
/* One round of it: 0 is to look again, what may be accessed may be another thing by now. */
int core_fault_round(uintptr_t addr, enum arch_access access);

/* ---- callback.c */

/* Whether the context, if it is still @id, has one. */
bool core_callback_get(struct context *ctx, uint32_t id, struct context_callback *ret);
/* Context: signal handler or normal, no lock held. Return: what the callback returned. */
int core_callback_run(struct context *ctx, const struct context_callback *callback,
                      const struct core_report *report);

/* ---- call.c */

/* The first memory is registered: what core_call_hopeless() was told before is for the log. */
void core_call_registered(void);
/* Whether some calls may fail on memory that is closed (io_uring). */
bool core_call_is_hopeless(void);

/* ---- later.c */

/*
 * Whether pages that COPY fills may stay closed until more follow: nobody waits for them, and all
 * of the program's calls are seen, which would fail on them.
 */
bool core_leaves(const struct range *range, uintptr_t start, size_t len);
/* What was left closed is opened. Context: normal, no lock held. */
void core_open_left(void);
/*
 * Whether what COPY will bring next may lie beneath its pages already. @guard: of the thread, which
 * is inside
 */
bool core_fills_ahead(const struct range *range, const struct core_guard *guard);
/* Nothing of that lies in [start, end) any more. Context: normal, no lock held. */
void core_end_ahead(uintptr_t start, uintptr_t end);

/* ---- fixed.c */

/* Whether some of it must not be hidden: then it is refused, which is logged. */
bool core_fixed_in(uintptr_t start, uintptr_t end);
/* Whether it is on a stack that the program gave to a thread. */
bool core_fixed_holds(uintptr_t addr);
void core_fixed_fork_child(void);

/* ---- stack.c */

void core_stack_init(void);
/* Whether [start, end) of the mapping is a stack that must not be hidden, which is logged. */
bool core_stack_in(uintptr_t start, uintptr_t end, const struct vma *vma, uintptr_t sp);

/* ---- ioctl.c's parts */

/* @own: called by the program itself, not by a manager elsewhere */
long context_ioctl(struct context *ctx, unsigned long req, void *arg, bool own);
/* A second mapping of shared memory, through which it is filled. Return: 0, -errno. */
int core_make_alias(struct paging_area *area);
long core_ioctl_register(struct context *ctx, void *arg);
long core_ioctl_unregister(struct context *ctx, void *arg);
/* COPY of a page of which it was known that it would answer 0. Context: its stripe held. Return:
 * done */
bool core_publish_pledged(uintptr_t page, const void *data);
/*
 * @whole: of a longer one this is a piece, which must be as right as that; 0, and less than its
 * length: of none
 */
long core_ioctl_copy(struct context *ctx, void *arg, uint64_t whole, bool own);
long core_ioctl_zeropage(struct context *ctx, void *arg);
long core_ioctl_wake(struct context *ctx, void *arg);
long core_ioctl_writeprotect(struct context *ctx, void *arg);
long core_ioctl_rwprotect(struct context *ctx, void *arg);
long core_ioctl_continue(struct context *ctx, void *arg);
long core_ioctl_poison(struct context *ctx, void *arg);
long core_ioctl_move(struct context *ctx, void *arg);
/* What is done to a part of a range within one chunk, whose stripes are held. Return: bytes, or
 * -errno. */
typedef long core_step(const struct range *range, uintptr_t start, size_t len, const void *arg);
/*
 * One step: as much as lies in one chunk and one range. -EAGAIN: not now. @fills: pages, and knows
 * of those that are filled ahead. Context: no lock held.
 */
long core_one_step(const struct context *ctx, uintptr_t start, size_t len, bool fills,
                   core_step *step, const void *arg, int tid);
/*
 * Chunk by chunk from start on, until a step comes to less than its part. Return: bytes done, or
 * -errno of the first.
 */
long core_each_step(const struct context *ctx, uintptr_t start, size_t len, core_step *step,
                    const void *arg);
/*
 * While a context's layout is changing its memory is not to be filled: the output field of the
 * ioctl says so too, before anything else is looked at. Return: 0, -EAGAIN, -EFAULT.
 */
long core_check_settled(const struct context *ctx, int64_t *user_ret);
/*
 * What the kernel makes of a result: a short one is EAGAIN, and what arrived wakes its waiters.
 * @ret: bytes done, or -errno
 */
long core_settle(struct context *ctx, uintptr_t dst, size_t len, long ret, bool wake);
/*
 * Whether [start, end) is registered in one piece, of whichever context, and can be filled.
 * Context: no lock held.
 */
bool core_destination(uintptr_t start, uintptr_t end);
/* Of the pages that are registered there, in bytes. */
size_t core_page_size(uintptr_t addr);
int core_check_range(uint64_t start, uint64_t len);
/* The source of a copy: any alignment. */
int core_check_source(uint64_t start, uint64_t len);
/* Make the page of a source readable; -EFAULT when it never will be. */
int core_source_in(uintptr_t addr);

#endif
