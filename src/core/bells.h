/* SPDX-License-Identifier: MIT */
/* Bells, for those who make and end contexts; who rings them finds that in core_local.h. */
#ifndef CORE_BELLS_H
#define CORE_BELLS_H

#include "core_local.h"

/* The program's descriptor of a new context. Context: edit lock held. Return: it, or -errno. */
int bell_make(struct context *ctx, int flags, uint32_t id);
/* Whether the last descriptor anywhere was closed. */
bool bell_gone(const struct context *ctx);
/* In a forked child: the context's bell is the one that was made for it. After contexts_take_hub().
 */
void bell_inherit(struct context *ctx);
void bells_close_heirs(void);

/* Of the hubs' own descriptors the first from fd on; INT_MAX: none. */
int bells_next_hidden(int fd);
/* One of them has another number now. */
void bells_moved(int from, int to);

/* ---- descriptors.c */

int descriptors_init(void); /* 0, -ENOMEM */
/* What a number is: an id, FD_DEVICE, FD_FOREIGN or 0. fd < CORE_FDS_MAX. */
void descriptor_set(int fd, uint32_t value);
/* In a forked child: all of them are perhaps another process's. */
void descriptors_forget(void);

#endif
