/* SPDX-License-Identifier: MIT */
/* Where functions begin and end, as the unwinder's tables say. */
#ifndef TRAP_FUNCTIONS_H
#define TRAP_FUNCTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct functions_entry {
    int32_t begin; /* both from the table's own address */
    int32_t fde;
};

/* The functions of one loaded object, sorted. */
struct functions {
    uintptr_t base, map_at, map_end;
    const struct functions_entry *table;
    size_t count;
};

struct function {
    uintptr_t begin, end;
};

/**
 * functions_of() - the table of the object that holds @pc
 *
 * Context: signal handler. Makes no system call and takes no lock.
 * Return: false when there is none, or it is not written as usual.
 */
bool functions_of(uintptr_t pc, struct functions *ret);

/* The last function that begins at or before pc. Return: false if there is none. */
bool functions_find(const struct functions *all, uintptr_t pc, size_t *ret_index);
bool functions_get(const struct functions *all, size_t index, struct function *ret);

#endif
