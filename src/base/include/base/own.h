/* SPDX-License-Identifier: MIT */
/*
 * Memory of the facility's own, that stays: away from where the kernel puts the program's mappings,
 * lest we fill a hole that the program has made, and fills later.
 */
#ifndef BASE_OWN_H
#define BASE_OWN_H

#include <stddef.h>
#include <stdint.h>

/* A hint where to map so much; that it is taken is no error. One behind the other. */
uintptr_t base_own_place(size_t len);
/* Zeroed, lazily backed, not in core dumps. NULL: there is none. */
void *base_own(size_t len);

#endif
