/* SPDX-License-Identifier: MIT */
/*
 * A guest without an operating system that writes over its memory for ever, page by page, and
 * checks before it does that each holds what it wrote there in the pass before: all of it. Which
 * pages hold this pass's words and which the last one's, follows from how far it has come, so
 * memory that does not belong to the state of the processor (lost, late, from another page or from
 * another time) is found by the guest itself. Neighbours are visited far apart in time, so that
 * nothing read ahead saves it a wait.
 *
 * It says on the debug port: "memory PAGES", then for each pass "pass N CLOCK slow COUNT CLOCKS
 * [BUCKET:COUNT]...": the clock at its end, and how long the first touches of pages took that were
 * slow, as those are that wait for a page to arrive. Or, and then it stops, "bad ...".
 */
#include "guest.h"

typedef unsigned u32;
typedef unsigned long long u64;

#define DEBUG_PORT 0xe9
#define UPPER      8 /* byte offset, in what the loader says, of the KiB above 1 MiB */
#define STRIDE     40503u
#define REGISTERS  __attribute__((regparm(2))) /* arguments come in them */

u32 guest_pages, guest_step, guest_slow_count, guest_buckets[BUCKETS];
u64 guest_slow_clocks;

REGISTERS void guest_begin(const volatile unsigned char *loader);
REGISTERS void guest_tell(u32 pass);
REGISTERS void guest_bad(u32 page, u32 pass);

static void put_char(char c)
{
    __asm__ volatile("outb %0, %1" ::"a"(c), "Nd"((unsigned short)DEBUG_PORT));
}

static void put(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_number(u32 number)
{
    u32 unit = 1;

    while (number / unit >= 10)
        unit *= 10;
    for (; unit; unit /= 10)
        put_char((char)('0' + number / unit % 10));
}

static void put_hex(u64 number)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        put_char("0123456789abcdef"[(number >> shift) & 15]);
}

static u64 clock(void)
{
    u32 low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (u64)high << 32 | low;
}

static u32 common_divisor(u32 a, u32 b)
{
    while (b) {
        u32 rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* The last of the memory is left to the firmware, whose tables are there. */
REGISTERS void guest_begin(const volatile unsigned char *loader)
{
    u32 upper = *(const volatile u32 *)(loader + UPPER);

    guest_pages = (upper / 1024 * 1048576 - FIRST) / PAGE;
    for (guest_step = STRIDE % guest_pages; common_divisor(guest_pages, guest_step) != 1;)
        guest_step++;
    put("memory ");
    put_number(guest_pages);
    put("\n");
}

REGISTERS void guest_tell(u32 pass)
{
    put("pass ");
    put_number(pass);
    put(" ");
    put_hex(clock());
    put(" slow ");
    put_number(guest_slow_count);
    put(" ");
    put_hex(guest_slow_clocks);
    for (u32 i = 0; i < BUCKETS; i++) {
        if (guest_buckets[i]) {
            put(" ");
            put_number(i);
            put(":");
            put_number(guest_buckets[i]);
            guest_buckets[i] = 0;
        }
    }
    put("\n");
    guest_slow_count = 0;
    guest_slow_clocks = 0;
}

static u32 word_of(u32 page, u32 pass)
{
    u32 word = page * PAGE_FACTOR + pass * PASS_FACTOR;

    return word ^ word >> 15;
}

/* The page does not hold what was written to it in that pass. */
REGISTERS void guest_bad(u32 page, u32 pass)
{
    volatile u32 *at = (volatile u32 *)(FIRST + page * PAGE);
    u32 i = 0;

    while (i < PAGE / 4 - 1 && at[i] == word_of(page, pass) + i)
        i++;
    put("bad page ");
    put_number(page);
    put(" of pass ");
    put_number(pass);
    put(": word ");
    put_number(i);
    put(" is ");
    put_hex(at[i]);
    for (u32 other = 0; other < pass + 8; other++) {
        if (at[i] == word_of(page, other) + i) {
            put(" of pass ");
            put_number(other);
        }
    }
    put("\n");
}
