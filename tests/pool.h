/* SPDX-License-Identifier: MIT */
/* The system's pool of huge pages, for tests. */
#ifndef TESTS_POOL_H
#define TESTS_POOL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Takes so many huge pages of a size from the system for as long as the caller lives or until
 * pool_give_back(). `alone`: nobody else counts on the pool meanwhile, as where a test empties it.
 * Return: NULL, or why they cannot be had.
 */
const char *pool_take(size_t page, long wanted, bool alone);
void pool_give_back(void);
void pool_forget(void);      /* in a child: it is the parent's to give back */
size_t pool_page_size(void); /* bytes, of who asks for no other; 0: no huge pages here */

#endif
