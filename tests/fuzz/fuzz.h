/* SPDX-License-Identifier: MIT */
/*
 * One input of bytes, taken as a script of what a hostile peer does. A target runs one side of the
 * channel in this process, against the peer; what must never be ends the process by MUST().
 */
#ifndef FUZZ_H
#define FUZZ_H

/* Where an engine's are counted, what plays around it has libc's. */
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef getrandom

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libFuzzer's, and replay.c's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Inputs in which both sides agreed over another connection; of postcopy's targets. */
extern unsigned fuzz_recovered __attribute__((weak));

struct script {
    const uint8_t *at, *end;
};

/* Beyond the end: zeroes. */
static inline uint64_t script_bytes(struct script *script, size_t count)
{
    uint64_t value = 0;

    for (size_t i = 0; i < count && script->at < script->end; i++)
        value |= (uint64_t)*script->at++ << 8 * i;
    return value;
}

static inline uint8_t script_byte(struct script *script)
{
    return (uint8_t)script_bytes(script, 1);
}

/* As many as there are. Return: how many. */
static inline size_t script_fill(struct script *script, void *buf, size_t size)
{
    size_t left = (size_t)(script->end - script->at), count = left < size ? left : size;

    memcpy(buf, script->at, count);
    script->at += count;
    return count;
}

/* A number that is likely to be near a bound: small, huge, of pages, or any. */
static inline uint64_t script_number(struct script *script)
{
    uint8_t how = script_byte(script);

    switch (how % 6) {
    case 0:
        return how / 6;
    case 1:
        return (uint64_t)(how / 6) * 4096;
    case 2:
        return (uint64_t)0 - how / 6;
    case 3:
        return ((uint64_t)1 << how / 6) - 1;
    case 4:
        return (uint64_t)1 << how / 6;
    default:
        return script_bytes(script, 8);
    }
}

/* ---- what both sides' core is played by: hidden descriptors keep their numbers */

#define HANDLES 1024
extern int fuzz_hidden[HANDLES]; /* number + 1; 0: free */
extern int fuzz_hidden_limit;    /* so many at a time */

unsigned fuzz_hidden_count(void);

#endif
