/* SPDX-License-Identifier: MIT */
/*
 * How much is on its way at a time of what nobody waits for. A page on its way cannot be asked for
 * any more: who touches it waits until all before it has come. So that is a matter of time and not
 * of bytes: of a link's own, and of how long nobody has asked.
 */
#ifndef POSTCOPY_PACE_H
#define POSTCOPY_PACE_H

#include <stddef.h>
#include <stdint.h>

#define PACE_MAX ((size_t)2 << 20) /* bytes of a claim */

/* Of one link, by which one thread sends. */
struct pace {
    double rate, most;     /* bytes a ns; 0: not known yet, no limit */
    uint64_t bytes, ns;    /* since it was last worked out */
    int fd, unsent_before; /* the socket's own limit; < 0: it has none */
    size_t unsent;         /* that is set now */
};

/* most: bytes a second that go out, whatever the link can do; 0: no limit. */
void pace_begin(struct pace *pace, int fd, uint64_t most);
/* So many bytes have taken the link so long. */
void pace_sent(struct pace *pace, size_t bytes, uint64_t ns);
/* Bytes to claim next. quiet_ns: how long nobody has asked for a page; UINT64_MAX: nobody will. */
size_t pace_claim(const struct pace *pace, uint64_t quiet_ns);
/* The socket is again as it was. */
void pace_end(struct pace *pace);

#endif
