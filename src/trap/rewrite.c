/* SPDX-License-Identifier: MIT */
/*
 * A trap costs microseconds, a jump nothing: a site that traps again is rewritten, if it is proven
 * that it can be (place.c).
 *
 *     site, or mov ── jmp ──> [gap ── jmp ──>] stub: lea site + 2, %rcx ; [mov $nr, %eax] ;
 * trap_entry
 *
 * Other threads run through the site all the while. Its first byte becomes hlt, which traps by
 * SIGSEGV wherever it is executed; then the bytes behind it are written; then the first one. After
 * each step all processors are made to forget what they have fetched (membarrier). Who meets the
 * hlt goes on in the stub. Nobody can stand between the bytes that are written: the second of them
 * is no instruction's beginning, before and after.
 *
 * The table of sites only grows; an address is tried twice. Where a library was unloaded and
 * another one came, that may keep a site from being rewritten; it never makes a wrong one.
 */
#include <stdatomic.h>

#include "intercept/calls.h"
#include "local.h"
#include "rewrite.h"
#include "sys/file.h"
#include "sys/thread.h"

#define SITES 2048 /* a power of two */
#define TRIES 16
/* A site is tried when it has trapped so often: it may be worth the effort; it is. */
#define TRAPS_FIRST 2
#define TRAPS_LAST  1000

#define SYSCALL_LEN 2
#define MOV_LEN     5
#define JUMP_LEN    5
#define HLT         0xf4
#define INT3        0xcc
#define JUMP        0xe9
#define JUMP_SHORT  0xeb
#define GAP_MAX     64

#define CMD_SYNC_CORE          (1 << 5) /* MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, Linux 4.16 */
#define CMD_REGISTER_SYNC_CORE (1 << 6)

static struct site {
    _Atomic uintptr_t ret; /* where its call returns to; 0: free */
    _Atomic uint32_t traps, tries;
    _Atomic uintptr_t at; /* of the first byte that is written */
    _Atomic uintptr_t stub;
} sites[SITES];

static atomic_flag busy = ATOMIC_FLAG_INIT;
static bool enabled;

static bool sync_cores(void)
{
    long ret = sys_call(SYS_membarrier, CMD_SYNC_CORE, 0, 0);

    if (sys_failed(ret)) { /* as after a fork */
        sys_call(SYS_membarrier, CMD_REGISTER_SYNC_CORE, 0, 0);
        ret = sys_call(SYS_membarrier, CMD_SYNC_CORE, 0, 0);
    }
    return ret == 0;
}

void rewrite_init(void)
{
    enabled = sync_cores();
}

static struct site *site_of(uintptr_t ret, bool add)
{
    uint32_t hash = (uint32_t)((ret * 0x9e3779b97f4a7c15u) >> 40);

    for (uint32_t i = 0; i < TRIES; i++) {
        struct site *site = &sites[(hash + i) % SITES];
        uintptr_t is = atomic_load(&site->ret);

        if (is == ret || (!is && add && atomic_compare_exchange_strong(&site->ret, &is, ret)) ||
            is == ret) {
            return site;
        }
        if (!is) {
            return NULL;
        }
    }
    return NULL;
}

/* lea ret(%rip), %rcx ; mov $nr, %eax ; jmp *next(%rip) ; next: .quad trap_entry */
static bool stub_write(int fd, uintptr_t stub, uintptr_t ret, const struct place *place)
{
    uint8_t code[32] = {0x48, 0x8d, 0x0d};
    const uint8_t jump[6] = {0xff, 0x25};
    uintptr_t to = (uintptr_t)trap_entry;
    int32_t far = (int32_t)(intptr_t)(ret - (stub + 7));
    size_t len = 7;

    __builtin_memcpy(&code[3], &far, sizeof far);
    if (place->kind == PLACE_MOV) {
        code[len] = 0xb8;
        __builtin_memcpy(&code[len + 1], &place->nr, sizeof place->nr);
        len += MOV_LEN;
    }
    __builtin_memcpy(&code[len], jump, sizeof jump);
    __builtin_memcpy(&code[len + sizeof jump], &to, sizeof to);
    return text_write(fd, stub, code, len + sizeof jump + sizeof to);
}

