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
    bool keys;    /* of a futex call: only what its shared words are looked up by */
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

/* The call, its answer by way of memory of ours; see aside.c. */
long walk_aside(const struct icall_shape *shape, const long *args, icall_make *make, void *cookie);

/* How many bytes an argument is of that has so many items as another says; of FDSETs, too. */
size_t walk_bytes(const struct icall_arg *arg, const long *args);
/* As many items, of so many bytes, as the int behind `len_at` says; that is read, and written. */
long walk_sized(struct walk *walk, uintptr_t addr, uintptr_t len_at, size_t max, size_t item);

/* ---- for nested.c. Return: 0 to go on, else what the walk ends with. */

/* The kernel touches [addr, addr + len); nothing if either is 0. */
long walk_span(struct walk *walk, uintptr_t addr, size_t len, enum arch_access access);
/* The same, where the kernel fails instead of waiting: only what was closed by us is opened. */
long walk_hasty(struct walk *walk, uintptr_t addr, size_t len, enum arch_access access);
/* A structure that points further, at hand once it was visited. */
long walk_fetch(struct walk *walk, uintptr_t addr, void *into, size_t len, enum arch_access access);
/* The kernel reads it, and later writes it: reported as a read. */
long walk_both(struct walk *walk, uintptr_t addr, size_t len);

/* A terminated string, and of it at most so many bytes. */
long walk_string(struct walk *walk, uintptr_t addr, size_t max);
#define WALK_STRING_MAX ((size_t)32 * 4096) /* the kernel's MAX_ARG_STRLEN */
/* So many struct iovec, and the data behind them. */
long walk_vectors(struct walk *walk, uintptr_t addr, size_t count, enum arch_access access);

/* ---- arguments that tell only with others what they are */

/* Structures that point further, or tell their own size: nested.c */
long walk_nested(struct walk *walk, const struct icall_arg *arg, uintptr_t addr);
/* What a command says: commands.c, keys.c */
long walk_command(struct walk *walk, const struct icall_arg *arg, uintptr_t addr);
long walk_keyctl(struct walk *walk);
long walk_bpf(struct walk *walk);
/* Whether the command has done something when it fails with EFAULT. */
bool walk_bpf_acts(long cmd);

/* ioctl's, of which the request says what it is: ioctl.c */
long walk_ioctl(struct walk *walk, unsigned req, uintptr_t addr);
/* Whether it is one that only asks or sets: having failed with EFAULT it may be repeated. */
bool walk_ioctl_listed(unsigned req);

/* What a command does with its argument; a list of them ends with a line without bytes. */
struct walk_cmd {
    unsigned cmd;
    uint16_t bytes;
    uint8_t how; /* ARG_IN, ARG_OUT, ARG_INOUT; ARG_STRING: at most `bytes` of one */
};

const struct walk_cmd *walk_find(const struct walk_cmd *list, unsigned cmd);
long walk_cmd(struct walk *walk, const struct walk_cmd *cmd, uintptr_t addr);
/* How the kernel touches what is so described. */
long walk_as(struct walk *walk, unsigned how, uintptr_t addr, size_t len);

#endif
