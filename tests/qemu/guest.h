/* SPDX-License-Identifier: MIT */
/* What the two halves of the guest have in common. */
#ifndef TESTS_QEMU_GUEST_H
#define TESTS_QEMU_GUEST_H

#define PAGE_SHIFT  12
#define PAGE        4096
#define FIRST       0x200000   /* address of page 0; the guest itself is below */
#define PAGE_FACTOR 0x9e3779b1 /* of the first word of a page in a pass; the others count on */
#define PASS_FACTOR 0x85ebca6b
#define SLOW_SHIFT  15 /* a touch of 2^15 clocks is a slow one */
#define PARTS_SHIFT 4  /* buckets to a doubling: 2^4 */
#define BUCKETS     (((32 - SLOW_SHIFT) << PARTS_SHIFT) + 1)

#endif
