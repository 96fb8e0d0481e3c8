/* SPDX-License-Identifier: MIT */
/*
 * Where a jump can be put, for a `syscall` instruction that was executed: two bytes, and a jump to
 * anywhere takes five.
 *
 *     mov $nr, %eax ; syscall     jmp stub ; syscall        the second stays: who jumps to it traps
 *     syscall  ...  gap           jmp gap  ...  jmp stub    the gap lies between two functions
 *
 * Nothing is done by the look of some bytes. The function is walked through from its beginning to
 * its end, as the unwinder's tables have them, so it is known where each instruction begins and
 * where it jumps. Code that has anything in it that the decoder does not know stays as it is.
 *
 * The program may give pages of its text back to the file (MADV_DONTNEED): what belongs together is
 * in one page, and is then gone together.
 *
 * A gap is all nops (or int3, or jumps of ours) behind an instruction that does not go on. Between
 * two functions it is believed to be never executed if neither of them jumps into it. Inside a
 * function, before an aligned label, if no function of the whole object does, and this one has no
 * jump by a table; since that takes a walk through all of the object, a site has to trap often for
 * it.
 */
#include "rewrite.h"
#include "x86_64/insn.h"

#define SYSCALL_LEN 2
#define MOV_LEN     5
#define JUMP_LEN    5
#define GAP_MAX     64
#define SHORT_BACK  128 /* what a short jump reaches, from its end */
#define SHORT_ON    127
#define INT3        0xcc
#define PAGE        4096

struct span {
    uintptr_t from, to; /* nobody may jump to what is in it */
};

/* What a walk through a function found. */
struct walked {
    bool jumps_in;   /* into the span */
    bool at_syscall; /* an instruction begins at the site, and is what it has to be */
    bool after_mov;  /* and the one before it is the mov */
    bool indirect;   /* it has a jump of which it is not known where it leads */
    enum insn_kind last;
};

/* Already put there by us. */
static bool is_our_jump(uintptr_t at, uintptr_t end)
{
    struct insn insn;

    return insn_decode(at, end, &insn) && insn.kind == INSN_JUMP && insn.len == JUMP_LEN &&
           stub_is(insn.target);
}

static bool one_page(uintptr_t from, uintptr_t end)
{
    return from / PAGE == (end - 1) / PAGE;
}

static bool walk(const struct function *fn, uintptr_t site, struct span span, struct walked *ret)
{
    enum insn_kind before = INSN_OTHER;
    struct insn insn;

    *ret = (struct walked){.last = INSN_OTHER};
    for (uintptr_t at = fn->begin; at < fn->end; at += insn.len) {
        if (!insn_decode(at, fn->end, &insn)) {
            return false;
        }
        if (at == site && insn.kind == INSN_SYSCALL && insn.len == SYSCALL_LEN) {
            ret->at_syscall = true;
            ret->after_mov = before == INSN_MOV_EAX;
        }
        if ((insn.kind == INSN_BRANCH || insn.kind == INSN_JUMP) && insn.target >= span.from &&
            insn.target < span.to && !is_our_jump(insn.target, span.to)) {
            ret->jumps_in = true;
        }
        ret->indirect |= insn.kind == INSN_INDIRECT;
        before = insn.kind;
        ret->last = insn.kind;
    }
    return true;
}

/* Return: where five bytes are free in a gap; 0: it is none. */
static uintptr_t gap_room(struct span gap, bool *ret_fresh)
{
    struct insn insn;

    *ret_fresh = false;
    for (uintptr_t at = gap.from; at < gap.to; at += insn.len) {
        if (*(const uint8_t *)at == INT3) {
            insn.len = 1;
            continue;
        }
        if (!insn_decode(at, gap.to, &insn)) {
            return 0;
        }
        if (is_our_jump(at, gap.to)) {
            gap.from = at + JUMP_LEN;
        } else if (insn.kind == INSN_NOP) {
            *ret_fresh = true;
        } else {
            return 0;
        }
    }
    return gap.to - gap.from >= JUMP_LEN ? gap.from : 0;
}

/* A gap that is proven: whether it has room, within reach. */
static bool gap_takes(struct span gap, uintptr_t site, struct place *ret)
{
    bool fresh;
    uintptr_t at = gap_room(gap, &fresh);
    intptr_t far = (intptr_t)(at - (site + SYSCALL_LEN));

    if (!at || far < -SHORT_BACK || far > SHORT_ON ||
        !one_page(at < site ? at : site, at < site ? site + SYSCALL_LEN : at + JUMP_LEN)) {
        return false;
    }
    *ret = (struct place){
        .kind = PLACE_GAP, .gap = at, .fill = fresh ? gap.from : 0, .fill_end = gap.to};
    return true;
}

