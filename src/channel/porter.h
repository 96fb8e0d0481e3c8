/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that come from a stranger, received so that nobody waits for their close. Context:
 * the server alone, all signals blocked.
 */
#ifndef CHANNEL_PORTER_H
#define CHANNEL_PORTER_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * The next datagram of the hub's, as recvmsg() would give it, without waiting; if a close of what
 * came along could wait, without descriptors. They are not the last of their files until
 * porter_done(), which is to be called in any case. Return: bytes; -EAGAIN: nothing came; -EBUSY:
 * as many wait for a close as may; -EPROTO: its sender is no bell of a living context's, and what
 * such have sent is received to be gone, until porter_shunned(). Context: core_fds_lock()
 */
long porter_receive(struct msghdr *msg);
/* Waits for a moment. Context: no lock */
void porter_shunned(void);
/*
 * All that this process has open now is not closed for the last time before porter_done(). Where no
 * process can be made, it does nothing. Context: core_fds_lock()
 */
void porter_hold(void);
void porter_done(void);
/*
 * Closes it, in a process that shares the table with this one, and is none that wait() sees.
 * False: nobody can be made for that. Context: core_fds_lock(), of any process
 */
bool porter_close(int fd);
/* This process is a forked child. */
void porter_forget(void);

#endif
