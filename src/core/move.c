/* SPDX-License-Identifier: MIT */
/*
 * UFFDIO_MOVE: pages change their address, and nobody sees them at both or at neither.
 *
 * The destination is registered with the caller's context. The source may be registered, with any
 * context, or plain memory. All is done under the edit lock, since plain memory is no range whose
 * stripe could keep a change of its mapping away.
 */
#include <errno.h>

#include "core_local.h"
#include "events.h"
#include "sys/mem.h"

/* One end of the move, as the kernel sees its mapping. */
struct end {
    uintptr_t start, end;   /* of the mapping */
    struct paging_span vma; /* the same of plain memory, and what is one with it to the kernel */
    int prot;
    bool anon, locked;
    bool grows; /* the stack */
    bool ranged;
    uint32_t traits;
    struct range range; /* where the first page lies, if ranged */
};

static bool is_anon(const struct vma *vma)
{
    return !vma->shared && !vma->special && (vma->ino == 0 || vma->dev_zero);
}

/*
 * Where the mapping ends, of which what is before `end` is not registered: pages that stay poisoned
 * are part of it, though they stand in the array.
 */
static uintptr_t end_of_plain(uintptr_t end, int prot)
{
    struct range range;
    struct vma vma;

    for (;;) {
        if (ranges_find(end, &range)) {
            if (range.ctx || range.area.prot != prot || range.area.kind != PAGING_ANON) {
                return end;
            }
            end = range.area.end;
        } else {
            if (!maps_next_whole(end, end + 1, &vma) || vma.start != end || vma.prot != prot ||
                !is_anon(&vma) || (ranges_find(end - 1, &range) ? range.ctx : true)) {
                return end;
            }
            end = ranges_next(end, vma.end, &range) ? range.area.start : vma.end;
        }
    }
}

/* Any page of a mapping tells of all; asking is cheapest where nothing is, as behind a row of
 * moves. */
static bool is_locked(const struct vma *vma, uintptr_t addr)
{
    return paging_locked(addr - PAGING_PAGE >= vma->start ? addr - PAGING_PAGE : addr);
}

/* Plain memory: not beyond where something registered begins, though that be one VMA with it. */
static bool plain_end(uintptr_t addr, size_t len, struct end *ret)
{
    struct range next;
    struct vma vma;

    if (!maps_next(addr, addr + 1, &vma) || vma.start > addr) {
        return false;
    }
    *ret = (struct end){
        .prot = vma.prot,
        .anon = is_anon(&vma),
        .grows = vma.stack,
        .traits = mappings_traits(addr),
    };
    ret->locked = ret->anon && is_locked(&vma, addr);
    /* Its neighbours, that are one with it, matter seldom, and are a system call each. */
    if ((ret->locked || vma.end - addr < len) && !maps_next_whole(addr, addr + 1, &vma)) {
        return false;
    }
    ret->start = vma.start;
    ret->vma = (struct paging_span){vma.start, vma.end};
    ret->end = ranges_next(addr, vma.end, &next) ? next.area.start : vma.end;
    if (ret->anon && ret->end - addr < len) {
        ret->end = end_of_plain(ret->end, vma.prot);
    }
    return true;
}

/* At least len of it, if there is as much. Return: false when nothing is mapped there. */
static bool find_end(uintptr_t addr, size_t len, struct end *ret)
{
    struct range range;

    if (!ranges_find(addr, &range)) {
        return plain_end(addr, len, ret);
    }
    *ret = (struct end){
        .prot = range.area.prot,
        .anon = range.area.kind == PAGING_ANON && !paging_is_huge(&range.area),
        .locked = range.traits & TRAIT_LOCKED,
        .ranged = true,
        .traits = range.traits,
        .range = range,
    };
    if (range.ctx) {
        return ranges_mapping(addr, &ret->start, &ret->end);
    }
    ret->start = range.area.start;
    ret->end = end_of_plain(range.area.end, range.area.prot);
    return true;
}

