/* SPDX-License-Identifier: MIT */
/* Trying something that may kill who tries it. */
#ifndef CLI_PROBE_H
#define CLI_PROBE_H

#include <stdint.h>

/* Runs in a child; 0 or an errno (positive). What it writes to @value the parent sees. */
typedef int probe_fn(uint64_t *value);

/**
 * probe_try() - call a function in a child process.
 * @ret_value: receives what the function wrote, 0 if nothing; may be NULL
 * @ret_signal: receives the signal that killed the child, 0 if none; may be NULL
 *
 * Return: what the function returned; EINTR when a signal killed it; the errno of fork.
 */
int probe_try(probe_fn *fn, uint64_t *ret_value, int *ret_signal);

#endif
