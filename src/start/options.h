/* SPDX-License-Identifier: MIT */
/* What the environment asks for. */
#ifndef START_OPTIONS_H
#define START_OPTIONS_H

#include "core/core.h"

/* Opens the log and maps the statistics, which the options then own. */
void options_read(struct core_options *ret);

#endif
