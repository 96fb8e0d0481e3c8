/* SPDX-License-Identifier: MIT */
#include "features.h"

static const char *const names[] = {
    "PAGEFAULT_FLAG_WP",
    "EVENT_FORK",
    "EVENT_REMAP",
    "EVENT_REMOVE",
    "MISSING_HUGETLBFS",
    "MISSING_SHMEM",
    "EVENT_UNMAP",
    "SIGBUS",
    "THREAD_ID",
    "MINOR_HUGETLBFS",
    "MINOR_SHMEM",
    "EXACT_ADDRESS",
    "WP_HUGETLBFS_SHMEM",
    "WP_UNPOPULATED",
    "POISON",
    "WP_ASYNC",
    "MOVE",
    "RWP",
    "RWP_ASYNC",
};

const char *feature_name(unsigned bit)
{
    return bit < sizeof(names) / sizeof(names[0]) ? names[bit] : NULL;
}
