/* SPDX-License-Identifier: MIT */
/*
 * From a seed to a sequence of operations.
 *
 * A rough picture of what is mapped and registered is kept only to make most operations hit
 * something; nothing depends on its being right.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "fuzz.h"

struct gen {
    uint64_t rng, features;
    struct op *ops;
    int count;
    uint8_t kind[FUZZ_PAGES]; /* 0: hole, else map_kind + 1 */
    uint8_t reg[FUZZ_PAGES];  /* 0: not registered, else slot + 1 */
    bool forked;              /* the kernel remembers what was shared, ours cannot see it */
    int touched;              /* the page touched last */
    int slots;                /* descriptor slots in use */
};

static uint64_t rnd(struct gen *g)
{
    return gen_mix(g->rng += 0x9e3779b97f4a7c15ull);
}

static unsigned below(struct gen *g, unsigned n)
{
    return (unsigned)(rnd(g) % n);
}

static bool chance(struct gen *g, unsigned percent)
{
    return below(g, 100) < percent;
}

static uint64_t at(int page)
{
    return FUZZ_ARENA + (uint64_t)page * fuzz_page;
}

static struct op *push(struct gen *g, enum op_kind kind)
{
    struct op *op = &g->ops[g->count < FUZZ_MAXOPS - 1 ? g->count++ : g->count];

    memset(op, 0, sizeof(*op));
    op->kind = kind;
    op->worker = (uint8_t)below(g, FUZZ_WORKERS);
    op->slot = (uint8_t)(chance(g, 90) ? below(g, (unsigned)g->slots) : below(g, FUZZ_CTXS));
    return op;
}

enum want { WANT_ANY, WANT_MAPPED, WANT_REGISTERED, WANT_HOLE };

static bool wanted(const struct gen *g, int page, enum want want)
{
    switch (want) {
    case WANT_MAPPED:
        return g->kind[page] != 0;
    case WANT_REGISTERED:
        return g->reg[page] != 0;
    case WANT_HOLE:
        return g->kind[page] == 0;
    case WANT_ANY:
    default:
        return true;
    }
}

static int pick_page(struct gen *g, enum want want)
{
    int page = (int)below(g, (unsigned)fuzz_pages);

    for (int i = 0; i < 32 && !wanted(g, page, want); i++)
        page = (int)below(g, (unsigned)fuzz_pages);
    for (int i = 0; i < fuzz_pages && !wanted(g, page, want); i++)
        page = (page + 1) % fuzz_pages;
    return page;
}

/* Not a whole page; often whole small pages all the same, where pages are huge. */
static uint64_t part_of_page(struct gen *g)
{
    uint64_t part = 1 + below(g, (unsigned)fuzz_page - 1);

    if (!fuzz_huge() || part < fuzz_small || chance(g, 40))
        return part;
    return part & ~(fuzz_small - 1);
}

/*
 * A wrong address or length. None of them can reach memory outside the arena: 2^40 bytes behind it
 * are clear, and lengths that do not wrap around are only for contexts (madvise would take 2^63 as
 * everything there is above, and has).
 */
static void spoil(struct gen *g, struct op *op, bool may_be_long)
{
    switch (below(g, may_be_long ? 8 : 5)) {
    case 0:
        op->addr += part_of_page(g);
        break;
    case 1:
        op->len += part_of_page(g);
        break;
    case 2:
        op->len = 0;
        break;
    case 3:
        op->len = 0 - fuzz_page * (1 + below(g, 3));
        break;
    case 4:
        op->addr += 1;
        op->len -= 1;
        break;
    case 5:
        op->len = (uint64_t)1 << 63;
        break;
    case 6:
        op->len = (uint64_t)1 << 40;
        break;
    default:
        op->addr = chance(g, 50) ? 0 : (uint64_t)0xffff << 48;
        break;
    }
}

static void pick_range(struct gen *g, struct op *op, enum want want, int max, unsigned bad_percent)
{
    int page = pick_page(g, chance(g, 85) ? want : WANT_ANY);
    int pages = 1 + (int)below(g, (unsigned)max);

    if (page + pages > fuzz_pages)
        pages = fuzz_pages - page;
    if (chance(g, 80)) {
        for (int i = 1; i < pages; i++) {
            if (!wanted(g, page + i, want))
                pages = i;
        }
    }
    op->addr = at(page);
    op->len = (uint64_t)pages * fuzz_page;
    if (chance(g, bad_percent))
        spoil(g, op, op->kind >= OP_OPEN);
}