static void jump_to(uint8_t *code, uintptr_t from, uintptr_t to)
{
    int32_t far = (int32_t)(intptr_t)(to - (from + JUMP_LEN));

    code[0] = JUMP;
    __builtin_memcpy(&code[1], &far, sizeof far);
}

/* The jump in the gap, which is dead until the site leads there. */
static bool gap_write(int fd, const struct place *place, uintptr_t stub)
{
    uint8_t code[GAP_MAX];

    if (place->fill) {
        __builtin_memset(code, INT3, sizeof code);
        if (!text_write(fd, place->fill, code, place->fill_end - place->fill)) {
            return false;
        }
    }
    jump_to(code, place->gap, stub);
    return text_write(fd, place->gap, code, JUMP_LEN);
}

/*
 * See the top. What fails on the way leaves a site that goes by SIGSEGV, and code that the proofs
 * do not know: that was the last one.
 */
static void site_write(int fd, uintptr_t at, const uint8_t *code, size_t len)
{
    const uint8_t stop = HLT;

    enabled = text_write(fd, at, &stop, 1) && sync_cores() &&
              text_write(fd, at + 1, code + 1, len - 1) && sync_cores() &&
              text_write(fd, at, code, 1) && sync_cores();
}

static void site_rewrite(int fd, struct site *site, uintptr_t ret, long nr, bool thorough,
                         const struct functions *all)
{
    uintptr_t syscall_at = ret - SYSCALL_LEN, stub;
    struct place place;
    uint8_t code[JUMP_LEN];

    if (!place_find(all, syscall_at, nr, thorough, &place)) {
        return;
    }
    stub = stub_new(all);
    if (!stub || !stub_write(fd, stub, ret, &place)) {
        return;
    }
    if (place.kind == PLACE_MOV) {
        atomic_store(&site->at, syscall_at - MOV_LEN);
        atomic_store(&site->stub, stub);
        jump_to(code, syscall_at - MOV_LEN, stub);
        site_write(fd, syscall_at - MOV_LEN, code, JUMP_LEN);
    } else if (gap_write(fd, &place, stub)) {
        atomic_store(&site->at, syscall_at);
        atomic_store(&site->stub, stub);
        code[0] = JUMP_SHORT;
        code[1] = (uint8_t)(place.gap - ret);
        site_write(fd, syscall_at, code, SYSCALL_LEN);
    }
}

static void site_try(struct site *site, uintptr_t ret, long nr, bool thorough)
{
    struct functions all;
    int fd = text_open();

    if (fd < 0) {
        return;
    }
    if (functions_of(ret - SYSCALL_LEN, &all)) {
        site_rewrite(fd, site, ret, nr, thorough, &all);
    }
    sys_close(fd);
}

void rewrite_seen(uintptr_t ret, long nr)
{
    const uint64_t all_signals = ~(uint64_t)0;
    struct site *site = enabled ? site_of(ret, true) : NULL;
    uint32_t traps, tries;
    uint64_t mask;

    if (!site || icall_filtered || atomic_load(&site->stub)) {
        return;
    }
    traps = atomic_load(&site->traps);
    if (traps < TRAPS_LAST) {
        atomic_store(&site->traps, ++traps); /* more or less */
    }
    tries = traps >= TRAPS_LAST ? 2 : traps >= TRAPS_FIRST ? 1 : 0;
    if (tries <= atomic_load(&site->tries) || atomic_flag_test_and_set(&busy)) {
        return; /* another time */
    }
    sys_sigmask(SIG_SETMASK, &all_signals, &mask); /* cancelled here, a thread would stay busy */
    if (tries > atomic_load(&site->tries) && !atomic_load(&site->stub)) {
        site_try(site, ret, nr, tries == 2);
        atomic_store(&site->tries, tries);
    }
    atomic_flag_clear(&busy);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}

uintptr_t rewrite_stopped(uintptr_t pc)
{
    const uintptr_t after[] = {pc + SYSCALL_LEN, pc + MOV_LEN + SYSCALL_LEN};

    for (int i = 0; i < 2; i++) {
        struct site *site = site_of(after[i], false);

        if (site && atomic_load(&site->at) == pc) {
            return atomic_load(&site->stub);
        }
    }
    return 0;
}

void rewrite_forked(void)
{
    if (atomic_flag_test_and_set(&busy)) {
        enabled = false; /* another thread was half-way */
    }
    atomic_flag_clear(&busy);
}
