/* SPDX-License-Identifier: MIT */
/* What every side of a migration that is tested does with its links. */
#ifndef POSTCOPY_TEST_LINKS_H
#define POSTCOPY_TEST_LINKS_H

#include <unistd.h>
#include <userfault/postcopy.h>

/* Each is one socket, for both ways. */
static inline void close_links(const struct uf_postcopy_links *links)
{
    close(links->control.in);
    if (links->urgent.in >= 0)
        close(links->urgent.in);
    for (unsigned i = 0; i < links->background_count; i++)
        close(links->background[i].in);
}

#endif