/* Remember a range in one of the pictures, when it is a sane one. */
static void note(const struct op *op, uint8_t *map, uint8_t value)
{
    for (int i = 0; i < fuzz_pages; i++) {
        if (at(i) >= op->addr && at(i) - op->addr < op->len && op->len <= at(fuzz_pages))
            map[i] = value;
    }
}

static int pick_prot(struct gen *g)
{
    if (chance(g, 85))
        return PROT_READ | PROT_WRITE;
    return chance(g, 60) ? PROT_READ : PROT_NONE;
}

static void gen_map(struct gen *g)
{
    static const uint8_t kinds[] = {
        MAP_KIND_ANON,          MAP_KIND_ANON,           MAP_KIND_ANON,
        MAP_KIND_ANON,          MAP_KIND_SHARED,         MAP_KIND_SHARED,
        MAP_KIND_MEMFD_SHARED,  MAP_KIND_MEMFD_SHARED,   MAP_KIND_MEMFD_SHARED,
        MAP_KIND_MEMFD_PRIVATE, MAP_KIND_MEMFD_PRIVATE,  MAP_KIND_ZERO_SHARED,
        MAP_KIND_ZERO_PRIVATE,  MAP_KIND_SYSV,           MAP_KIND_SYSV,
        MAP_KIND_FILE,          MAP_KIND_MEMFD_READONLY,
    };
    static const uint8_t huge[] = {
        MAP_KIND_HUGE,          MAP_KIND_HUGE,          MAP_KIND_HUGE,
        MAP_KIND_HUGE,          MAP_KIND_HUGE_SHARED,   MAP_KIND_HUGE_SHARED,
        MAP_KIND_MEMFD_SHARED,  MAP_KIND_MEMFD_SHARED,  MAP_KIND_MEMFD_SHARED,
        MAP_KIND_MEMFD_PRIVATE, MAP_KIND_MEMFD_PRIVATE, MAP_KIND_MEMFD_READONLY,
        MAP_KIND_SYSV,          MAP_KIND_ANON,
    };
    struct op *op = push(g, OP_MAP);

    pick_range(g, op, WANT_HOLE, fuzz_huge() ? 5 : 14, 2);
    op->sub = fuzz_huge() ? huge[below(g, sizeof(huge))] : kinds[below(g, sizeof(kinds))];
    op->slot = (uint8_t)below(g, FUZZ_MEMFDS);
    op->arg = (uint64_t)pick_prot(g);
    op->arg2 = chance(g, 50) ? 0 : below(g, (unsigned)fuzz_file_pages);
    note(op, g->kind, op->sub + 1);
    note(op, g->reg, 0);
}

static void gen_open(struct gen *g, int slot, bool clean)
{
    static const uint64_t flags[] = {O_NONBLOCK | O_CLOEXEC, O_NONBLOCK, O_CLOEXEC,
                                     O_NONBLOCK | UF_USER_MODE_ONLY, O_NONBLOCK | 2};
    static const uint64_t wanted_features[] = {UF_FEATURE_SIGBUS, UF_FEATURE_THREAD_ID,
                                               UF_FEATURE_EXACT_ADDRESS, UF_FEATURE_MISSING_SHMEM,
                                               UF_FEATURE_WP_UNPOPULATED};
    struct op *op = push(g, OP_OPEN);
    unsigned r = below(g, 100);

    op->slot = (uint8_t)slot;
    op->arg = flags[r < 60 ? 0 : r < 75 ? 1 : r < 85 ? 2 : r < 98 || clean ? 3 : 4];
    if (!clean && chance(g, 5))
        return;
    op = push(g, OP_API);
    op->slot = (uint8_t)slot;
    op->arg = clean || chance(g, 95) ? UF_API : below(g, 1000);
    for (unsigned i = 0; i < sizeof(wanted_features) / sizeof(wanted_features[0]); i++) {
        if (chance(g, i ? 40 : 15))
            op->arg2 |= wanted_features[i];
    }
    if (!clean && chance(g, 4))
        op->arg2 |= (uint64_t)1 << (40 + below(g, 24));
    op->arg2 &= g->features | ~(((uint64_t)1 << 40) - 1);
    if (slot >= g->slots)
        g->slots = slot + 1;
}

