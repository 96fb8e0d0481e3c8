/* SPDX-License-Identifier: MIT */
/*
 * UFFDIO_REGISTER and UFFDIO_UNREGISTER.
 *
 * A stretch becomes a range in an order that no other thread can see half done: it stands in the
 * array as busy before the first access traps (a trap on a busy range waits for the edit lock),
 * is hidden, what is present is marked, and then it is not busy any more.
 */
#include <errno.h>

#include "core_local.h"
#include "sys/mem.h"

/* One piece of the interval: registered already, or a mapping to register. */
struct piece {
    uintptr_t start, end;
    bool registered;
    struct range range; /* when registered */
    struct vma vma;     /* when not */
};

/* The first piece of [start, end); holes are skipped. */
static bool next_piece(uintptr_t start, uintptr_t end, struct piece *ret)
{
    bool ranged = ranges_next(start, end, &ret->range);
    uintptr_t stop = ranged ? ret->range.area.start : end;

    if (start < stop && maps_next_whole(start, stop, &ret->vma)) {
        ret->registered = false;
        ret->start = ret->vma.start > start ? ret->vma.start : start;
        ret->end = mappings_border(ret->start, ret->vma.end < stop ? ret->vma.end : stop);
        return true;
    }
    if (!ranged) {
        return false;
    }
    ret->registered = true;
    ret->start = ret->range.area.start > start ? ret->range.area.start : start;
    ret->end = ret->range.area.end < end ? ret->range.area.end : end;
    return true;
}

/*
 * Which kind of memory, by the kernel's rules of what can be registered. -EINVAL: none; -ENOMEM.
 * @ret_watched: it can be for WP_ASYNC alone.
 */
static int kind_of(const struct vma *vma, bool *ret_watched)
{
    int shmem;

    *ret_watched = false;
    if (vma->special) {
        return -EINVAL;
    }
    if (maps_page_size(vma) > PAGING_PAGE) {
        return vma->shared ? PAGING_SHARED : vma->anon_huge ? PAGING_ANON : PAGING_PRIVATE_FILE;
    }
    if (!vma->shared && (vma->ino == 0 || vma->dev_zero)) {
        return PAGING_ANON;
    }
    shmem = vma->sysv ? 0 : maps_is_shmem(vma->dev);
    if (shmem < 0) {
        return -ENOMEM;
    }
    *ret_watched = !shmem;
    return vma->shared ? PAGING_SHARED : PAGING_PRIVATE_FILE;
}

/* A shared mapping that can never become writable is refused, as the kernel's VM_MAYWRITE. */
static int check_writable(const struct piece *piece)
{
    const struct vma *vma = &piece->vma;
    bool huge = maps_page_size(vma) > PAGING_PAGE; /* what is cut never merges again */
    uintptr_t start = huge ? vma->start : piece->start;
    size_t len = (huge ? vma->end : piece->end) - start;
    long ret;

    if (!vma->shared || (vma->prot & PROT_WRITE)) {
        return 0;
    }
    ret = sys_mprotect(start, len, vma->prot | PROT_WRITE);
    if (ret == 0) {
        sys_mprotect(start, len, vma->prot);
    }
    return ret == -EACCES ? -EPERM : 0;
}

/* Protection from all accesses is not given up by registering again, nor taken for another. */
static bool drops_access(const struct range *range, uint64_t mode)
{
    bool stays = (range->mode & mode) == mode;

    return !stays && (range->area.rwp != !!(mode & UF_REGISTER_MODE_RWP)) &&
           (range->area.rwp || range->area.wp);
}

static size_t page_of(const struct piece *piece)
{
    return piece->registered ? piece->range.area.page : maps_page_size(&piece->vma);
}

static void note_kind(const struct piece *piece)
{
    core_log(piece->vma.sysv ? "refused to register a System V segment of small pages, as the "
                               "kernel does: at "
                             : "refused to register a mapping of a file that is neither on tmpfs "
                               "nor hugetlbfs, or of the kernel's own: at ",
             piece->start);
}

/*
 * Memory of any kind can be watched, in no other way, but for what is of drivers or the kernel's
 * own; and for variables of ours: they are written to where no write may trap.
 */
