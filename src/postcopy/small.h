/* SPDX-License-Identifier: MIT */
/*
 * While pages arrive in plain memory the kernel must not make huge pages of it: one has zeroes in
 * the place of what has not come, which then would not count as missing.
 */
#ifndef POSTCOPY_SMALL_H
#define POSTCOPY_SMALL_H

/* Of this process; each who begins has to end it. */
void small_begin(void);
/* The process is as it was, when the last one has said so. */
void small_end(void);

#endif