static uint64_t pick_mode(struct gen *g)
{
    uint64_t mode = 0;

    if (chance(g, 60))
        return UF_REGISTER_MODE_MISSING;
    if ((g->features & UF_FEATURE_PAGEFAULT_FLAG_WP) && chance(g, 60))
        mode |= UF_REGISTER_MODE_WP;
    if ((g->features & UF_FEATURE_MINOR_SHMEM) && chance(g, 40))
        mode |= UF_REGISTER_MODE_MINOR;
    return !mode || chance(g, 60) ? mode | UF_REGISTER_MODE_MISSING : mode;
}

static void gen_register(struct gen *g, bool clean)
{
    struct op *op = push(g, OP_REGISTER);

    pick_range(g, op, WANT_MAPPED, 14, clean ? 0 : 8);
    op->arg = pick_mode(g);
    if (!clean && chance(g, 4))
        op->arg = chance(g, 50) ? 0 : UF_REGISTER_MODE_MISSING | (uint64_t)1 << (8 + below(g, 56));
    if (!clean && chance(g, 2))
        op->sub = 1; /* the program's own text instead */
    note(op, g->reg, op->slot + 1);
}

/* Mostly the page that somebody touched last, else anything registered. */
static void pick_resolved(struct gen *g, struct op *op)
{
    pick_range(g, op, WANT_REGISTERED, 5, 6);
    if (g->reg[(op->addr - FUZZ_ARENA) / fuzz_page % fuzz_pages])
        op->slot = g->reg[(op->addr - FUZZ_ARENA) / fuzz_page % fuzz_pages] - 1;
    if (chance(g, 65) && g->touched >= 0) {
        op->addr = at(g->touched);
        if (op->len > fuzz_page * 4)
            op->len = fuzz_page;
        if (chance(g, 20) && g->touched > 0)
            op->addr -= fuzz_page;
        if (g->reg[g->touched])
            op->slot = g->reg[g->touched] - 1;
        if (chance(g, 70))
            g->touched = -1;
    }
}

static void gen_copy(struct gen *g)
{
    struct op *op = push(g, OP_COPY);
    unsigned r = below(g, 100);

    pick_resolved(g, op);
    op->sub = r < 75   ? SRC_BUFFER
              : r < 82 ? SRC_UNALIGNED
              : r < 84 ? SRC_NULL
              : r < 90 ? SRC_CUT
                       : SRC_ARENA;
    op->addr2 = at(pick_page(g, chance(g, 50) ? WANT_REGISTERED : WANT_MAPPED));
    if (op->sub == SRC_ARENA)
        g->touched = (int)((op->addr2 - FUZZ_ARENA) / fuzz_page);
    op->arg = chance(g, 20) ? UF_COPY_MODE_DONTWAKE : 0;
    if ((g->features & UF_FEATURE_PAGEFAULT_FLAG_WP) && chance(g, 15))
        op->arg |= UF_COPY_MODE_WP;
    if (chance(g, 2))
        op->arg |= (uint64_t)1 << (8 + below(g, 56));
}

static void gen_zeropage(struct gen *g)
{
    struct op *op = push(g, OP_ZEROPAGE);

    pick_resolved(g, op);
    op->arg = chance(g, 20) ? UF_ZEROPAGE_MODE_DONTWAKE : 0;
    if (chance(g, 2))
        op->arg |= (uint64_t)1 << (8 + below(g, 56));
}

static void gen_writeprotect(struct gen *g)
{
    struct op *op = push(g, OP_WRITEPROTECT);

    pick_resolved(g, op);
    op->arg = chance(g, 60) ? UF_WRITEPROTECT_MODE_WP : 0;
    if (chance(g, 15))
        op->arg |= UF_WRITEPROTECT_MODE_DONTWAKE;
    if (chance(g, 2))
        op->arg |= (uint64_t)1 << (8 + below(g, 56));
}