static bool may_watch(const struct context *ctx, const struct piece *piece, uint64_t mode)
{
    static volatile char ours = 1; /* not of zeroes: in the part that the file fills */
    uintptr_t own = (uintptr_t)&ours;

    if (mode != UF_REGISTER_MODE_WP || !(atomic_load(&ctx->features) & UF_FEATURE_WP_ASYNC)) {
        return false;
    }
    if (piece->registered) {
        return true;
    }
    if (own >= piece->vma.start && own < piece->vma.end) {
        core_log("refused to register variables of the library itself: at ", piece->start);
        return false;
    }
    return !maps_is_special(&piece->vma);
}

/* @cut: the end of what is asked for lies within a page. In the kernel's order. */
static int check_piece(const struct context *ctx, const struct piece *piece, uint64_t mode,
                       uintptr_t sp, bool cut)
{
    bool watched = piece->registered && piece->range.area.watched;
    int kind = piece->registered ? (int)piece->range.area.kind : kind_of(&piece->vma, &watched);
    size_t page = page_of(piece);
    int ret = 0;

    if (kind == -ENOMEM || (piece->registered && piece->range.ctx == CORE_ORPHAN)) {
        return -ENOMEM;
    }
    if (kind >= 0 && watched && !may_watch(ctx, piece, mode)) {
        kind = -EINVAL;
    }
    if (kind < 0 && !piece->registered) {
        note_kind(piece);
    }
    if (kind < 0 ||
        (kind == PAGING_ANON && page == PAGING_PAGE && (mode & UF_REGISTER_MODE_MINOR))) {
        return -EINVAL;
    }
    if (!piece->registered) {
        ret = check_writable(piece);
    }
    if (ret || cut) {
        return ret ? ret : -EINVAL;
    }
    if (piece->registered && piece->range.ctx) {
        bool alone = piece->range.ctx == atomic_load(&ctx->id) && !piece->range.outer;

        return (alone ? !drops_access(&piece->range, mode) : nested_may(&piece->range, ctx, mode))
                   ? 0
                   : -EBUSY;
    }
    if (piece->registered) {
        return 0;
    }
    if (core_stack_in(piece->start, piece->end, &piece->vma, sp) ||
        core_fixed_in(piece->start, piece->end)) {
        return -EINVAL;
    }
    return page == PAGING_PAGE ? 0 : core_huge_check(&piece->vma);
}

int core_make_alias(struct paging_area *area)
{
    size_t len = area->end - area->start;
    long room = core_huge_room(paging_aside(len), len, PAGING_PAGE), alias;

    if (sys_failed(room)) {
        return (int)room;
    }
    alias = sys_mremap(area->start, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, (uintptr_t)room);
    if (sys_failed(alias)) {
        sys_munmap((uintptr_t)room, len);
        return (int)alias;
    }
    sys_mprotect((uintptr_t)alias, len, PROT_READ | PROT_WRITE);
    sys_madvise((uintptr_t)alias, len, MADV_DONTDUMP);
    sys_madvise((uintptr_t)alias, len, MADV_NOHUGEPAGE);
    area->alias = (uintptr_t)alias;
    return 0;
}

/* How bytes get into shared memory: through a descriptor, else through a second mapping. */
static int find_way_in(struct paging_area *area, const struct vma *vma)
{
    area->fd = -1;
    if (area->kind == PAGING_ANON || area->watched) {
        return 0; /* its file, if it is of huge pages, is nobody else's; nothing gets in */
    }
    area->fd = files_fd_for(vma, &area->file);
    if (area->fd == -ENOMEM) {
        core_log("refused to register: no descriptor is left below RLIMIT_NOFILE for the file of ",
                 area->start);
        return -ENOMEM;
    }
    if (paging_is_huge(area)) {
        return area->fd < 0 ? -EINVAL : paging_huge_enter(area);
    }
    if (area->kind == PAGING_PRIVATE_FILE || (area->fd >= 0 && !core_writes_huge(area))) {
        return 0;
    }
    return core_make_alias(area);
}

