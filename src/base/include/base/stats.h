/* SPDX-License-Identifier: MIT */
/*
 * Counters that a run under the launcher shares with it.
 *
 * The launcher creates a file of sizeof(struct uf_stats) bytes, hands its path over in the
 * environment variable USERFAULT_STATS, and every process of the run maps it shared and adds to
 * it with relaxed atomic operations: a process that is killed loses nothing that it had counted.
 * Every field is a plain 64-bit counter; peaks are raised with compare-and-swap.
 */
#ifndef BASE_STATS_H
#define BASE_STATS_H

#include <stdint.h>

#define UF_STATS_MAGIC   0x7566737461743032ull /* "ufstat02" */
#define UF_STATS_BUCKETS 32 /* bucket n: [2^(n-1), 2^n) us, bucket 0: below 1 us */

struct uf_stats {
    uint64_t magic;           /* UF_STATS_MAGIC, written by the launcher */
    uint64_t processes;       /* processes that loaded the facility */
    uint64_t contexts_user;   /* contexts created on the user backend */
    uint64_t contexts_kernel; /* contexts handed to the kernel's facility */
    uint64_t refused;         /* creations refused (EPERM, EINVAL, EMFILE, ...) */
    uint64_t registers;       /* successful UF_IO_REGISTER */
    uint64_t unregisters;     /* successful UF_IO_UNREGISTER */

    uint64_t faults_missing_read;
    uint64_t faults_missing_write;
    uint64_t faults_wp;
    uint64_t faults_rwp;
    uint64_t faults_minor;
    uint64_t faults_sigbus;   /* answered by SIGBUS (UF_FEATURE_SIGBUS) */
    uint64_t faults_callback; /* answered by a callback in the faulting thread */
    uint64_t readmitted; /* published pages that had been taken back to stay in the VMA budget */
    uint64_t messages;   /* messages read by managers */
    uint64_t withdrawn;  /* messages withdrawn unread, by a signal handler or a resolution */
    uint64_t chained;    /* SIGSEGV/SIGBUS that were the program's own */

    uint64_t events_fork, events_remap, events_remove, events_unmap; /* told to managers */

    uint64_t copy_calls, copy_pages, copy_bytes;
    uint64_t copy_moved; /* pages that were filled aside and moved in */
    uint64_t copy_left;  /* pages that stayed closed until others followed, to be opened at once */
    uint64_t copy_ahead; /* pages that were written together with one before them */
    uint64_t zero_calls, zero_pages, zero_bytes;
    uint64_t continue_calls, continue_pages, continue_bytes;
    uint64_t move_calls, move_pages, move_bytes;
    uint64_t poison_calls, poison_pages, poison_bytes;
    uint64_t wake_calls;
    uint64_t eexist, eagain;

    uint64_t vmas_peak;        /* most VMAs that the facility spelled out at once, in one process */
    uint64_t vma_budget;       /* the budget in force (largest of all processes) */
    uint64_t chunks_compacted; /* 2 MiB chunks compacted with guard pages */
    uint64_t runs_taken_back;  /* open runs or chunks closed to stay in the budget */

    uint64_t wait_ns;                   /* total time threads waited on faults */
    uint64_t spin_ended;                /* waits that ended while spinning */
    uint64_t latency[UF_STATS_BUCKETS]; /* fault to resumed, by power of two of microseconds */
};

#endif