/* In the kernel's order, from what there is. */
static int check_ends(const struct context *ctx, const struct uf_io_move *move, struct end *ret_to,
                      struct end *ret_from)
{
    if (!find_end(move->dst, move->len, ret_to)) {
        return -ENOENT;
    }
    if (!find_end(move->src, move->len, ret_from)) {
        return -ENOENT;
    }
    if (ret_from->end - move->src < move->len || ret_to->end - move->dst < move->len ||
        ret_from->prot != ret_to->prot || ret_from->locked != ret_to->locked ||
        !(ret_from->prot & PROT_WRITE) || !ret_from->anon || !ret_to->anon) {
        return -EINVAL;
    }
    return ret_to->ranged && nested_mode(&ret_to->range, atomic_load(&ctx->id)) ? 0 : -EINVAL;
}

/* How much lies in one chunk and one range of the destination, and in one range of the source. */
static size_t part_of(const struct uf_io_move *move, const struct end *to, const struct end *from)
{
    uintptr_t stop = paging_next_chunk(move->dst);
    size_t len = move->len;
    struct range next;

    stop = stop < to->range.area.end ? stop : to->range.area.end;
    len = len < stop - move->dst ? len : stop - move->dst;
    if (from->ranged && from->range.area.end - move->src < len) {
        len = from->range.area.end - move->src;
    }
    if (!from->ranged && ranges_next(move->src, move->src + len, &next)) {
        len = next.area.start - move->src;
    }
    return len;
}

/* One run of pages that are alike. Return: bytes, more than 0, or -errno. */
static long move_step(const struct context *ctx, const struct uf_io_move *move, int tid)
{
    struct end to, from;
    struct paging_move step;
    paging_stripes held;
    long ret = check_ends(ctx, move, &to, &from);

    if (ret) {
        return ret;
    }
    step = (struct paging_move){
        .to = &to.range.area,
        .from = from.ranged ? &from.range.area : NULL,
        .dst = move->dst,
        .src = move->src,
        .len = part_of(move, &to, &from),
        .locked = to.locked,
        .vma = from.vma,
        .holes = move->mode & UF_MOVE_MODE_ALLOW_SRC_HOLES,
        .bulk = !from.grows && core_advice_alike(to.traits, from.traits),
    };
    held = paging_lock_pair(step.dst, step.src, step.len, tid);
    ret = paging_move(&step);
    if (step.unrooted && from.range.area.rooted) {
        from.range.area.rooted = false;
        ranges_replace(from.range.area.start, from.range.area.end, &from.range);
    }
    paging_unlock(held);
    return ret;
}

/* The destination gets an anon_vma before anything is looked at, as the kernel gives it one. */
static long move_pages(const struct context *ctx, struct uf_io_move move)
{
    size_t done = 0, len = move.len;

    while (done < len) {
        struct core_guard guard;
        long ret;

        core_enter(&guard);
        paging_make_room(ranges_area_of, guard.tid);
        core_edit_lock(guard.tid);
        if (!done) {
            mappings_prepare(move.dst);
        }
        ret = events_changing(ctx) ? -EAGAIN : move_step(ctx, &move, guard.tid);
        core_edit_unlock();
        core_leave(&guard);
        if (ret < 0) {
            return done ? (long)done : ret;
        }
        done += (size_t)ret;
        move.dst += (size_t)ret;
        move.src += (size_t)ret;
        move.len -= (size_t)ret;
    }
    return (long)done;
}

long core_ioctl_move(struct context *ctx, void *arg)
{
    struct uf_io_move *user = arg;
    struct uf_io_move move;
    int64_t ret = core_check_settled(ctx, &user->move);

    if (ret) {
        return ret;
    }
    if (core_copy_in(&move, user, sizeof move - sizeof move.move)) {
        return -EFAULT;
    }
    if (core_check_range(move.dst, move.len) || core_check_range(move.src, move.len) ||
        (move.mode & ~(UF_MOVE_MODE_ALLOW_SRC_HOLES | UF_MOVE_MODE_DONTWAKE))) {
        return -EINVAL;
    }
    ret = move_pages(ctx, move);
    STAT_RESOLVED(move, ret);
    if (core_copy_out(&user->move, &ret, sizeof ret)) {
        return -EFAULT;
    }
    return core_settle(ctx, move.dst, move.len, ret, !(move.mode & UF_MOVE_MODE_DONTWAKE));
}
