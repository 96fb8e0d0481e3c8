/* SPDX-License-Identifier: MIT */
/*
 * What is made of a sequence when it is whole: one whose contexts tell events, or one of two
 * processes. So the seeds of all others mean what they always did.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "fuzz.h"

uint64_t gen_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* What was to be done to memory that is registered, as a call of which is told. */
static void tell_of(struct op *op, uint64_t how)
{
    uint64_t all = (uint64_t)fuzz_pages * fuzz_page;

    if (op->addr - FUZZ_ARENA >= all || op->len > all / 4)
        return; /* nonsense, or the fixtures */
    if (how % 3 == 0) {
        op->kind = OP_MADVISE;
        op->arg = MADV_DONTNEED;
        return;
    }
    op->kind = OP_MREMAP;
    op->arg = op->len;
    op->arg2 = MREMAP_MAYMOVE | MREMAP_FIXED | (how % 3 == 1 && how % 4 == 0 ? 4 : 0);
    op->addr2 = FUZZ_ARENA + how / 16 % (uint64_t)(fuzz_pages * 3 / 4) * fuzz_page;
}

/*
 * One sequence in four has contexts that tell events. They are read by poll(2), which a blocking
 * context refuses; and no memory is locked, or mremap() would wait for what it adds to it.
 */
void gen_tell(uint64_t seed, uint64_t events, struct op *ops, int count)
{
    for (int i = 0; i < count; i++) {
        struct op *op = &ops[i];

        switch ((int)op->kind) {
        case OP_OPEN:
            op->arg |= O_NONBLOCK;
            break;
        case OP_API:
            op->arg2 |= gen_mix(seed + (uint64_t)i) & events;
            break;
        case OP_SETFL:
            op->arg = O_NONBLOCK;
            break;
        case OP_MLOCK:
            op->kind = OP_MUNLOCK;
            break;
        case OP_WAKE:
        case OP_WRITEPROTECT:
        case OP_ZEROPAGE:
            if (gen_mix(seed + (uint64_t)i) % 2)
                tell_of(op, gen_mix(seed * 5 + (uint64_t)i));
            break;
        case OP_MREMAP: /* what is registered elsewhere is not to be looked at */
            if ((op->arg2 & MREMAP_MAYMOVE) && (op->arg2 != 8))
                op->arg2 |= MREMAP_FIXED;
            break;
        default:
            break;
        }
    }
}

struct division {
    uint64_t rng;
    enum process toucher;    /* of what is to be resolved next */
    bool follows[FUZZ_CTXS]; /* perhaps the child has one like it */
};

static unsigned below(struct division *d, unsigned n)
{
    return (unsigned)(gen_mix(d->rng += 0x9e3779b97f4a7c15ull) % n);
}

static bool chance(struct division *d, unsigned percent)
{
    return below(d, 100) < percent;
}

static enum process any_process(struct division *d)
{
    return chance(d, 50) ? CHILD : PARENT;
}

/* Who does it, and of whose memory the context is: often that in which somebody waits. */
static void assign(struct division *d, struct op *op)
{
    enum process memory = chance(d, 75) ? d->toucher : any_process(d);

    if (op->kind >= OP_OPEN && !d->follows[op->slot] && op->kind != OP_OPEN && chance(d, 85))
        memory = PARENT;
    op->process = (uint8_t)any_process(d);
    if (op->kind == OP_TOUCH || op->kind == OP_SYSCALL) {
        d->toucher = (enum process)op->process;
        return;
    }
    if (op->kind < OP_OPEN || op->kind > OP_SETFL)
        return;
    op->slot = (uint8_t)(op->slot + memory * FUZZ_CTXS);
    op->slot2 = (uint8_t)(op->slot2 + memory * FUZZ_CTXS);
    /* A new context is of its maker's memory; and only there a COPY may wait on a worker. */
    if (op->kind == OP_OPEN || (op->kind == OP_COPY && op->sub == SRC_ARENA) || chance(d, 40))
        op->process = (uint8_t)memory;
}

/* A context that the child makes itself, and what it was registered by its parent with. */
static int insert_own(struct division *d, struct op *ops, int count, int at)
{
    struct op reg = {.kind = OP_REGISTER}, *op;

    for (int i = 0; i < at; i++) {
        if (ops[i].kind == OP_REGISTER && (!reg.addr || chance(d, 50)))
            reg = ops[i];
    }
    memmove(&ops[at + 3], &ops[at], (size_t)(count - at) * sizeof(ops[0]));
    op = memset(&ops[at], 0, 3 * sizeof(ops[0]));
    op[0] = (struct op){.kind = OP_OPEN, .arg = O_NONBLOCK | O_CLOEXEC};
    op[1] = (struct op){.kind = OP_API, .arg = UF_API};
    op[2] = reg;
    for (int i = 0; i < 3; i++) {
        op[i].process = CHILD;
        op[i].slot = FUZZ_CTXS + 1;
    }
    return 3;
}

static void insert(struct op *ops, int *count, int at, enum op_kind kind, uint8_t sub)
{
    memmove(&ops[at + 1], &ops[at], (size_t)(*count - at) * sizeof(ops[0]));
    ops[at] = (struct op){.kind = kind, .sub = sub};
    ++*count;
}

/*
 * Somewhere in its first half the process forks. From there on each operation is one of either's.
 * The child may end before its parent does, and another one follow.
 */
int gen_divide(uint64_t seed, uint64_t features, struct op *ops, int count)
{
    struct division d = {.rng = seed * 0x9e6c63d0876a9a47ull};
    int begin, end;

    gen_tell(seed, features & FUZZ_EVENTS, ops, count);
    for (int i = 0; i < count; i++) {
        if (ops[i].kind == OP_API && chance(&d, 80)) {
            ops[i].arg2 |= UF_FEATURE_EVENT_FORK;
            d.follows[ops[i].slot] = true;
        }
        if (ops[i].kind == OP_API && chance(&d, 50))
            ops[i].arg2 &= ~FUZZ_EVENTS;
    }
    if (count > FUZZ_MAXOPS - 6)
        count = FUZZ_MAXOPS - 6;
    begin = 4 + (int)below(&d, (unsigned)count / 2);
    begin = begin > count ? count : begin;
    for (int i = begin; i < count; i++)
        assign(&d, &ops[i]);
    if (chance(&d, 40)) {
        end = count - (int)below(&d, (unsigned)(count - begin) / 2 + 1);
        if (chance(&d, 70))
            insert(ops, &count, end, OP_DIVIDE, 0);
        insert(ops, &count, end, OP_END, (uint8_t)below(&d, 2));
    }
    if (chance(&d, 30))
        count += insert_own(&d, ops, count, begin);
    insert(ops, &count, begin, OP_DIVIDE, 0);
    return count;
}
