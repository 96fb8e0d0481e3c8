/* SPDX-License-Identifier: MIT */
/*
 * Differential fuzzing: what the parts of `difffuzz` share.
 *
 * A sequence is an array of operations that depends on its seed and nothing else (gen.c), so that
 * any subset of it can be run again (exec_*.c). It is run on whatever facility answers, and the
 * trace of its results (trace.c) must be a function of the operations alone:
 *
 *  - Everything happens in an arena at a fixed address; descriptors and thread ids are printed by
 *    their number here.
 *  - Whatever may wait for a fault runs on a worker thread. After each operation the main thread
 *    waits until every worker has finished its job or is asleep in the kernel (worker.c), so only
 *    one thing happens at a time, whether or not the facility sent a message for it.
 *  - Where two workers can run at once (one WAKE frees both) they write to different words, and
 *    messages are sorted.
 *  - Some sequences fork (exec_child.c). The child has workers of its own and does what it is told,
 *    one operation at a time, so that of both processes, too, only one does something. What both
 *    must know is in struct fuzz_shared.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "userfault/abi.h"

#define FUZZ_ARENA 0x180000000000ull /* nothing else of the process is within a TiB of it */
/* Beside the UF_FEATURE_ bits: system calls wait for the hidden memory that they are handed. */
#define FUZZ_CALLS_WAIT ((uint64_t)1 << 39)
/* And an order to the generator: every sequence is one of huge pages. */
#define FUZZ_ALL_HUGE ((uint64_t)1 << 38)
/* Another: every sequence forks. */
#define FUZZ_ALL_FORK ((uint64_t)1 << 37)

#define FUZZ_SOURCE  0x1f0000000000ull /* what COPY and pwrite copy from; a hole follows */
#define FUZZ_SCRATCH 0x1e0000000000ull /* ioctl arguments at awkward places */
#define FUZZ_PAGES   48                /* of the arena, at most */
#define FUZZ_SRCPG   16
#define FUZZ_WORKERS 4
#define FUZZ_CTXS    4 /* descriptor slots of each process; dup makes two of them one context */
#define FUZZ_MEMFDS  2
#define FUZZ_MAXOPS  96

/*
 * The two processes. Slots below FUZZ_CTXS are of contexts whose memory is the parent's, the others
 * of those whose memory is the child's; either process may hold either.
 */
enum process { PARENT, CHILD, PROCESSES };
#define FUZZ_SLOTS    (PROCESSES * FUZZ_CTXS)
#define SLOT_OWNER(s) ((s) / FUZZ_CTXS)

#define FUZZ_LANE 256 /* worker w touches the words of a page from FUZZ_LANE + 64 * w */

/*
 * What a sequence counts in. Some are about hugetlb: there a page is a huge one for everything, and
 * the files are of such pages; each finds a pool of FUZZ_POOL pages, which is more than it can use.
 */
#define FUZZ_POOL 96
extern uint64_t fuzz_page;  /* bytes of a page */
extern uint64_t fuzz_small; /* bytes of a small page */
extern int fuzz_pages;      /* of the arena */
extern int fuzz_file_pages; /* of a memfd when it is made */
bool fuzz_huge(void);

enum op_kind {
    OP_MAP, /* address space */
    OP_MUNMAP,
    OP_MPROTECT,
    OP_MREMAP,
    OP_MADVISE,
    OP_MLOCK,
    OP_MUNLOCK,
    OP_MINCORE,
    OP_FALLOCATE, /* the files beneath it */
    OP_TRUNCATE,
    OP_PWRITE,
    OP_OPEN, /* contexts */
    OP_API,
    OP_REGISTER,
    OP_UNREGISTER,
    OP_COPY,
    OP_ZEROPAGE,
    OP_WRITEPROTECT,
    OP_CONTINUE,
    OP_POISON,
    OP_MOVE,
    OP_WAKE,
    OP_BADPTR,
    OP_UNKNOWN,
    OP_READ,
    OP_POLL,
    OP_DUP,
    OP_CLOSE,
    OP_SETFL,
    OP_TOUCH, /* accesses */
    OP_SYSCALL,
    OP_KICK,
    OP_FORK,   /* a child that looks at its memory and ends */
    OP_DIVIDE, /* a child that goes on beside its parent */
    OP_END,    /* of that child */
    OP_KINDS,
};

