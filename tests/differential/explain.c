/* SPDX-License-Identifier: MIT */
/*
 * Going on after a difference that is a known one: both sides run again without the operation that
 * it is about, which by then is the only thing that is not compared. Each round takes one operation
 * away, so it ends.
 */
#include <stdio.h>
#include <string.h>

#include "difftest.h"

void ops_format(const int *ops, int count, char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (int i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%d", i ? "," : "", ops[i]);
}

void ops_remove(int *ops, int *count, int op)
{
    int kept = 0;

    for (int i = 0; i < *count; i++) {
        if (ops[i] != op)
            ops[kept++] = ops[i];
    }
    *count = kept;
}

static enum comparison run_and_compare(const struct setup *setup, uint64_t seed, const int *ops,
                                       int count, struct known *ret)
{
    struct output out[2];
    struct sequence seq[2];
    enum comparison result = SAME;
    char text[MAX_OPS * 5];
    bool found[2];

    ops_format(ops, count, text, sizeof(text));
    run_both(setup, seed, 1, text, out);
    for (int i = 0; i < 2; i++)
        found[i] = find_sequence(&out[i], seed, &seq[i]);
    if (found[0] != found[1] || out[0].end[0] || out[1].end[0])
        result = DIFFERENT;
    else if (found[0])
        result = compare_sequences(&seq[0], &seq[1], ret);
    output_fini(&out[0]);
    output_fini(&out[1]);
    return result;
}

bool ops_differ(const struct setup *setup, uint64_t seed, int *ops, int *count)
{
    enum comparison result;
    struct known known;

    while ((result = run_and_compare(setup, seed, ops, *count, &known)) == EXPLAINED)
        ops_remove(ops, count, known.op);
    return result == DIFFERENT;
}
