/* SPDX-License-Identifier: MIT */
/*
 * A step between two others, at which a process may be killed: tests/channel/points.c kills it at
 * each in turn, and before each system call (sys/call.h). In what is shipped there is nothing.
 */
#ifndef BASE_POINT_H
#define BASE_POINT_H

#ifdef USERFAULT_POINTS
void base_point(void);
#define BASE_POINT() base_point()
#else
#define BASE_POINT() ((void)0)
#endif

#endif
