/* SPDX-License-Identifier: MIT */
/*
 * Objects in hidden or protected memory, for cases that hand them to system calls.
 *
 * Each object lies over the border of two pages of its own. They are missing, both or the second
 * one, until the call touches them, and a thread brings in what the case put there; or they are
 * there and protected, and the thread lets the call write.
 */
#ifndef CONFORMANCE_CALLS_H
#define CONFORMANCE_CALLS_H

#include "harness.h"

enum placing {
    HIDDEN,
    HALF_HIDDEN, /* the first page is there */
    PROTECTED,
    HALF_PROTECTED, /* the first page may be written to */
    PLACINGS,
};

struct place {
    struct mem mem;
    char *image; /* what the pages hold once they are there */
    enum placing placing;
    size_t used; /* pages */
    struct pager pager;
};

/* Run `body` once for each placing, with a fresh place. */
void place_each(enum mem_kind kind, void (*body)(struct place *place));

/* An object that holds these bytes. */
void *place_in(struct place *place, const void *bytes, size_t len);
/* A terminated string. */
char *place_text(struct place *place, const char *text);
/* An object full of zeroes. */
void *place_out(struct place *place, size_t len);
/* How many pages of such an object a call has to ask for that writes all of it. */
unsigned long place_closed(const struct place *place);
/* How many pages were asked for since the last time. */
unsigned long place_faults(struct place *place);

/* No page is there, and none will be. */
void *unmapped(void);

#define PLACE_IN(place, object) ((__typeof__(object) *)place_in(place, &(object), sizeof(object)))
#define PLACE_OUT(place, type)  ((type *)place_out(place, sizeof(type)))

#endif
