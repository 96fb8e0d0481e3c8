/* SPDX-License-Identifier: MIT */
#include "calls.h"

#define PLACE_PAGES 256

void place_each(enum mem_kind kind, void (*body)(struct place *place))
{
    bool can_protect = conf_env.features & UF_FEATURE_PAGEFAULT_FLAG_WP;

    for (enum placing placing = HIDDEN; placing < (can_protect ? PLACINGS : PROTECTED); placing++) {
        struct place place = {.mem = mem_map(kind, PLACE_PAGES), .placing = placing};
        int uffd = uffd_open(0);

        place.image =
            mmap(NULL, place.mem.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(place.image != MAP_FAILED);
        CHECK_EQ(uffd_register_mode(uffd, place.mem.addr, place.mem.len,
                                    UF_REGISTER_MODE_MISSING |
                                        (placing < PROTECTED ? 0 : UF_REGISTER_MODE_WP),
                                    NULL),
                 0);
        pager_start_image(&place.pager, uffd, place.mem.addr, place.mem.len, place.image);
        body(&place);
        pager_stop(&place.pager);
        munmap(place.image, place.mem.len);
        CHECK_EQ(uffd_unregister(uffd, place.mem.addr, place.mem.len), 0);
        close(uffd);
    }
}

/* Half of it, but whole words of eight, on the first page. */
static char *place_new(struct place *place, size_t len)
{
    size_t first = len / 2 + 7 - (len / 2 + 7) % 8;
    size_t at = place->used * page_size, pages;

    while (first > page_size)
        first -= page_size;
    first = first > len ? len : first;
    pages = 1 + (len - first + page_size - 1) / page_size;
    CHECK((place->used + pages + 1) * page_size <= place->mem.len);
    place->used += pages + 1; /* the next object's pages are never this one's */
    return place->mem.addr + at + page_size - first;
}

/* The page is there. */
static void provide(struct place *place, char *page, uint64_t mode)
{
    CHECK_EQ(uffd_copy_mode(place->pager.uffd, page, place->image + (page - place->mem.addr),
                            page_size, mode, NULL),
             0);
}

void *place_in(struct place *place, const void *bytes, size_t len)
{
    char *addr = place_new(place, len);
    char *first = place->mem.addr + (size_t)(addr - place->mem.addr) / page_size * page_size;

    memcpy(place->image + (addr - place->mem.addr), bytes, len);
    if (place->placing != HIDDEN)
        provide(place, first, place->placing == PROTECTED ? UF_COPY_MODE_WP : 0);
    if (place->placing >= PROTECTED)
        for (char *page = first + page_size; page < addr + len; page += page_size)
            provide(place, page, UF_COPY_MODE_WP);
    return addr;
}

unsigned long place_closed(const struct place *place)
{
    return place->placing == HIDDEN || place->placing == PROTECTED ? 2 : 1;
}

char *place_text(struct place *place, const char *text)
{
    return place_in(place, text, strlen(text) + 1);
}

void *place_out(struct place *place, size_t len)
{
    char *zeroes = calloc(1, len);
    void *addr = place_in(place, zeroes, len);

    free(zeroes);
    return addr;
}

unsigned long place_faults(struct place *place)
{
    return atomic_exchange(&place->pager.faults, 0);
}

void *unmapped(void)
{
    return (void *)(8 * page_size); /* so low that the kernel maps nothing there */
}