enum map_kind {
    MAP_KIND_ANON,
    MAP_KIND_SHARED,
    MAP_KIND_MEMFD_SHARED,
    MAP_KIND_MEMFD_PRIVATE,
    MAP_KIND_MEMFD_READONLY, /* shared, of a read-only descriptor: may never be written */
    MAP_KIND_ZERO_SHARED,
    MAP_KIND_ZERO_PRIVATE,
    MAP_KIND_SYSV,
    MAP_KIND_FILE, /* an ordinary file: cannot be registered */
    MAP_KIND_HUGE,
    MAP_KIND_HUGE_SHARED,
    MAP_KINDS,
};

enum src_kind { SRC_BUFFER, SRC_UNALIGNED, SRC_NULL, SRC_CUT, SRC_ARENA, SRC_KINDS };
enum touch_kind { TOUCH_READ, TOUCH_WRITE, TOUCH_RMW, TOUCH_CROSS, TOUCH_KINDS };
enum syscall_kind { SYSCALL_READ, SYSCALL_WRITE, SYSCALL_PREAD, SYSCALL_PWRITE, SYSCALL_KINDS };
enum ptr_kind { PTR_NULL, PTR_UNMAPPED, PTR_READONLY, PTR_UNALIGNED, PTR_CUT, PTR_KINDS };

/* The meaning of the members by operation is in exec_mem.c and exec_ctx.c. */
struct op {
    enum op_kind kind;
    uint8_t slot, slot2, sub, worker;
    uint8_t process; /* which of the two processes does it */
    uint64_t addr, len, addr2, arg, arg2;
};

/* ------------------------------------------------------------------ gen.c */

#define FUZZ_EVENTS (UF_FEATURE_EVENT_REMAP | UF_FEATURE_EVENT_REMOVE | UF_FEATURE_EVENT_UNMAP)

bool gen_is_huge(uint64_t seed, uint64_t features);
bool gen_is_divided(uint64_t seed, uint64_t features);
int gen_sequence(uint64_t seed, uint64_t features, struct op *ret_ops);

/* ------------------------------------------------------------------ gen_pass.c */

uint64_t gen_mix(uint64_t z);
void gen_tell(uint64_t seed, uint64_t events, struct op *ops, int count);
int gen_divide(uint64_t seed, uint64_t features, struct op *ops, int count);

/* ------------------------------------------------------------------ trace.c */

void trace_init(void);
void trace_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void trace_op(int index, const struct op *op);
void trace_finish(int worker, int index, const struct op *op);
void trace_addr(uint64_t addr);
void trace_result(long ret, int err);
/* Not trace_result(call, errno): which argument is evaluated first is the compiler's choice. */
#define trace_call(call)                                                                           \
    do {                                                                                           \
        long ret_ = (call);                                                                        \
        trace_result(ret_, errno);                                                                 \
    } while (0)
void trace_messages(struct uf_msg *msgs, int count, bool sorted);
void trace_flush(int fd);
void trace_flush_sigsafe(int fd);

/* ------------------------------------------------------------------ worker.c */

/* An access that may end in SIGSEGV or SIGBUS. */
struct guard {
    sigjmp_buf env;
    int sig, code;
    uint64_t addr;
};

extern __thread struct guard *volatile guard_current;
void guard_init(void);
void guard_trace(const struct guard *guard);

/* True where the code is entered, false when a signal has ended it; then guard_leave() either way.
 */