static void gen_continue(struct gen *g)
{
    struct op *op = push(g, OP_CONTINUE);

    pick_resolved(g, op);
    op->arg = chance(g, 20) ? UF_CONTINUE_MODE_DONTWAKE : 0;
    if (chance(g, 15))
        op->arg |= UF_CONTINUE_MODE_WP;
    if (chance(g, 2))
        op->arg |= (uint64_t)1 << (8 + below(g, 56));
}

static void gen_poison(struct gen *g)
{
    struct op *op = push(g, OP_POISON);

    pick_resolved(g, op);
    op->arg = chance(g, 20) ? UF_POISON_MODE_DONTWAKE : 0;
    if (chance(g, 2))
        op->arg |= (uint64_t)1 << (8 + below(g, 56));
}

/* From anywhere; often the page before or after, so that the two overlap. */
static void gen_move(struct gen *g)
{
    struct op *op = push(g, OP_MOVE);
    uint64_t page;

    pick_resolved(g, op);
    page = (op->addr - FUZZ_ARENA) / fuzz_page;
    op->addr2 = at(pick_page(g, chance(g, 50) ? WANT_REGISTERED : WANT_MAPPED));
    if (chance(g, 15))
        op->addr2 = at((int)((page + (chance(g, 50) ? 1 : fuzz_pages - 1)) % fuzz_pages));
    if (chance(g, 3))
        op->addr2 += 1 + below(g, (unsigned)fuzz_page);
    op->arg = chance(g, 50) ? UF_MOVE_MODE_ALLOW_SRC_HOLES : 0;
    if (chance(g, 20))
        op->arg |= UF_MOVE_MODE_DONTWAKE;
    if (chance(g, 2))
        op->arg |= (uint64_t)1 << (8 + below(g, 56));
}

static void gen_badptr(struct gen *g)
{
    static const uint32_t commands[] = {UF_IO_API,  UF_IO_REGISTER, UF_IO_UNREGISTER,
                                        UF_IO_WAKE, UF_IO_COPY,     UF_IO_ZEROPAGE};
    struct op *op;

    if (chance(g, 25)) {
        op = push(g, OP_UNKNOWN);
        op->arg =
            chance(g, 50) ? 0xaa00u + below(g, 256) : (UF_IO_COPY & ~0xffu) + 16 + below(g, 32);
        return;
    }
    op = push(g, OP_BADPTR);
    pick_resolved(g, op);
    op->arg = commands[below(g, 6)];
    op->sub = (uint8_t)below(g, PTR_KINDS);
}

static void gen_read(struct gen *g)
{
    static const uint16_t sizes[] = {32, 32, 32, 32, 64, 64, 96, 256, 256, 31, 33, 0, 100};
    struct op *op = push(g, OP_READ);

    op->len = sizes[below(g, sizeof(sizes) / sizeof(sizes[0]))];
    op->sub = chance(g, 3);
}

static void gen_touch(struct gen *g)
{
    struct op *op = push(g, OP_TOUCH);
    unsigned r = below(g, 100);
    int page = pick_page(g, chance(g, 80) ? WANT_REGISTERED : WANT_MAPPED);

    if (chance(g, 5))
        page = pick_page(g, WANT_ANY);
    if (chance(g, 15) && g->touched >= 0)
        page = g->touched;
    op->addr = at(page);
    op->sub = r < 45 ? TOUCH_READ : r < 85 ? TOUCH_WRITE : r < 96 ? TOUCH_RMW : TOUCH_CROSS;
    op->arg = 8 * below(g, 8);
    if (fuzz_huge()) /* the first small page in it, the second or the last */
        op->arg += (uint64_t[]){0, fuzz_small, fuzz_page - fuzz_small}[below(g, 3)];
    g->touched = page;
}

static void gen_syscall(struct gen *g)
{
    struct op *op = push(g, OP_SYSCALL);

    pick_range(g, op, WANT_REGISTERED, 3, 0);
    g->touched = (int)((op->addr - FUZZ_ARENA) / fuzz_page);
    if (chance(g, 40)) {
        op->addr += below(g, (unsigned)fuzz_page);
        op->len = 1 + below(g, (unsigned)op->len);
    }
    op->sub = (uint8_t)below(g, chance(g, 70) ? SYSCALL_PREAD : SYSCALL_KINDS);
}

