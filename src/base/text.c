/* SPDX-License-Identifier: MIT */
#include "base/text.h"

struct base_text base_text_on(char *buf, size_t cap)
{
    buf[0] = '\0';
    return (struct base_text){.buf = buf, .cap = cap};
}

void base_text_str(struct base_text *text, const char *str)
{
    while (*str && text->len + 1 < text->cap) {
        text->buf[text->len++] = *str++;
    }
    text->buf[text->len] = '\0';
}

static void text_number(struct base_text *text, uint64_t value, unsigned base)
{
    char digits[24];
    char *at = digits + sizeof digits;

    *--at = '\0';
    do {
        *--at = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    base_text_str(text, at);
}

void base_text_dec(struct base_text *text, uint64_t value)
{
    text_number(text, value, 10);
}

void base_text_hex(struct base_text *text, uint64_t value)
{
    text_number(text, value, 16);
}

bool base_text_step(const char **at, const char *what)
{
    const char *now = *at;

    while (*what && *now == *what) {
        now++;
        what++;
    }
    if (!*what) {
        *at = now;
    }
    return !*what;
}

static int text_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return 99;
}

uint64_t base_text_number(const char **at, unsigned base)
{
    uint64_t value = 0;

    while (text_digit(**at) < (int)base) {
        value = value * base + (unsigned)text_digit(*(*at)++);
    }
    return value;
}
