/* SPDX-License-Identifier: MIT */
/* The first words over a connection, of the first one and of those that follow it. */
#ifndef POSTCOPY_GREET_H
#define POSTCOPY_GREET_H

#include "peer.h"

/* All of these return 0, or -errno, told. */

/* Which link is which, and that both mean the same migration. */
int greet_as_source(struct peer *peer);
int greet_as_sink(struct peer *peer);
/* Both have the same regions. The sink's answer is a step of its own. */
int greet_name_regions(struct peer *peer);
int greet_check_regions(struct peer *peer);
int greet_answer_regions(struct peer *peer);

#endif