/* Context: stripes of the area held. */
static int enter_area(struct paging_area *area)
{
    bool shadow =
        !paging_env.mem && area->kind != PAGING_SHARED && !paging_is_huge(area) && !area->watched;
    int ret = 0;

    /* Guards are ours where memory is registered: the program's would not be told from them. */
    if (!paging_is_huge(area)) {
        sys_madvise(area->start, area->end - area->start, MADV_GUARD_REMOVE);
    }
    if (area->missing || area->minor || area->rwp || shadow) {
        ret = paging_enter(area);
    } else {
        area->rooted = false;
    }
    if (ret == 0 && shadow) {
        ret = paging_make_shadow(area);
    }
    core_keep_apart(area);
    return ret ? ret : paging_adopt(area);
}

/* Poisoned pages that nobody had registered keep none of the mappings beside. */
static int renew_way_in(const struct piece *piece, struct paging_area *area)
{
    if (piece->range.ctx || area->alias || area->probe) {
        return 0;
    }
    if (paging_is_huge(area)) {
        return paging_huge_enter(area);
    }
    if (area->kind != PAGING_SHARED) {
        return paging_env.mem ? 0 : paging_plain_shadow(area);
    }
    return area->fd < 0 || core_writes_huge(area) ? core_make_alias(area) : 0;
}

/* Registered already: the modes asked for take the place of others, unless they are there. */
static int change_modes(const struct context *ctx, const struct piece *piece, uint64_t mode,
                        int tid)
{
    struct range range = piece->range;
    uint32_t id = atomic_load(&ctx->id);
    bool hid = paging_hides(&range.area);
    paging_stripes held;
    int ret = 0;

    if ((nested_mode(&range, id) & mode) == mode) {
        return 0;
    }
    if (!range.root) {
        mappings_learn(piece->start);
        ranges_find(piece->start, &range);
    }
    range.area = paging_slice(&range.area, piece->start, piece->end);
    nested_enter(&range, id, mode);
    mappings_part(&range, &piece->range);
    ret = renew_way_in(piece, &range.area);
    if (ret) {
        return -ENOMEM;
    }
    held = paging_lock(piece->start, piece->end, tid);
    paging_cut(piece->start);
    paging_cut(piece->end);
    if (nested_both(&range) != nested_both(&piece->range)) {
        range.busy = 1;
        ret = ranges_replace(piece->start, piece->end, &range);
        if (ret == 0) {
            nested_marks_change(&piece->range, &range, id);
        }
        range.busy = 0;
    }
    if (ret == 0 && paging_hides(&range.area) && (!hid || range.area.minor)) {
        range.busy = 1;
        ret = ranges_replace(piece->start, piece->end, &range);
        if (ret == 0) {
            /* What is mapped is no fault, of whatever kind. */
            ret = hid ? paging_adopt(&range.area) : paging_expect_missing(&range.area);
        }
        range.busy = 0;
    } else if (ret == 0 && hid && !paging_hides(&range.area)) {
        paging_expect_all(&range.area);
    }
    if (ret == 0) {
        ret = ranges_replace(piece->start, piece->end, &range);
        mappings_settle(piece->start);
        mappings_settle(piece->end);
    }
    if (ret) {
        range = piece->range; /* as it was, and not busy */
        range.area = paging_slice(&range.area, piece->start, piece->end);
        ranges_replace(piece->start, piece->end, &range);
    }
    paging_unlock(held);
    return ret;
}

/*
 * @divided: two mappings that touch and were two before; they stay two, for the kernel merges what
 * is alike.
 */
static struct range range_of(const struct context *ctx, const struct piece *piece, uint64_t mode,
                             bool divided, int kind, bool watched)
{
    const struct vma *vma = &piece->vma;
    size_t page = maps_page_size(vma);
    bool huge = page > PAGING_PAGE;
    /* The pages of such memory may each be in a file of its own (paging_huge_moves_in()). */
    bool own = huge && kind == PAGING_ANON;
    struct range range = {
        .area =
            {
                .start = piece->start,
                .end = piece->end,
                .page = page,
                .prot = vma->prot,
                .kind = (enum paging_kind)kind,
                .off = !own && ranges_keep_offset((enum paging_kind)kind, page, vma->dev_zero)
                           ? vma->off + (piece->start - vma->start)
                           : piece->start,
                .dev = own ? 0 : vma->dev,
                .ino = own ? 0 : vma->ino,
                .divided = divided && !huge, /* whether it is says its root */
                .noguard = huge,
                .nofill = vma->dev_zero && !vma->shared,
                .watched = watched,
                .rooted =
                    kind == PAGING_ANON && !huge && (vma->prot & PROT_WRITE) && paging_env.mem,
            },
        .busy = 1,
    };

    nested_enter(&range, atomic_load(&ctx->id), mode);
    return range;
}

