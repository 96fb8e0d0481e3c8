/* SPDX-License-Identifier: MIT */
/* What the environment chose, for the layers above. */
#ifndef CORE_SETTINGS_H
#define CORE_SETTINGS_H

#include "core/core.h"

enum core_backend core_backend(void);

/* Features of the user backend. */
uint64_t core_features(void);

/* A line to the log, if there is one. */
void core_note(const char *text);

/* A creation went to the kernel: count it. */
void core_count_kernel(long ret);

#endif
