/* SPDX-License-Identifier: MIT */
/*
 * Stacks for calls that are made on a stack that may be too small for what we do: a goroutine's has
 * some hundred bytes left, a coroutine's or an alternate one a few KiB, where the kernel needs
 * none.
 *
 * Design notes. A stack is somebody's until who took it comes back. One that is left by a longjmp,
 * or by who is killed, stays taken; when there is no other, those are looked through whose thread
 * is gone. A vfork child that has executed a program, or is gone, is told by its parent. Compiled
 * for general registers alone: the vector registers are the program's.
 */
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "base/own.h"
#include "local.h"
#include "sys/call.h"
#include "sys/thread.h"

#define STACKS 1024
#define SIZE   ((size_t)256 << 10) /* the program's handlers may run there, too */
#define GUARD  ((size_t)4096)
#define ABOVE  ((uintptr_t)1 << 20) /* frames of main() lie above those of a constructor */

static struct stack {
    _Atomic uint64_t owner; /* see own_name(); 0: nobody's */
    bool mapped;
} stacks[STACKS];
static uintptr_t place;
static _Atomic int process;

uintptr_t trap_main_stack;
_Atomic uint32_t trap_stacks_used;

/* Survives a fork by its lower half, while the thread is told by the upper one. */
static inline uint64_t own_name(void)
{
    uint32_t pointer;

    __asm__("movl %%fs:0, %0" : "=r"(pointer));
    return (uint64_t)sys_gettid() << 32 | pointer;
}

void trap_stacks_init(void)
{
    trap_main_stack = (uintptr_t)__builtin_frame_address(0) + ABOVE;
    place = base_own_place(STACKS * SIZE);
    atomic_store(&process, sys_getpid());
}

static uintptr_t top_of(size_t i)
{
    return place + (i + 1) * SIZE;
}

/* Where nobody else is now. */
static bool map_at(size_t i)
{
    uintptr_t at = place + i * SIZE;
    uint32_t used = atomic_load(&trap_stacks_used);
    long ret = sys_call(SYS_mmap, at, SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    if (ret != (long)at) {
        if (!sys_failed(ret)) {
            sys_call(SYS_munmap, ret, SIZE);
        }
        return false;
    }
    sys_call(SYS_mprotect, at, GUARD, PROT_NONE);
    stacks[i].mapped = true;
    while (used <= i && !atomic_compare_exchange_weak(&trap_stacks_used, &used, (uint32_t)i + 1)) {
    }
    return true;
}

static uintptr_t take_free(uint64_t name)
{
    for (size_t i = 0; i < STACKS; i++) {
        uint64_t nobody = 0;

        if (atomic_load_explicit(&stacks[i].owner, memory_order_relaxed) ||
            !atomic_compare_exchange_strong(&stacks[i].owner, &nobody, name)) {
            continue;
        }
        if (stacks[i].mapped || map_at(i)) {
            return top_of(i);
        }
        atomic_store(&stacks[i].owner, 0);
        return 0;
    }
    return 0;
}

/* Whether any was found. */
static bool reclaim(void)
{
    bool found = false;

    if (sys_getpid() != atomic_load(&process)) {
        return false; /* a child in our memory may not see our threads */
    }
    for (size_t i = 0; i < STACKS; i++) {
        uint64_t owner = atomic_load(&stacks[i].owner);

        /* Not tgkill: a child in our memory may be a process of its own. */
        if (owner && sys_call(SYS_tkill, owner >> 32, 0) == -ESRCH) {
            found |= atomic_compare_exchange_strong(&stacks[i].owner, &owner, 0);
        }
    }
    return found;
}

uintptr_t trap_stack_take(void)
{
    uint64_t name = own_name();
    uintptr_t top = take_free(name);

    return top || !reclaim() ? top : take_free(name);
}

void trap_stack_leave(uintptr_t sp)
{
    if (sp - place < STACKS * SIZE) {
        atomic_store_explicit(&stacks[(sp - place) / SIZE].owner, 0, memory_order_release);
    }
}

void trap_stacks_gone(long tid)
{
    uint32_t used = atomic_load(&trap_stacks_used);

    for (uint32_t i = 0; i < used; i++) {
        if (atomic_load_explicit(&stacks[i].owner, memory_order_relaxed) >> 32 == (uint64_t)tid) {
            atomic_store(&stacks[i].owner, 0);
        }
    }
}

void trap_stacks_forked(void)
{
    uint32_t used = atomic_load(&trap_stacks_used);
    uint64_t name = own_name();

    for (uint32_t i = 0; i < used; i++) {
        uint64_t owner = atomic_load(&stacks[i].owner);

        if (owner) {
            atomic_store(&stacks[i].owner, (uint32_t)owner == (uint32_t)name ? name : 0);
        }
    }
    atomic_store(&process, sys_getpid());
}
