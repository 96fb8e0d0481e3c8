/* SPDX-License-Identifier: MIT */
/* Contexts of other processes: see protocol.h. */
#ifndef CHANNEL_CHANNEL_H
#define CHANNEL_CHANNEL_H

/* From now on descriptors of other processes' contexts work, and ours in other processes. */
void channel_init(void);

#endif
