/* SPDX-License-Identifier: MIT */
/* Which differences are as they should be. */
#ifndef KNOWN_H
#define KNOWN_H

#include <stdbool.h>
#include <stddef.h>

/**
 * known_reason() - why two traces differ, if that is as it should be
 * @lines: what is alike, @count lines
 * @kernel: the line that differs; NULL: there is none
 * @ours: the line in its place; NULL: there is none
 * @ret_op: the operation that it is about
 *
 * Return: a sentence, or NULL: nothing is known of such a difference.
 */
const char *known_reason(const char *const *lines, size_t count, const char *kernel,
                         const char *ours, int *ret_op);

#endif
