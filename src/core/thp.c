/* SPDX-License-Identifier: MIT */
/*
 * Transparent huge pages. One page resolved must not bring 511 others into view, so what is
 * registered gets MADV_NOHUGEPAGE, and what the program advises holds again when it is let go.
 *
 * There is no call that takes both advices back. What the program never advised stays as it is
 * where it would be small in any case; MADV_COLLAPSE, which is no matter of advice, lifts it for
 * the time being.
 */
#include <errno.h>
#include <string.h>

#include "core_local.h"
#include "sys/file.h"
#include "sys/mem.h"

#define SETTINGS "/sys/kernel/mm/transparent_hugepage/"

static bool holds_huge(uintptr_t start, uintptr_t end)
{
    return ((start + PAGING_CHUNK - 1) & ~(PAGING_CHUNK - 1)) + PAGING_CHUNK <= end;
}

bool core_writes_huge(const struct paging_area *area)
{
    struct stat st;

    return area->fd >= 0 && sys_fstat(area->fd, &st) == 0 && st.st_blksize >= (long)PAGING_CHUNK;
}

void core_keep_small(const struct paging_area *area)
{
    if (!paging_is_huge(area) && (holds_huge(area->start, area->end) || core_writes_huge(area))) {
        sys_madvise(area->start, area->end - area->start, MADV_NOHUGEPAGE);
    }
}

/* Whether the system makes huge pages of what nobody advised. */
static bool huge_unasked(const struct paging_area *area)
{
    static const char always[] = "[always]";
    char text[128];
    long fd = sys_open(area->kind == PAGING_SHARED ? SETTINGS "shmem_enabled" : SETTINGS "enabled",
                       O_RDONLY);
    long len = fd < 0 ? 0 : sys_read((int)fd, text, sizeof text);
    bool found = false;

    if (fd >= 0) {
        sys_close((int)fd);
    }
    for (long i = 0; !found && i + (long)sizeof always - 1 <= len; i++) {
        found = !memcmp(text + i, always, sizeof always - 1);
    }
    return found;
}

void core_let_be_huge(const struct range *range, uintptr_t start, uintptr_t end)
{
    if (paging_is_huge(&range->area) || (range->traits & TRAIT_NOHUGEPAGE)) {
        return;
    }
    if ((range->traits & TRAIT_HUGEPAGE) ||
        (holds_huge(start, end) && huge_unasked(&range->area))) {
        sys_madvise(start, end - start, MADV_HUGEPAGE);
    }
}

/* ---- what the program asks for */

/* The whole chunks of a range; where one fails for itself, the others are still tried. */
static int collapse_part(const struct range *range, const struct paging_area *part)
{
    uintptr_t base = (part->start + PAGING_CHUNK - 1) & ~(PAGING_CHUNK - 1);
    int failed = 0;

    for (; base + PAGING_CHUNK <= part->end; base += PAGING_CHUNK) {
        int ret =
            range->traits & (TRAIT_NOHUGEPAGE | TRAIT_HUGE) ? -EINVAL : paging_collapse(part, base);

        if (ret && ret != -EINVAL && ret != -EAGAIN) {
            return ret;
        }
        failed = ret ? ret : failed;
    }
    return failed;
}

/* Of what was registered before, and was kept small, too. */
static void advise_small(uintptr_t start, uintptr_t end, int advice)
{
    for (uintptr_t at = start, stop; mappings_next_small(&at, end, &stop); at = stop) {
        sys_madvise(at, stop - at, advice);
    }
}

static long collapse_plain(const struct range *none, uintptr_t start, uintptr_t end)
{
    long ret;

    advise_small(start, end, MADV_HUGEPAGE);
    ret = sys_madvise(start, end - start, MADV_COLLAPSE);
    advise_small(start, end, MADV_NOHUGEPAGE);
    return ret;
}

static long collapse_range(const struct range *range, uintptr_t start, uintptr_t end)
{
    struct paging_area part = paging_slice(&range->area, start, end);

    return collapse_part(range, &part);
}

/* Only the errors are real: the advice is remembered. */
static long huge_range(const struct range *range, uintptr_t start, uintptr_t end)
{
    return sys_madvise(start, end - start, range->ctx ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
}

static long huge_plain(const struct range *none, uintptr_t start, uintptr_t end)
{
    return sys_madvise(start, end - start, MADV_HUGEPAGE);
}

typedef long part_fn(const struct range *range, uintptr_t start, uintptr_t end);

/* One mapping after the other, as the kernel does: the first that refuses ends it, no hole does. */
static long each_part(uintptr_t addr, uintptr_t end, part_fn *ranged, part_fn *plain)
{
    struct range range;
    long ret = 0, hole = 0;

    for (uintptr_t at = addr, stop; ret == 0 && at < end; at = stop) {
        bool any = ranges_next(at, end, &range);

        if (any && range.area.start <= at) {
            stop = range.area.end < end ? range.area.end : end;
            ret = ranged(&range, at, stop);
            continue;
        }
        stop = any ? range.area.start : end;
        ret = plain(NULL, at, stop);
        if (ret == -ENOMEM) {
            hole = ret;
            ret = 0;
        }
    }
    return ret ? ret : hole;
}

long core_collapse(uintptr_t addr, uintptr_t end)
{
    struct change change;
    long ret;

    core_change_begin(&change, addr, end);
    ret = each_part(addr, end, collapse_range, collapse_plain);
    core_change_end(&change);
    return ret;
}

long core_advise_huge(uintptr_t addr, uintptr_t end)
{
    return each_part(addr, end, huge_range, huge_plain);
}
