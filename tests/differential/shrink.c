/* SPDX-License-Identifier: MIT */
/*
 * Shrinking a sequence that differs: delta debugging over its operations. Each operation stands by
 * itself, so any subset is a sequence; ever smaller chunks are left out while a difference remains.
 */
#include <string.h>

#include "difftest.h"

#define MAX_RUNS 300

/*
 * The number of operations left, as a list for --ops, or -1 when the sequence by itself does not
 * differ in three runs.
 */
int shrink(const struct setup *setup, uint64_t seed, char *ret_ops, size_t size)
{
    int ops[MAX_OPS], trial[MAX_OPS], count = list_ops(setup, seed, ops), runs = 0;

    for (int left = count;; left = count) {
        memcpy(trial, ops, sizeof(ops));
        if (ops_differ(setup, seed, trial, &left)) {
            memcpy(ops, trial, sizeof(ops));
            count = left;
            break;
        }
        if (++runs == 3)
            return -1;
    }
    for (int chunk = count / 2; chunk >= 1 && runs < MAX_RUNS;) {
        bool shorter = false;

        for (int at = 0; at < count && runs < MAX_RUNS;) {
            int cut = at + chunk > count ? count - at : chunk, left = count - cut;

            memcpy(trial, ops, (size_t)at * sizeof(ops[0]));
            memcpy(trial + at, ops + at + cut, (size_t)(left - at) * sizeof(ops[0]));
            runs++;
            if (left > 0 && ops_differ(setup, seed, trial, &left)) {
                count = left;
                memcpy(ops, trial, (size_t)count * sizeof(ops[0]));
                shorter = true;
            } else {
                at += cut;
            }
        }
        if (!shorter || chunk > 1)
            chunk /= 2;
    }
    ops_format(ops, count, ret_ops, size);
    return count;
}
