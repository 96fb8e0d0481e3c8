/* SPDX-License-Identifier: MIT */
#ifndef CHANNEL_NAMESPACE_H
#define CHANNEL_NAMESPACE_H

#include <stdbool.h>

/*
 * From here to namespace_leave() this thread's children are made in its own pid namespace, also
 * where the program has its children made in another. Context: core_fds_lock()
 * Return: false when that cannot be had.
 */
bool namespace_enter(int *ret_back);
void namespace_leave(int back);

#endif
