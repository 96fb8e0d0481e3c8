/* SPDX-License-Identifier: MIT */
/* From a call's arguments to the memory that the kernel touches. */
#ifndef INTERCEPT_WALK_H
#define INTERCEPT_WALK_H

#include <stdbool.h>
#include <stddef.h>

#include "core/call.h"
#include "intercept/calls.h"
#include "shape.h"

enum walk_mode {
    WALK_LOOK, /* does any of it lie on a closed page? What is open before it stays so. */
    WALK_ONE,  /* bring in the first page that does */
    WALK_ALL,  /* bring in everything, as far as the kernel will come */
};

struct walk {
    const struct icall_shape *shape;
    const long *args;
    struct core_call call;
    enum walk_mode mode;
    size_t data_max; /* so many bytes of data will be moved at most */
    size_t data_left;
    bool touched; /* some of it is registered */
    long opened;  /* pages brought in so far */
};

/**
 * walk_call() - visit what the kernel touches, in its order
 *
 * Structures that point further are read when they are there; one that cannot be read ends the
 * walk, and the kernel is to say so.
 *
 * Return: WALK_ALL: 0. Otherwise 1 when a closed page was found, or brought in. -EFAULT
 * when the kernel will meet memory that cannot be accessed.
 */
long walk_call(struct walk *walk, enum walk_mode mode);

/* The call on a regular file, made in steps; the kernel's answer. See steps.c. */
long walk_steps(struct walk *walk, icall_make *make, void *cookie);

/* ---- for nested.c. Return: 0 to go on, else what the walk ends with. */

/* The kernel touches [addr, addr + len); nothing if either is 0. */
long walk_span(struct walk *walk, uintptr_t addr, size_t len, enum arch_access access);
/* A structure that points further, at hand once it was visited. */
long walk_fetch(struct walk *walk, uintptr_t addr, void *into, size_t len, enum arch_access access);
/* The kernel reads it, and later writes it: reported as a read. */
long walk_both(struct walk *walk, uintptr_t addr, size_t len);

/* An argument that tells only with others what it is. */
long walk_nested(struct walk *walk, const struct icall_arg *arg, uintptr_t addr);
/* Whether it is an ioctl that only asks or sets: one that failed with EFAULT may be repeated. */
bool walk_ioctl_listed(unsigned req);

#endif
