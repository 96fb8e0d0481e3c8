/* SPDX-License-Identifier: MIT */
/*
 * The length of an instruction: prefixes, opcode, ModRM with what belongs to it, immediate.
 *
 * One letter an opcode says what follows it:
 *
 *     .  nothing          m  ModRM                 !  refused
 *     b  imm8             B  ModRM, imm8           w  imm16
 *     z  imm32 (imm16)    Z  ModRM, imm32 (imm16)  v  imm32, imm64 with REX.W
 *     r  rel8             R  rel32                 o  address, eight bytes
 *     f  group f6, f7: an immediate for the first two of its members
 *     e  imm16, imm8
 */
#include "insn.h"

#define INSN_MAX 15

/* clang-format off */
static const char one_byte[] =
    /* 0 */ "mmmmbz!!mmmmbz!!"
    /* 1 */ "mmmmbz!!mmmmbz!!"
    /* 2 */ "mmmmbz!!mmmmbz!!"
    /* 3 */ "mmmmbz!!mmmmbz!!"
    /* 4 */ "!!!!!!!!!!!!!!!!" /* REX: taken before */
    /* 5 */ "................"
    /* 6 */ "!!!m!!!!zZbB...."
    /* 7 */ "rrrrrrrrrrrrrrrr"
    /* 8 */ "BZ!Bmmmmmmmmmmmm"
    /* 9 */ "..........!....."
    /* a */ "oooo....bz......"
    /* b */ "bbbbbbbbvvvvvvvv"
    /* c */ "BBw.!!BZe.w..b!."
    /* d */ "mmmm!!!.mmmmmmmm"
    /* e */ "rrrrbbbbRR!r...."
    /* f */ "!.!!..ff......mm";

static const char two_bytes[] =
    /* 0 */ "mmmm!.....!.!m.!"
    /* 1 */ "mmmmmmmmmmmmmmmm"
    /* 2 */ "mmmm!!!!mmmmmmmm"
    /* 3 */ "......!.!!!!!!!!"
    /* 4 */ "mmmmmmmmmmmmmmmm"
    /* 5 */ "mmmmmmmmmmmmmmmm"
    /* 6 */ "mmmmmmmmmmmmmmmm"
    /* 7 */ "BBBBmmm.!!!!mmmm"
    /* 8 */ "RRRRRRRRRRRRRRRR"
    /* 9 */ "mmmmmmmmmmmmmmmm"
    /* a */ "...mBm!!...mBmmm"
    /* b */ "mmmmmmmmmmBmmmmm"
    /* c */ "mmBmBBBm........"
    /* d */ "mmmmmmmmmmmmmmmm"
    /* e */ "mmmmmmmmmmmmmmmm"
    /* f */ "mmmmmmmmmmmmmmmm";
/* clang-format on */

struct decoder {
    uintptr_t at, end;
    bool over;      /* ran into the end */
    bool operand16; /* prefix 66 */
    bool wide;      /* REX.W */
    bool rep;
    bool prefixed;
};

static uint8_t take(struct decoder *d)
{
    if (d->at >= d->end) {
        d->over = true;
        return 0;
    }
    return *(const uint8_t *)d->at++;
}

static void skip(struct decoder *d, size_t bytes)
{
    if (d->end - d->at < bytes) {
        d->over = true;
        return;
    }
    d->at += bytes;
}

/* Legacy prefixes, then REX. Return: the byte after them. */
static uint8_t take_prefixes(struct decoder *d)
{
    uint8_t byte = take(d);

    for (;;) {
        switch (byte) {
        case 0x66:
            d->operand16 = true;
            break;
        case 0xf3:
            d->rep = true;
            break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
        case 0x67:
        case 0xf0:
        case 0xf2:
            break;
        default:
            if ((byte & 0xf0) == 0x40) {
                d->prefixed = true;
                d->wide = byte & 8;
                byte = take(d);
            }
            return byte;
        }
        d->prefixed = true;
        byte = take(d);
    }
}

/* Return: the ModRM byte itself. */
static uint8_t take_modrm(struct decoder *d)
{
    uint8_t modrm = take(d), mod = modrm >> 6, rm = modrm & 7, base = rm;

    if (mod == 3) {
        return modrm;
    }
    if (rm == 4) {
        base = take(d) & 7;
    }
    if (mod == 1) {
        skip(d, 1);
    } else if (mod == 2 || base == 5) { /* mod 0: %rip or no base at all */
        skip(d, 4);
    }
    return modrm;
}

static intptr_t relative(const struct decoder *d, size_t bytes)
{
    int32_t value = 0;

    if (bytes == 1) {
        return *(const int8_t *)(d->at - 1);
    }
    __builtin_memcpy(&value, (const void *)(d->at - sizeof value), sizeof value);
    return value;
}

