/* SPDX-License-Identifier: MIT */
/* TCP: the other end of a link can be gone without a word; how long its silence is believed. */
#ifndef POSTCOPY_SILENCE_H
#define POSTCOPY_SILENCE_H

/* What the socket had, to restore. */
struct silence {
    int user_timeout, alive, idle, interval;
    int set; /* whether there is anything to restore */
};

/*
 * What was sent is acknowledged within so long, and a link on which nothing travels is asked before
 * it is over, or reading and writing say -ETIMEDOUT. limit_ms == 0: a limit of our own, but where
 * the caller has set any. Anything but a TCP socket is left alone.
 */
void silence_limit(int fd, unsigned limit_ms, struct silence *ret_before);
void silence_restore(int fd, const struct silence *before);

#endif