static int register_piece(struct context *ctx, const struct piece *piece, uint64_t mode,
                          bool divided, int tid)
{
    bool watched;
    int kind = kind_of(&piece->vma, &watched);
    struct range range = range_of(ctx, piece, mode, divided, kind, watched);
    bool huge = paging_is_huge(&range.area);
    bool rooted = range.area.rooted;
    paging_stripes held;
    int ret = kind < 0 ? kind : paging_table_reserve(piece->start, piece->end);

    if (huge) {
        mappings_known_huge(piece->start, &range.traits, &range.root);
        core_huge_learn(&range, &piece->vma);
    } else {
        mappings_known(&piece->vma, piece->start, &range.traits, &range.root);
    }
    mappings_forget(piece->start, piece->end);
    if (ret == 0) {
        ret = find_way_in(&range.area, &piece->vma);
    }
    if (ret == 0) {
        ret = ranges_replace(piece->start, piece->end, &range);
    }
    if (ret) {
        paging_drop_aliases(&range.area);
        files_trim();
        return ret;
    }
    core_keep_small(&range.area);
    held = paging_lock(piece->start, piece->end, tid);
    ret = enter_area(&range.area);
    if (ret == 0) {
        range.busy = 0;
        ret = range.area.alias || range.area.rooted != rooted
                  ? ranges_replace(piece->start, piece->end, &range)
                  : ranges_set_busy(&range, 0);
        if (!divided) {
            mappings_settle(piece->start);
        }
        mappings_settle(piece->end);
    }
    if (ret) {
        core_release_area(&range, &range.area, CORE_RELEASE_OR_ORPHAN);
        files_trim();
    }
    paging_unlock(held);
    return ret;
}

/* The borders of what is asked for have to be those of pages. */
static bool cuts(const struct piece *piece, uintptr_t border)
{
    return border & (page_of(piece) - 1);
}

/* A fork leaves the copy of one mapping in pieces, which never merge again: one all the same. */
static bool was_one(const struct vma *before, const struct vma *after)
{
    bool goes_on = before->ino ? before->ino == after->ino && before->dev == after->dev &&
                                     before->off + (before->end - before->start) == after->off
                               : !after->ino;

    return goes_on && before->end == after->start && before->prot == after->prot &&
           before->shared == after->shared;
}

static int each_piece(struct context *ctx, uintptr_t start, uintptr_t end, uintptr_t sp,
                      uint64_t mode, int tid, bool apply)
{
    struct vma prev = {0};
    bool one = false;
    struct piece piece;
    bool any = false;

    for (uintptr_t at = start; at < end && next_piece(at, end, &piece); at = piece.end) {
        bool first = !any;
        int ret = 0;

        any = true;
        if (!apply) {
            ret = first && cuts(&piece, start)
                      ? -EINVAL
                      : check_piece(ctx, &piece, mode, sp, cuts(&piece, piece.end));
        } else if (piece.registered) {
            ret = change_modes(ctx, &piece, mode, tid);
        } else {
            bool touches = prev.end == piece.start, joined = one && was_one(&prev, &piece.vma);

            one = mappings_one(piece.end); /* asked while that is known */
            ret = register_piece(ctx, &piece, mode, touches && !joined, tid);
            prev = piece.vma;
            prev.end = piece.end;
        }
        if (ret) {
            return ret;
        }
    }
    return any ? 0 : -EINVAL;
}

#define BOTH (UF_REGISTER_MODE_WP | UF_REGISTER_MODE_RWP)

