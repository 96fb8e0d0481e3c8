/* SPDX-License-Identifier: MIT */
/* What a monitored process sends to its manager, with the context's descriptor: SCM_RIGHTS. */
#ifndef HELLO_H
#define HELLO_H

#include <stdint.h>

#define PAGE 4096u

struct hello {
    uint64_t start, len; /* memory that is registered for missing pages */
    uint64_t offset;     /* which part of the content it is */
};

/* The content, where no file is given: each word says where it stands. */
static inline uint64_t pattern(uint64_t offset)
{
    return offset * 0x9e3779b97f4a7c15u;
}

#endif
