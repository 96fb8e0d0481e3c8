/* SPDX-License-Identifier: MIT */
#include "played.h"

#include <sys/mman.h>

#define PAGES_0 ((size_t)4)
#define PAGES_1 ((size_t)6)
#define GUARDS  4
#define GUARD   0xa5

struct played_region played_regions[REGIONS];

static char *guards[GUARDS]; /* a page each, before, between and behind the regions */
static unsigned used;

/* untouchable | guard | region | guard | region | guard | region, huge | guard | untouchable */
static void map_once(void)
{
    const size_t lens[REGIONS] = {PAGES_0 * PAGE, PAGES_1 * PAGE, HUGE};
    size_t all = 2 * HUGE + 64 * PAGE, at;
    char *start = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *huge, *first;

    MUST(start != MAP_FAILED);
    huge = (char *)(((uintptr_t)start + 32 * PAGE + HUGE - 1) & ~(HUGE - 1));
    first = huge - (3 + PAGES_0 + PAGES_1) * PAGE;
    MUST(mprotect(first, (size_t)(huge + HUGE + PAGE - first), PROT_READ | PROT_WRITE) == 0);
    at = 0;
    for (int i = 0; i < REGIONS; i++) {
        guards[i] = first + at;
        played_regions[i] =
            (struct played_region){first + at + PAGE, lens[i], i == 2 ? HUGE : PAGE};
        at += PAGE + lens[i];
    }
    MUST(played_regions[2].start == huge);
    guards[3] = huge + HUGE;
}

/* The third page of each is zero. */
#define ZERO ((size_t)2)

static int content(unsigned region, size_t at)
{
    return at / PAGE == ZERO ? 0 : (int)(region * 16 + at / PAGE + 1) & 0xff;
}

void memory_reset(unsigned count, bool filled)
{
    if (!guards[0])
        map_once();
    used = count;
    for (int i = 0; i < GUARDS; i++)
        memset(guards[i], GUARD, PAGE);
    for (unsigned i = 0; i < count; i++) {
        for (size_t at = 0; at < played_regions[i].len; at += PAGE)
            memset(played_regions[i].start + at, filled ? content(i, at) : 0x5a, PAGE);
    }
}

static bool is_all(const char *start, int byte, size_t len)
{
    return start[0] == (char)byte && !memcmp(start, start + 1, len - 1);
}

void memory_check(void)
{
    for (int i = 0; i < GUARDS; i++)
        MUST(is_all(guards[i], GUARD, PAGE));
}

bool memory_unchanged(void)
{
    for (unsigned i = 0; i < used; i++) {
        for (size_t at = 0; at < played_regions[i].len; at += PAGE) {
            if (!is_all(played_regions[i].start + at, content(i, at), PAGE))
                return false;
        }
    }
    return true;
}

/* Of a huge page a part is no hole. */
bool memory_is_hole(unsigned region, uint64_t bit)
{
    return played_regions[region].page == PAGE && bit == (uint64_t)1 << ZERO;
}

void memory_shut_holes(bool shut)
{
    for (unsigned i = 0; i < used; i++) {
        if (played_regions[i].page == PAGE)
            MUST(mprotect(played_regions[i].start + ZERO * PAGE, PAGE,
                          shut ? PROT_NONE : PROT_READ | PROT_WRITE) == 0);
    }
}

bool memory_inside(uint64_t start, uint64_t len)
{
    for (unsigned i = 0; i < used; i++) {
        uint64_t from = (uintptr_t)played_regions[i].start;

        if (start >= from && start - from < played_regions[i].len &&
            len <= played_regions[i].len - (start - from))
            return len > 0 && !((start | len) & (played_regions[i].page - 1));
    }
    return false;
}
