/* SPDX-License-Identifier: MIT */
/* Another library, with a system call instruction of its own. */
long raw_of_library(long nr, long a, long b);

long raw_of_library(long nr, long a, long b)
{
    long ret;

    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return ret;
}
