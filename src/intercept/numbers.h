/* SPDX-License-Identifier: MIT */
/*
 * Numbers of system calls that are newer than the headers of Debian 12, which end with Linux 6.1.
 *
 * They are those of syscall_64.tbl and of the common syscall.tbl in the sources of Linux 6.18, and
 * were tried on that kernel: each answers otherwise than ENOSYS (but map_shadow_stack, where the
 * hardware has none), the next ones do not. From 424 on all architectures share their numbers.
 */
#ifndef INTERCEPT_NUMBERS_H
#define INTERCEPT_NUMBERS_H

#include <sys/syscall.h>

#ifdef SYS_arch_prctl /* x86-64 */
#ifndef SYS_uretprobe
#define SYS_uretprobe 335 /* 6.11 */
#endif
#ifndef SYS_uprobe
#define SYS_uprobe 336 /* 6.18 */
#endif
#endif

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* 6.5 */
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* 6.6 */
#endif
#ifndef SYS_map_shadow_stack
#define SYS_map_shadow_stack 453 /* 6.6 */
#endif
#ifndef SYS_futex_wake
#define SYS_futex_wake    454 /* 6.7 */
#define SYS_futex_wait    455
#define SYS_futex_requeue 456
#endif
#ifndef SYS_statmount
#define SYS_statmount         457 /* 6.8 */
#define SYS_listmount         458
#define SYS_lsm_get_self_attr 459
#define SYS_lsm_set_self_attr 460
#define SYS_lsm_list_modules  461
#endif
#ifndef SYS_mseal
#define SYS_mseal 462 /* 6.10 */
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat    463 /* 6.13 */
#define SYS_getxattrat    464
#define SYS_listxattrat   465
#define SYS_removexattrat 466
#endif
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467 /* 6.15 */
#endif
#ifndef SYS_file_getattr
#define SYS_file_getattr 468 /* 6.17 */
#define SYS_file_setattr 469
#endif

#endif
