/* SPDX-License-Identifier: MIT */
/*
 * The numbers of aarch64, for a compiler that makes code for another machine: the generic ones,
 * with what the kernel's header for aarch64 asks of them.
 */
#define __ARCH_WANT_RENAMEAT
#define __ARCH_WANT_NEW_STAT
#define __ARCH_WANT_SET_GET_RLIMIT
#define __ARCH_WANT_TIME32_SYSCALLS
#define __ARCH_WANT_SYS_CLONE3
#define __ARCH_WANT_MEMFD_SECRET
#include <asm-generic/unistd.h>