#define guard_enter(g) ((g)->sig = 0, guard_current = (g), sigsetjmp((g)->env, 0) == 0)
#define guard_leave()  ((void)(guard_current = NULL))

/* Its pointers mean the same in both processes. */
struct job {
    void (*run)(struct job *job);    /* on the worker */
    void (*report)(struct job *job); /* on the main thread, when it is done */
    struct op op;
    int index, worker, fd;
    uint64_t addr, word;
    long ret;
    int err;
    struct guard guard;
    struct uf_msg msgs[8];
};

enum job_class {
    JOB_TOUCH,     /* touches only its worker's words */
    JOB_READER,    /* waits in read(2) on a context */
    JOB_EXCLUSIVE, /* reads or writes whole pages: no other touches beside it */
};

void worker_init(void);
void worker_watch(pid_t child);
void worker_lose_child(void);
struct job *worker_claim(int wanted, enum job_class class);
void worker_start(struct job *job);
void worker_settle(void);
int worker_busy(enum job_class class);
int worker_by_tid(pid_t tid);
bool worker_kick(int worker);
void worker_kick_readers(void);
bool worker_messages_racy(void);
void worker_note_waking(void);

/* ------------------------------------------------------------------ exec_*.c */

/* What both processes know. */
struct fuzz_shared {
    int fds[PROCESSES][FUZZ_SLOTS];      /* their numbers in each */
    uint64_t told[FUZZ_SLOTS];           /* the features by which the slot's context tells events */
    bool wp_page[PROCESSES][FUZZ_PAGES]; /* perhaps registered for write protection */
    bool private_file;                   /* a memfd has been mapped privately in this sequence */
    bool racy;                           /* see worker_note_waking() */
    bool copying;                        /* a COPY is in flight on a worker: */
    struct op copy;
};
extern struct fuzz_shared *fuzz_shared;
extern enum process fuzz_self; /* which of the two this process is */
extern bool fuzz_divided;      /* the sequence has an OP_DIVIDE */

void exec_init(bool perturb);
void exec_op(int index, const struct op *op);
void exec_finish(void);

bool exec_ctx(int index, const struct op *op); /* false: not one of its operations */
int ctx_fd(int slot);
bool ctx_has(enum process process, int slot);

/* What the slot's context tells, as from UFFDIO_API, dup and close on. */
void events_slot(int slot, uint64_t features);
bool events_any(enum process process);
/* Around an operation. Before it: whether it can be done. */
bool events_before(const struct op *op);
void events_after(void);
void events_quiet(void); /* within it: no more of them are to come */
void events_child_begins(void);

bool exec_child(int index, const struct op *op);
bool child_lives(void);
void child_run(void (*run)(int), int arg); /* there, and wait until it is done */
void child_give(int slot);
void child_finish(void);

/* A pipe that a child has for as long as it has any of its descriptors. */
enum anchor { ANCHOR_DIVIDE, ANCHOR_FORK, ANCHORS };
void anchor_init(void);
int anchor_set(enum anchor anchor);   /* before the fork */
void anchor_drop(enum anchor anchor); /* after it, in the parent */
void anchor_await(int end);

void ctx_finish(void);
void ctx_close_old(void);
void ctx_note_mapped(uint64_t addr, uint64_t len);
bool exec_mem(int index, const struct op *op);
void mem_finish(void);
bool exec_touch(int index, const struct op *op);
void mem_fill_source(int index, uint64_t bytes);
void mem_report_mremap(const struct op *op, uint64_t at, int err);
void mem_share_files(void);
bool mem_private_huge(uint64_t addr, uint64_t len);
void mem_note(bool *table, uint64_t addr, uint64_t len, bool value); /* by page of the arena */
bool mem_any(const bool *table, uint64_t addr, uint64_t len);
void mem_hash(bool only_private);

void exec_numbered(int index); /* an operation of the sequence, in this process */
void fuzz_die(const char *why) __attribute__((noreturn));

#endif
