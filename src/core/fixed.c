/* SPDX-License-Identifier: MIT */
/*
 * Memory that must not be hidden, since who touches it gets no signal that could wait: alternate
 * stacks, on which the kernel writes signals' frames; stacks that threads were given, on which it
 * writes those of ours; memory of KVM's guests.
 *
 * Design notes. What the program says of such memory is remembered from the start, long before
 * there is a context. Nobody says when it ends, so that is asked when it matters: whether the
 * thread lives, whether the descriptor is still a guest's.
 */
#include <errno.h>
#include <string.h>

#include "base/cpu.h"
#include "base/fds.h"
#include "base/lock.h"
#include "base/text.h"
#include "core_local.h"
#include "sys/file.h"
#include "sys/thread.h"

#define FIXED_MAX    1024 /* what comes after is not known, and not refused */
#define ENDING_TRIES 64

static struct fixed {
    enum core_fixed_kind kind;
    int owner;
    unsigned number;
    uint64_t since;       /* ticks */
    uintptr_t start, end; /* end 0: free */
} table[FIXED_MAX];
static struct base_lock lock;

static const char *const texts[] = {
    [CORE_FIXED_ALTSTACK] = "an alternate signal stack, where frames must fit: at ",
    [CORE_FIXED_STACK] = "the stack of a thread, where a signal's frame must fit: at ",
    [CORE_FIXED_GUEST] = "memory of a KVM guest, whose faults cannot wait: at ",
    [CORE_FIXED_GUARD] = "guard pages, of which our own could not be told: at ",
    [CORE_FIXED_SEAL] = "mseal(), after which no page could be opened: at ",
    [CORE_FIXED_KEY] = "a protection key, which opening a page would not keep: at ",
};

static void refuse(const char *what, enum core_fixed_kind kind, uintptr_t addr)
{
    char line[160];
    struct base_text text = base_text_on(line, sizeof line);

    base_text_str(&text, what);
    base_text_str(&text, texts[kind]);
    core_log(line, addr);
}

static void lock_table(uint64_t *ret_mask)
{
    const uint64_t all = CORE_ALL_SIGNALS;

    sys_sigmask(SIG_BLOCK, &all, ret_mask);
    base_lock_acquire(&lock, sys_gettid());
}

static void unlock_table(const uint64_t *mask)
{
    base_lock_release(&lock);
    sys_sigmask(SIG_SETMASK, mask, NULL);
}

static struct fixed *entry_of(enum core_fixed_kind kind, int owner, unsigned number, bool make)
{
    struct fixed *unused = NULL;

    for (size_t i = 0; i < FIXED_MAX; i++) {
        struct fixed *entry = &table[i];

        if (!entry->end) {
            unused = unused ? unused : entry;
        } else if (entry->kind == kind && entry->owner == owner && entry->number == number) {
            return entry;
        }
    }
    return make ? unused : NULL;
}

void core_fixed_note(enum core_fixed_kind kind, int owner, unsigned number, uintptr_t start,
                     size_t len)
{
    struct fixed *entry;
    uint64_t mask;

    lock_table(&mask);
    entry = entry_of(kind, owner, number, len);
    if (entry && len) {
        *entry = (struct fixed){kind, owner, number, base_cpu_ticks(), start, start + len};
    } else if (entry) {
        entry->end = 0;
    }
    unlock_table(&mask);
}

bool core_fixed_refused(enum core_fixed_kind kind, uintptr_t start, size_t len)
{
    struct range range;
    uintptr_t end = start + len;

    if (!atomic_load_explicit(&core_active, memory_order_relaxed) || !core_same_space()) {
        return false;
    }
    for (uintptr_t at = start; at < end && ranges_next(at, end, &range); at = range.area.end) {
        if (range.ctx) {
            refuse("refused on registered memory: ", kind, start);
            return true;
        }
    }
    return false;
}

/* ---- whether it is still so */

static bool is_guest(int fd)
{
    static const char name[] = "anon_inode:kvm-vm";
    char target[sizeof name + 1]; /* a longer one shows */

    return base_fd_target(fd, target, sizeof target) == sizeof name - 1 &&
           memcmp(target, name, sizeof name) == 0;
}

/* Who joined a thread may come before its last steps. */
static bool thread_lives(const struct fixed *entry)
{
    if (base_thread_newer(entry->owner, entry->since)) {
        return false;
    }
    for (int tries = 0; tries < ENDING_TRIES; tries++) {
        if (base_thread_dead(entry->owner)) {
            return false;
        }
        sys_call(SYS_sched_yield);
    }
    return true;
}

static bool still(const struct fixed *entry)
{
    switch (entry->kind) {
    case CORE_FIXED_ALTSTACK:
    case CORE_FIXED_STACK:
        return thread_lives(entry);
    case CORE_FIXED_GUEST:
        return is_guest(entry->owner);
    case CORE_FIXED_GUARD:
    case CORE_FIXED_SEAL:
    case CORE_FIXED_KEY:
        break;
    }
    return false;
}

/* The alternate stack of this thread, whoever has set it. */
static bool own_altstack(uintptr_t start, uintptr_t end)
{
    stack_t stack;

    return sys_call(SYS_sigaltstack, NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE) &&
           (uintptr_t)stack.ss_sp < end && (uintptr_t)stack.ss_sp + stack.ss_size > start;
}

bool core_fixed_in(uintptr_t start, uintptr_t end)
{
    bool found = own_altstack(start, end);
    enum core_fixed_kind kind = CORE_FIXED_ALTSTACK;
    uint64_t mask;

    lock_table(&mask);
    for (size_t i = 0; !found && i < FIXED_MAX; i++) {
        struct fixed *entry = &table[i];

        if (entry->end <= start || entry->start >= end) {
            continue;
        }
        found = still(entry);
        kind = entry->kind;
        entry->end = found ? entry->end : 0;
    }
    unlock_table(&mask);
    if (found) {
        refuse("refused to register ", kind, start);
    }
    return found;
}

bool core_fixed_holds(uintptr_t addr)
{
    bool found = false;
    uint64_t mask;

    lock_table(&mask);
    for (size_t i = 0; !found && i < FIXED_MAX; i++) {
        found = table[i].kind == CORE_FIXED_STACK && addr >= table[i].start && addr < table[i].end;
    }
    unlock_table(&mask);
    return found;
}

/* Its other threads, and its guests, are the parent's. */
void core_fixed_fork_child(void)
{
    stack_t stack;

    base_lock_reset(&lock);
    memset(table, 0, sizeof table);
    if (sys_call(SYS_sigaltstack, NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE)) {
        core_fixed_note(CORE_FIXED_ALTSTACK, sys_gettid(), 0, (uintptr_t)stack.ss_sp,
                        stack.ss_size);
    }
}