/* What a letter of the tables stands for. Return: ModRM, if there is one. */
static uint8_t take_operands(struct decoder *d, char letter, uint8_t opcode)
{
    size_t whole = d->operand16 && !d->wide ? 2 : 4;
    uint8_t modrm = 0;

    if (letter == 'm' || letter == 'B' || letter == 'Z' || letter == 'f') {
        modrm = take_modrm(d);
    }
    switch (letter) {
    case 'b':
    case 'B':
    case 'r':
        skip(d, 1);
        break;
    case 'w':
        skip(d, 2);
        break;
    case 'e':
        skip(d, 3);
        break;
    case 'z':
    case 'Z':
        skip(d, whole);
        break;
    case 'R':
        skip(d, 4);
        break;
    case 'v':
        skip(d, d->wide ? 8 : whole);
        break;
    case 'o':
        skip(d, 8);
        break;
    case 'f':
        if ((modrm & 0x38) < 0x10) {
            skip(d, opcode == 0xf6 ? 1 : whole);
        }
        break;
    default:
        break;
    }
    return modrm;
}

static enum insn_kind kind_of_one(const struct decoder *d, uint8_t opcode, uint8_t modrm)
{
    if ((opcode & 0xf0) == 0x70 || (opcode & 0xfc) == 0xe0 || opcode == 0xe8) {
        return INSN_BRANCH;
    }
    switch (opcode) {
    case 0xe9:
    case 0xeb:
        return INSN_JUMP;
    case 0xc2:
    case 0xc3:
    case 0xcc:
    case 0xf4:
        return INSN_LEAVES;
    case 0xff:
        if ((modrm & 0x38) != 0x20) {
            return INSN_OTHER;
        }
        return (modrm & 0xc7) == 5 ? INSN_LEAVES : INSN_INDIRECT; /* by a word of its own: a call */
    case 0x90:
        return d->rep || d->wide ? INSN_OTHER : INSN_NOP;
    case 0xb8:
        return d->prefixed ? INSN_OTHER : INSN_MOV_EAX;
    default:
        return INSN_OTHER;
    }
}

static enum insn_kind kind_of_two(uint8_t opcode, uint8_t modrm)
{
    if ((opcode & 0xf0) == 0x80) {
        return INSN_BRANCH;
    }
    switch (opcode) {
    case 0x05:
        return INSN_SYSCALL;
    case 0x0b:
        return INSN_LEAVES;
    case 0x1f:
        return (modrm & 0x38) == 0 ? INSN_NOP : INSN_OTHER;
    default:
        return INSN_OTHER;
    }
}

/* VEX and EVEX: the map is in the prefix. Return: whether it is one that we know. */
static bool take_vector(struct decoder *d, uint8_t first)
{
    uint8_t map = 1, opcode;

    if (first == 0xc5) {
        skip(d, 1);
    } else {
        map = take(d) & (first == 0x62 ? 7 : 0x1f);
        skip(d, first == 0x62 ? 2 : 1);
    }
    opcode = take(d);
    if (map == 1 && opcode == 0x77) {
        return true; /* vzeroupper */
    }
    if (map < 1 || map > 3) {
        return false;
    }
    take_modrm(d);
    if (map == 3 || (map == 1 && two_bytes[opcode] == 'B')) {
        skip(d, 1);
    }
    return true;
}

/* xabort, and xbegin, which may go on at its target; else refused, XOP among others. */
static bool take_transaction(struct decoder *d, uint8_t opcode, uint8_t modrm, struct insn *ret)
{
    if (modrm != 0xf8 || (opcode | 1) != 0xc7) {
        return false;
    }
    if (opcode == 0xc7 && !d->over) {
        ret->kind = INSN_BRANCH;
        ret->target = d->at + (uintptr_t)relative(d, 4);
    }
    return true;
}

static bool take_opcode(struct decoder *d, struct insn *ret)
{
    uint8_t opcode = take_prefixes(d), modrm;
    bool two = opcode == 0x0f;
    char letter;

    if (opcode == 0xc4 || opcode == 0xc5 || opcode == 0x62) {
        return take_vector(d, opcode);
    }
    opcode = two ? take(d) : opcode;
    if (two && (opcode == 0x38 || opcode == 0x3a)) {
        skip(d, 1);
        take_modrm(d);
        skip(d, opcode == 0x3a ? 1 : 0);
        return true;
    }
    letter = two ? two_bytes[opcode] : one_byte[opcode];
    if (letter == '!' || ((letter == 'r' || letter == 'R') && d->operand16)) {
        return false;
    }
    modrm = take_operands(d, letter, opcode);
    if (!two && ((opcode == 0x8f && (modrm & 0x38)) || ((opcode | 1) == 0xc7 && (modrm & 0x38)))) {
        return !d->operand16 && take_transaction(d, opcode, modrm, ret);
    }
    ret->kind = two ? kind_of_two(opcode, modrm) : kind_of_one(d, opcode, modrm);
    if (!d->over && (ret->kind == INSN_BRANCH || ret->kind == INSN_JUMP)) {
        ret->target = d->at + (uintptr_t)relative(d, letter == 'r' ? 1 : 4);
    }
    return true;
}

bool insn_decode(uintptr_t at, uintptr_t end, struct insn *ret)
{
    struct decoder d = {.at = at, .end = end};

    *ret = (struct insn){.kind = INSN_OTHER};
    if (!take_opcode(&d, ret) || d.over || d.at - at > INSN_MAX) {
        return false;
    }
    ret->len = (uint8_t)(d.at - at);
    return true;
}
