/* SPDX-License-Identifier: MIT */
/*
 * The source: which pages of a region are holes, so that none of these is read. Of shared memory
 * and of huge pages to read one is to allocate it; private small pages are read, for the system
 * maps the same zeroes everywhere.
 */
#ifndef POSTCOPY_HOLE_H
#define POSTCOPY_HOLE_H

#include "source.h"

#define HOLES_ASKED ((size_t)512) /* pages at a time, at most */

/* How it is known. What is in swap, or is in a file and mapped nowhere, is no hole. */
enum hole_way {
    HOLES_READ, /* it is not: all pages count as content */
    HOLES_FILE, /* its file is asked */
    HOLES_VIEW, /* a second mapping that nobody touches: CONTINUE finds a page of the file, or none
                 */
    HOLES_OWN,  /* private huge pages: what is not mapped is nowhere */
};

struct holes {
    enum hole_way way;
    int fd;      /* of the file; -1: none */
    bool opened; /* for this region; else another one brought it */
    uint64_t dev, ino;
    uint64_t offset; /* in the file */
    char *view;      /* NULL: none */
};

/*
 * Before anything of the source's registers the regions. What cannot be known is no error: it is
 * read. Where another context has registered a region, a page that is missing is its manager's to
 * bring, and no hole. tracked: a tracker will register them.
 */
void holes_look(struct uf_source *source, bool tracked);
/* Behind that, and before the program stops: from now on holes can be asked for. */
void holes_begin(struct uf_source *source);
void holes_end(struct uf_source *source);
/* Whether all of a region has to be read. */
bool holes_unknown(const struct uf_source *source, unsigned region);
/*
 * ret[i]: whether page first + i is a hole, or was one a moment ago where the program still runs;
 * count: at most HOLES_ASKED. What is allocated and was never written to may count as either.
 * Context: any thread.
 */
void holes_show(const struct uf_source *source, unsigned region, size_t first, size_t count,
                bool *ret);
/* How many of these pages are as the first one: holes, or none. count: not 0 */
size_t holes_alike(const bool *holes, size_t count);

/* ---- hole_find.c */

/* Which way each region allows; fd, offset and the like are set for it. */
void holes_find(struct uf_source *source);
/* No region needs its descriptor any more. */
void holes_close(struct holes *holes);

#endif
