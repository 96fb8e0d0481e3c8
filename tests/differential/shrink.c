/* SPDX-License-Identifier: MIT */
/*
 * Shrinking a sequence that differs: delta debugging over its operations. Each operation stands by
 * itself, so any subset is a sequence; ever smaller chunks are left out while a difference remains.
 */
#include <stdio.h>
#include <string.h>

#include "difftest.h"

#define MAX_RUNS 300

static void format_ops(const int *ops, int count, char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (int i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%d", i ? "," : "", ops[i]);
}

static bool differs(const struct setup *setup, uint64_t seed, const char *ops)
{
    struct output out[2];
    struct sequence seq[2];
    bool found[2], differ;

    run_both(setup, seed, 1, ops, out);
    for (int i = 0; i < 2; i++)
        found[i] = find_sequence(&out[i], seed, &seq[i]);
    differ = found[0] != found[1] || out[0].end[0] || out[1].end[0] ||
             (found[0] && !sequences_equal(&seq[0], &seq[1]));
    output_fini(&out[0]);
    output_fini(&out[1]);
    return differ;
}

/*
 * The number of operations left, as a list for --ops, or -1 when the sequence by itself does not
 * differ in three runs.
 */
int shrink(const struct setup *setup, uint64_t seed, char *ret_ops, size_t size)
{
    int ops[MAX_OPS], trial[MAX_OPS], count = list_ops(setup, seed, ops), runs = 0;
    char text[MAX_OPS * 5];

    while (!differs(setup, seed, NULL)) {
        if (++runs == 3)
            return -1;
    }
    for (int chunk = count / 2; chunk >= 1 && runs < MAX_RUNS;) {
        bool shorter = false;

        for (int at = 0; at < count && runs < MAX_RUNS;) {
            int cut = at + chunk > count ? count - at : chunk;

            memcpy(trial, ops, (size_t)at * sizeof(ops[0]));
            memcpy(trial + at, ops + at + cut, (size_t)(count - at - cut) * sizeof(ops[0]));
            format_ops(trial, count - cut, text, sizeof(text));
            runs++;
            if (count - cut > 0 && differs(setup, seed, text)) {
                count -= cut;
                memcpy(ops, trial, (size_t)count * sizeof(ops[0]));
                shorter = true;
            } else {
                at += cut;
            }
        }
        if (!shorter || chunk > 1)
            chunk /= 2;
    }
    format_ops(ops, count, ret_ops, size);
    return count;
}