long core_ioctl_register(struct context *ctx, void *arg)
{
    uint64_t ioctls = CORE_RANGE_IOCTLS | (uint64_t)paging_moves() << UF_NR_MOVE;
    struct uf_io_register *user = arg;
    struct uf_io_register reg;
    struct core_guard guard;
    int ret;

    if (core_copy_in(&reg, user, sizeof reg - sizeof reg.ioctls)) {
        return -EFAULT;
    }
    if (!reg.mode || (reg.mode & ~CORE_MODES) || (reg.mode & BOTH) == BOTH ||
        core_check_range(reg.range.start, reg.range.len)) {
        return -EINVAL;
    }
    if (reg.mode & BOTH) {
        core_note_protection();
        ioctls |=
            (uint64_t)1 << (reg.mode & UF_REGISTER_MODE_WP ? UF_NR_WRITEPROTECT : UF_NR_RWPROTECT);
    }
    if (reg.mode & UF_REGISTER_MODE_MINOR) {
        ioctls |= (uint64_t)1 << UF_NR_CONTINUE;
    }
    if (paging_maps_fd() < 0) {
        core_log("refused to register: /proc/self/maps cannot be opened, and nothing else tells "
                 "what kind of memory it is",
                 0);
        return -EINVAL;
    }
    core_enter(&guard);
    core_edit_lock(guard.tid);
    ret = each_piece(ctx, reg.range.start, reg.range.start + reg.range.len, (uintptr_t)&guard,
                     reg.mode, guard.tid, false);
    if (ret == 0) {
        mappings_cut_huge(reg.range.start, reg.range.start + reg.range.len);
        ret = each_piece(ctx, reg.range.start, reg.range.start + reg.range.len, 0, reg.mode,
                         guard.tid, true);
    }
    files_trim(); /* what was opened to see whether it can be */
    core_edit_unlock();
    core_leave(&guard);
    if (ret) {
        return ret;
    }
    if (core_huge_any(reg.range.start, reg.range.start + reg.range.len)) {
        ioctls &= ~((uint64_t)1 << UF_NR_ZEROPAGE | (uint64_t)1 << UF_NR_MOVE);
    }
    STAT(registers);
    core_call_registered();
    return core_copy_out(&user->ioctls, &ioctls, sizeof ioctls);
}

/* Where the end would cut a huge page that is registered: its mapping stays as it is. */
static uintptr_t uncut_end(uintptr_t start, uintptr_t end)
{
    uintptr_t first, last;
    struct range range;

    if (!ranges_find(end, &range) || !range.ctx || !(end & (range.area.page - 1)) ||
        !ranges_mapping(end, &first, &last)) {
        return end;
    }
    return first > start ? first : start;
}

long core_ioctl_unregister(struct context *ctx, void *arg)
{
    uintptr_t end, uncut;
    struct uf_io_range user;
    struct core_guard guard;
    struct piece piece;
    bool any = false, watched;
    int ret = 0;

    if (core_copy_in(&user, arg, sizeof user)) {
        return -EFAULT;
    }
    if (core_check_range(user.start, user.len)) {
        return -EINVAL;
    }
    core_enter(&guard);
    core_edit_lock(guard.tid);
    end = user.start + user.len;
    for (uintptr_t at = user.start; ret == 0 && at < end && next_piece(at, end, &piece);
         at = piece.end) {
        if (!any && (at & (page_of(&piece) - 1))) {
            ret = -EINVAL;
        } else if (!piece.registered) {
            ret = kind_of(&piece.vma, &watched);
            ret = ret < 0 ? ret : watched ? -EINVAL : 0;
        } else if (piece.range.ctx && !nested_mode(&piece.range, atomic_load(&ctx->id))) {
            ret = -EINVAL;
        }
        any = true;
    }
    ret = any ? ret : -EINVAL;
    if (ret == 0) {
        uncut = uncut_end(user.start, end);
        ret = core_unregister_own(user.start, uncut, atomic_load(&ctx->id));
        if (ret == 0 && uncut < end) {
            mappings_cut(uncut);
            ret = -EINVAL;
        }
    }
    if (ret == 0) {
        STAT(unregisters);
    }
    core_edit_unlock();
    core_leave(&guard);
    return ret;
}