static bool goes_on(enum insn_kind kind)
{
    return kind != INSN_LEAVES && kind != INSN_JUMP && kind != INSN_INDIRECT;
}

/* The gap after function @index. */
static bool between_serves(const struct functions *all, size_t index, uintptr_t site,
                           struct place *ret)
{
    struct function before, after;
    struct walked walked;
    struct span gap;

    if (index + 1 >= all->count || !functions_get(all, index, &before) ||
        !functions_get(all, index + 1, &after) || after.begin < before.end + JUMP_LEN ||
        after.begin - before.end > GAP_MAX) {
        return false;
    }
    gap = (struct span){before.end, after.begin};
    return gap_takes(gap, site, ret) && walk(&before, 0, gap, &walked) && !walked.jumps_in &&
           !goes_on(walked.last) && walk(&after, 0, gap, &walked) && !walked.jumps_in;
}

/* Nothing in the whole object jumps there. Takes milliseconds. */
static bool nobody_jumps(const struct functions *all, struct span gap)
{
    struct function fn;
    struct walked walked;

    for (size_t i = 0; i < all->count; i++) {
        if (!functions_get(all, i, &fn) || !walk(&fn, 0, gap, &walked) || walked.jumps_in) {
            return false;
        }
    }
    return true;
}

static bool inside_serves(const struct functions *all, const struct function *fn, struct span gap,
                          uintptr_t site, struct place *ret)
{
    struct walked walked;

    return gap.to - gap.from <= GAP_MAX && gap_takes(gap, site, ret) && walk(fn, 0, gap, &walked) &&
           !walked.jumps_in && nobody_jumps(all, gap);
}

/* In the function itself, which was walked through: what fills the way to an aligned label. */
static bool find_inside(const struct functions *all, const struct function *fn, uintptr_t site,
                        struct place *ret)
{
    enum insn_kind before = INSN_OTHER;
    struct span gap = {0, 0};
    struct insn insn;

    for (uintptr_t at = fn->begin; at < fn->end && insn_decode(at, fn->end, &insn);
         at += insn.len) {
        bool dead =
            insn.kind == INSN_NOP || *(const uint8_t *)at == INT3 || is_our_jump(at, fn->end);

        if (dead && !gap.from && !goes_on(before)) {
            gap.from = at;
        }
        if (!dead && gap.from) {
            gap.to = at;
            if (inside_serves(all, fn, gap, site, ret)) {
                return true;
            }
            gap.from = 0;
        }
        before = insn.kind;
    }
    return false;
}

static bool near(const struct functions *all, size_t index, uintptr_t site)
{
    struct function fn;

    return index < all->count && functions_get(all, index, &fn) &&
           fn.end + SHORT_BACK + GAP_MAX > site && fn.end < site + SHORT_ON + GAP_MAX;
}

static bool find_between(const struct functions *all, size_t index, uintptr_t site,
                         struct place *ret)
{
    for (size_t i = index; near(all, i, site); i++) {
        if (between_serves(all, i, site, ret)) {
            return true;
        }
    }
    for (size_t i = index; i > 0 && near(all, i - 1, site); i--) {
        if (between_serves(all, i - 1, site, ret)) {
            return true;
        }
    }
    return false;
}

bool place_find(const struct functions *all, uintptr_t site, long nr, bool thorough,
                struct place *ret)
{
    struct function fn;
    struct walked walked;
    uint32_t moved;
    size_t index;

    if (!functions_find(all, site, &index) || !functions_get(all, index, &fn) || site >= fn.end ||
        !walk(&fn, site, (struct span){site - MOV_LEN + 1, site}, &walked) || !walked.at_syscall) {
        return false;
    }
    __builtin_memcpy(&moved, (const void *)(site - sizeof moved), sizeof moved);
    if (walked.after_mov && !walked.jumps_in && moved == (unsigned long)nr &&
        one_page(site - MOV_LEN, site)) {
        *ret = (struct place){.kind = PLACE_MOV, .nr = moved};
        return true;
    }
    return find_between(all, index, site, ret) ||
           (thorough && !walked.indirect && find_inside(all, &fn, site, ret));
}
