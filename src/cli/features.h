/* SPDX-License-Identifier: MIT */
/* The names of the features, and which of them are ours. */
#ifndef CLI_FEATURES_H
#define CLI_FEATURES_H

#include <stddef.h>
#include <stdint.h>
#include <userfault/abi.h>

/* What UF_IO_API announces on the user backend. The core has the same set; the launcher is not
 * linked with it, and a test compares this with what a program is told. */
#define FEATURES_USER                                                                              \
    (UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_MISSING_SHMEM | UF_FEATURE_SIGBUS |                 \
     UF_FEATURE_THREAD_ID | UF_FEATURE_MINOR_SHMEM | UF_FEATURE_EXACT_ADDRESS |                    \
     UF_FEATURE_WP_HUGETLBFS_SHMEM | UF_FEATURE_WP_UNPOPULATED | UF_FEATURE_POISON |               \
     UF_FEATURE_WP_ASYNC | UF_FEATURE_MOVE | UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC |               \
     UF_FEATURE_EVENT_FORK | UF_FEATURE_EVENT_REMAP | UF_FEATURE_EVENT_REMOVE |                    \
     UF_FEATURE_EVENT_UNMAP | FEATURES_USER_HUGE)

/* Of these, which need writes through /proc/self/mem. */
#define FEATURES_USER_HUGE (UF_FEATURE_MISSING_HUGETLBFS | UF_FEATURE_MINOR_HUGETLBFS)

/* The name of feature bit @bit without its prefix; NULL for a bit that the ABI does not know. */
const char *feature_name(unsigned bit);

#endif