static void gen_madvise(struct gen *g)
{
    static const uint8_t advice[] = {
        MADV_DONTNEED,
        MADV_DONTNEED,
        MADV_DONTNEED,
        MADV_DONTNEED,
        MADV_FREE,
        MADV_REMOVE,
        MADV_REMOVE,
        MADV_REMOVE,
        22,
        23,
        MADV_HUGEPAGE,
        MADV_NOHUGEPAGE,
        MADV_DONTFORK,
        MADV_DOFORK,
        MADV_WIPEONFORK,
        MADV_KEEPONFORK,
        MADV_WILLNEED,
        MADV_COLD,
        200,
    };
    struct op *op = push(g, OP_MADVISE);

    pick_range(g, op, chance(g, 60) ? WANT_REGISTERED : WANT_MAPPED, 6, 5);
    op->arg = advice[below(g, sizeof(advice))];
    if (fuzz_huge() && op->arg == MADV_HUGEPAGE) /* what is beside hugetlb stays small */
        op->arg = MADV_NOHUGEPAGE;
}

static void gen_mremap(struct gen *g)
{
    static const uint8_t flags[] = {0,
                                    0,
                                    MREMAP_MAYMOVE,
                                    MREMAP_MAYMOVE,
                                    MREMAP_MAYMOVE | MREMAP_FIXED,
                                    MREMAP_MAYMOVE | MREMAP_FIXED,
                                    MREMAP_MAYMOVE | 4,
                                    MREMAP_MAYMOVE | MREMAP_FIXED | 4,
                                    MREMAP_FIXED,
                                    8};
    struct op *op = push(g, OP_MREMAP), target;

    pick_range(g, op, chance(g, 50) ? WANT_REGISTERED : WANT_MAPPED, 8, 5);
    op->arg2 = flags[below(g, sizeof(flags))];
    op->addr2 = at(pick_page(g, chance(g, 70) ? WANT_HOLE : WANT_ANY));
    op->arg = op->len;
    if (chance(g, 50) && !(op->arg2 & 4))
        op->arg = (1 + below(g, 8)) * fuzz_page;
    if (chance(g, 4))
        op->arg = chance(g, 50) ? 0 : op->arg + 1;
    if (chance(g, 4))
        op->len = 0;
    target = *op;
    target.addr = op->addr2;
    target.len = op->arg;
    if (op->arg2 & MREMAP_FIXED) {
        note(op, g->kind, 0);
        note(&target, g->kind, MAP_KIND_ANON + 1);
        note(&target, g->reg, 0);
    }
}

static void gen_file(struct gen *g)
{
    /* KEEP_SIZE | PUNCH_HOLE thrice, then plain, KEEP_SIZE and PUNCH_HOLE alone (an error) */
    static const uint8_t modes[] = {3, 3, 3, 0, 1, 2};
    static const uint8_t kinds[] = {OP_FALLOCATE, OP_FALLOCATE, OP_TRUNCATE, OP_PWRITE, OP_PWRITE};
    struct op *op = push(g, kinds[below(g, sizeof(kinds))]);

    op->slot = (uint8_t)below(g, FUZZ_MEMFDS);
    op->addr = below(g, (unsigned)fuzz_file_pages + 2) * fuzz_page;
    op->len = (1 + below(g, 4)) * fuzz_page;
    if (chance(g, 15))
        op->addr += below(g, (unsigned)fuzz_page);
    if (chance(g, 15))
        op->len -= below(g, (unsigned)fuzz_page);
    op->arg = modes[below(g, sizeof(modes))];
}

static void gen_address_space(struct gen *g)
{
    static const uint8_t kinds[] = {OP_MUNMAP,   OP_MUNMAP, OP_MPROTECT, OP_MPROTECT,
                                    OP_MPROTECT, OP_MLOCK,  OP_MUNLOCK,  OP_MINCORE};
    struct op *op = push(g, kinds[below(g, sizeof(kinds))]);

    pick_range(g, op, chance(g, 60) ? WANT_REGISTERED : WANT_MAPPED, 5, 5);
    op->arg = (uint64_t)pick_prot(g);
    if (op->kind == OP_MUNMAP) {
        note(op, g->kind, 0);
        note(op, g->reg, 0);
    }
}

