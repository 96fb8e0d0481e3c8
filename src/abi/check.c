/* SPDX-License-Identifier: MIT */
/*
 * The contract's sizes, offsets and numbers, asserted. Nothing here runs: it fails to compile.
 * The expected numbers are those that a kernel's own header yields on every architecture that
 * uses the generic ioctl encoding.
 */
#include <stddef.h>

#include "userfault/abi.h"

#define SAME(a, b) _Static_assert((a) == (b), #a " must be " #b)

SAME(sizeof(struct uf_msg), 32);
SAME(offsetof(struct uf_msg, arg.pagefault.flags), 8);
SAME(offsetof(struct uf_msg, arg.pagefault.address), 16);
SAME(offsetof(struct uf_msg, arg.pagefault.feat.ptid), 24);
SAME(offsetof(struct uf_msg, arg.fork.ufd), 8);
SAME(offsetof(struct uf_msg, arg.remap.from), 8);
SAME(offsetof(struct uf_msg, arg.remap.to), 16);
SAME(offsetof(struct uf_msg, arg.remap.len), 24);
SAME(offsetof(struct uf_msg, arg.remove.start), 8);
SAME(offsetof(struct uf_msg, arg.remove.end), 16);

SAME(sizeof(struct uf_io_api), 0x18);
SAME(sizeof(struct uf_io_range), 0x10);
SAME(sizeof(struct uf_io_register), 0x20);
SAME(sizeof(struct uf_io_copy), 0x28);
SAME(sizeof(struct uf_io_zeropage), 0x20);
SAME(sizeof(struct uf_io_writeprotect), 0x18);
SAME(sizeof(struct uf_io_continue), 0x20);
SAME(sizeof(struct uf_io_poison), 0x20);
SAME(sizeof(struct uf_io_move), 0x28);
SAME(sizeof(struct uf_io_rwprotect), 0x18);
SAME(sizeof(struct uf_io_set_mode), 0x10);
SAME(offsetof(struct uf_io_register, ioctls), 0x18);
SAME(offsetof(struct uf_io_copy, copy), 0x20);
SAME(offsetof(struct uf_io_zeropage, zeropage), 0x18);
SAME(offsetof(struct uf_io_move, move), 0x20);

SAME(UF_WRITEPROTECT_MODE_WP, 1);
SAME(UF_WRITEPROTECT_MODE_DONTWAKE, 2);
SAME(UF_RWPROTECT_MODE_RWP, 1);
SAME(UF_RWPROTECT_MODE_DONTWAKE, 2);

SAME(UF_IO_REGISTER, 0xc020aa00u);
SAME(UF_IO_UNREGISTER, 0x8010aa01u);
SAME(UF_IO_WAKE, 0x8010aa02u);
SAME(UF_IO_COPY, 0xc028aa03u);
SAME(UF_IO_ZEROPAGE, 0xc020aa04u);
SAME(UF_IO_MOVE, 0xc028aa05u);
SAME(UF_IO_WRITEPROTECT, 0xc018aa06u);
SAME(UF_IO_CONTINUE, 0xc020aa07u);
SAME(UF_IO_POISON, 0xc020aa08u);
SAME(UF_IO_RWPROTECT, 0xc018aa09u);
SAME(UF_IO_SET_MODE, 0x4010aa0au);
SAME(UF_IO_API, 0xc018aa3fu);

/* Our own: beyond 63, the last that a mask of ioctls could name. */
SAME(sizeof(struct uf_io_extend), 0x08);
SAME(sizeof(struct uf_io_ack), 0x08);
SAME(offsetof(struct uf_msg, reserved3), 4);
SAME(UF_IO_EXTEND, 0xc008aa80u);
SAME(UF_IO_ACK, 0x4008aa81u);
SAME(sizeof(struct uf_io_death), 0x10);
SAME(UF_IO_DEATH, 0x4010aa82u);
