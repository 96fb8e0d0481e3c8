/* SPDX-License-Identifier: MIT */
/* Building short texts (paths, log lines) in a caller's buffer: no libc, always terminated. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct base_text {
    char *buf;
    size_t len; /* without the terminator; what does not fit is left out */
    size_t cap;
};

struct base_text base_text_on(char *buf, size_t cap);
void base_text_str(struct base_text *text, const char *str);
void base_text_dec(struct base_text *text, uint64_t value);
void base_text_hex(struct base_text *text, uint64_t value);

/* Steps over @what, if it stands at *at. */
bool base_text_step(const char **at, const char *what);
/* Parse an unsigned number at *at in the base given (10 or 16, 8), stepping over it. */
uint64_t base_text_number(const char **at, unsigned base);

#endif