static void gen_descriptor(struct gen *g)
{
    struct op *op;

    switch (below(g, 7)) {
    case 0:
        op = push(g, OP_DUP);
        op->slot2 = (uint8_t)below(g, FUZZ_CTXS);
        break;
    case 1:
    case 2:
        push(g, OP_CLOSE);
        break;
    case 3:
        op = push(g, OP_SETFL);
        op->arg = chance(g, 50) ? O_NONBLOCK : 0;
        break;
    default:
        gen_open(g, (int)below(g, FUZZ_CTXS), false);
    }
}

static void gen_one(struct gen *g)
{
    unsigned r = below(g, 1000);
    struct op *op;

    if (r < 60 && (g->features & UF_FEATURE_PAGEFAULT_FLAG_WP))
        gen_writeprotect(g);
    else if (r >= 60 && r < 85 && (g->features & UF_FEATURE_MINOR_SHMEM))
        gen_continue(g);
    else if (r >= 85 && r < 95 && (g->features & UF_FEATURE_POISON))
        gen_poison(g);
    else if (r >= 95 && r < 160 && (g->features & UF_FEATURE_MOVE) && !g->forked)
        gen_move(g);
    else if (r < 300)
        gen_touch(g);
    else if (r < 440)
        gen_copy(g);
    else if (r < 510)
        gen_zeropage(g);
    else if (r < 550 || (r < 560 && g->touched < 0)) {
        op = push(g, r < 530 ? OP_WAKE : OP_UNREGISTER);
        pick_resolved(g, op);
        if (op->kind == OP_UNREGISTER)
            note(op, g->reg, 0);
    } else if (r < 650)
        gen_read(g);
    else if (r < 670)
        push(g, OP_POLL);
    else if (r < 710 && (g->features & FUZZ_CALLS_WAIT))
        gen_syscall(g);
    else if (r < 710)
        gen_touch(g);
    else if (r < 770)
        gen_madvise(g);
    else if (r < 800)
        gen_mremap(g);
    else if (r < 840)
        gen_file(g);
    else if (r < 885)
        gen_address_space(g);
    else if (r < 905)
        gen_descriptor(g);
    else if (r < 940)
        gen_register(g, false);
    else if (r < 965)
        gen_map(g);
    else if (r < 975)
        gen_badptr(g);
    else if (r < 990)
        push(g, OP_KICK);
    else {
        push(g, OP_FORK)->sub = chance(g, 20);
        g->forked = true;
    }
}

/* Such sequences are slow: one in sixteen. */
bool gen_is_huge(uint64_t seed, uint64_t features)
{
    if (!(features & UF_FEATURE_MISSING_HUGETLBFS))
        return false;
    return (features & FUZZ_ALL_HUGE) || gen_mix(seed + 1) % 16 == 0;
}

/* One in four has a child that goes on beside its parent. */
bool gen_is_divided(uint64_t seed, uint64_t features)
{
    if (!(features & UF_FEATURE_EVENT_FORK))
        return false;
    return (features & FUZZ_ALL_FORK) || gen_mix(seed + 3) % 4 == 0;
}

int gen_sequence(uint64_t seed, uint64_t features, struct op *ret_ops)
{
    struct gen g = {.rng = seed * 0x2545f4914f6cdd1dull + 1, .features = features, .ops = ret_ops};
    int length;

    g.touched = -1;
    g.slots = 1;
    rnd(&g);
    gen_open(&g, 0, chance(&g, 95));
    for (unsigned i = 1 + below(&g, 3); i; i--)
        gen_map(&g);
    if (chance(&g, 25))
        gen_open(&g, 1, true);
    for (unsigned i = 1 + below(&g, 3); i; i--)
        gen_register(&g, true);
    length = 4 + (int)below(&g, chance(&g, 30) ? 60 : 20);
    while (length-- > 0)
        gen_one(&g);
    if (gen_is_divided(seed, features))
        return gen_divide(seed, features, ret_ops, g.count);
    if ((features & FUZZ_EVENTS) == FUZZ_EVENTS && gen_mix(seed + 2) % 4 == 0)
        gen_tell(seed, FUZZ_EVENTS, ret_ops, g.count);
    return g.count;
}
