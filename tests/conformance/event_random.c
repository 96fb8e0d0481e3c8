/* SPDX-License-Identifier: MIT */
/* UFFD_FEATURE_EVENT_REMAP: memory of many pages moves about, and every page is what it was. */
#include "cause.h"

#define PAGES  700 /* so that pieces of 2 MiB are cut, wherever they lie */
#define ROUNDS 40
#define FIXED  (MREMAP_MAYMOVE | MREMAP_FIXED)

enum state { MISSING, PRESENT, PROTECTED };

struct wanderer {
    int uffd;
    char *at, *room; /* where it is, and where it may be: twice as much and some pages more */
    enum state states[PAGES];
    uint64_t seed;
};

static unsigned below(struct wanderer *w, unsigned limit)
{
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(w->seed >> 33) % limit;
}

static char *page_of(struct wanderer *w, size_t n)
{
    return w->at + n * page_size;
}

/* Some pages get content, or are protected, or lose both. */
static void change(struct wanderer *w, const char *source)
{
    for (int i = 0; i < 60; i++) {
        size_t n = below(w, PAGES);

        if (w->states[n] == MISSING) {
            CHECK_EQ(uffd_copy(w->uffd, page_of(w, n), source + n * page_size, page_size), 0);
            w->states[n] = PRESENT;
        } else if (below(w, 4)) {
            CHECK_EQ(uffd_writeprotect(w->uffd, page_of(w, n), page_size,
                                       w->states[n] == PRESENT ? UF_WRITEPROTECT_MODE_WP : 0),
                     0);
            w->states[n] = w->states[n] == PRESENT ? PROTECTED : PRESENT;
        } else {
            CHECK_EQ(uffd_writeprotect(w->uffd, page_of(w, n), page_size, 0), 0);
            CHECK_EQ(madvise(page_of(w, n), page_size, MADV_DONTNEED), 0);
            w->states[n] = MISSING;
        }
    }
}

static void move(struct wanderer *w)
{
    /* To the other half, somewhere in it. */
    bool low = w->at < w->room + (PAGES + 8) * page_size;
    char *to = w->room + ((low ? PAGES + 8 : 0) + below(w, 8)) * page_size;
    struct cause cause = {cause_mremap, w->at, to, PAGES * page_size, PAGES * page_size, FIXED};

    cause_start(&cause);
    event_check_remap(w->uffd, w->at, to, PAGES * page_size);
    CHECK_EQ(cause_join(&cause), (long)to);
    w->at = to;
}

static void check_write_traps(struct wanderer *w, size_t n)
{
    struct touch touch = {.value = *(unsigned char *)page_of(w, n)};

    touch_start(&touch, page_of(w, n), true);
    uffd_next_fault(w->uffd, page_of(w, n), UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_writeprotect(w->uffd, page_of(w, n), page_size, 0), 0);
    touch_join(&touch);
    w->states[n] = PRESENT;
}

/* All that is there is as it was; of the rest, and of what is protected, some are tried. */
static void check(struct wanderer *w, const char *source)
{
    for (size_t n = 0; n < PAGES; n++) {
        if (w->states[n] != MISSING)
            CHECK(pattern_holds(page_of(w, n), n));
    }
    for (int i = 0; i < 20; i++) {
        size_t n = below(w, PAGES);

        if (w->states[n] == PROTECTED)
            check_write_traps(w, n);
        CHECK_EQ(uffd_copy(w->uffd, page_of(w, n), source + n * page_size, page_size),
                 w->states[n] == MISSING ? 0 : -EEXIST);
        w->states[n] = PRESENT;
    }
    uffd_check_silent(w->uffd);
}

static void wanders(enum mem_kind kind)
{
    const uint64_t modes = UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP;
    struct wanderer w = {.uffd = uffd_open(UF_FEATURE_EVENT_REMAP), .seed = 1};
    char *source = source_new(PAGES, 0);
    struct mem mem = mem_map(kind, PAGES);

    w.room = reserve_apart(2 * (PAGES + 8));
    w.at = mem.addr;
    CHECK_EQ(uffd_register_mode(w.uffd, mem.addr, mem.len, modes, NULL), 0);
    for (int round = 0; round < ROUNDS; round++) {
        change(&w, source);
        move(&w);
        check(&w, source);
    }
}

#define RST_REMAP "rst: Non-cooperative userfaultfd, remapping"

const struct conf_case event_random_cases[] = {
    {"events/remap-at-random", RST_REMAP, KIND(MEM_ANON) | KIND(MEM_MEMFD_PRIVATE),
     .features = EVENTS, .run = wanders},
    {.id = NULL},
};
