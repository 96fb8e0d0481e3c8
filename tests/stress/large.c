/* SPDX-License-Identifier: MIT */
/* Sizes: many pages in random order, a tebibyte, touches spread over it, gigabytes by one ioctl. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stress.h"

#define TEBIBYTE ((uint64_t)1 << 40)

static uint64_t kib_of(const char *path, const char *name)
{
    char line[256];
    uint64_t value = 0;
    FILE *f = fopen(path, "re");

    stress_check(f);
    while (fgets(line, sizeof(line), f)) {
        if (!strncmp(line, name, strlen(name)))
            value = strtoull(line + strlen(name) + 1, NULL, 10);
    }
    fclose(f);
    return value;
}

static uint64_t status_kib(const char *name)
{
    return kib_of("/proc/self/status", name);
}

struct peak {
    uint64_t before, peak;
};

static void note_vmas(struct peak *peak)
{
    uint64_t now = stress_vmas() - peak->before;

    if (now < UINT32_MAX && now > peak->peak)
        peak->peak = now;
    if (options.budget && peak->peak > options.budget)
        stress_fail("%llu VMAs more than before, the budget is %llu",
                    (unsigned long long)peak->peak, (unsigned long long)options.budget);
}

/* A permutation of [0, 2^bits): odd multiplier and xor, so that it needs no table. */
static uint64_t permute(uint64_t i, unsigned bits, uint64_t seed)
{
    uint64_t mask = ((uint64_t)1 << bits) - 1;

    for (int round = 0; round < 4; round++) {
        i = (i * (seed | 1) + (seed >> 17)) & mask;
        i ^= i >> (bits / 2);
        seed = rnd(&seed);
    }
    return i;
}

/*
 * Touch page permute(i) * stride of a registered range for each i, the pager answering with zero
 * pages but for one in 64, which keeps the memory small and the contents checkable.
 */
static void touch_all(enum memory memory, uint64_t bytes, unsigned bits, uint64_t stride)
{
    struct pager pager = {.zero = true};
    struct peak peak = {.before = stress_vmas()};
    uint64_t count = (uint64_t)1 << bits, pte = status_kib("VmPTE:"), start;
    uint64_t tables = bytes >> 21 < count ? bytes >> 21 : count;
    int fd = context_open(O_NONBLOCK, 0);
    char *base = map_pages(memory, bytes / page_bytes);

    context_register(fd, base, bytes);
    pager_start(&pager, fd, base, bytes / page_bytes);
    start = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        uint64_t page = permute(i, bits, options.seed) * stride;
        uint64_t word = *(volatile uint64_t *)(base + page * page_bytes);

        if (word != (page % 64 ? 0 : stamp_of(page)))
            stress_fail("page %llu shows %llx", (unsigned long long)page, (unsigned long long)word);
        if (i % (count / 32) == 0) {
            note_vmas(&peak);
            stress_alive();
        }
    }
    note_vmas(&peak);
    pte = status_kib("VmPTE:") - pte;
    stress_note("%llu touches, %.1f us each, %llu VMAs more at peak, VmPTE +%llu KiB",
                (unsigned long long)count, (double)(now_ns() - start) / 1000 / (double)count,
                (unsigned long long)peak.peak, (unsigned long long)pte);
    /* A page table for each 2 MiB that was touched is what the kernel's facility needs at least. */
    stress_check(pte * 1024 * 10 <= tables * page_bytes * 12);
    pager_stop(&pager);
    stress_check(pager.served >= count);
    close(fd);
    unmap_pages(base, bytes / page_bytes);
}

static unsigned bits_of(uint64_t count)
{
    unsigned bits = 0;

    while (((uint64_t)2 << bits) <= count)
        bits++;
    return bits;
}

void test_million(enum memory memory)
{
    unsigned bits = bits_of(stress_count((uint64_t)1 << 20));

    touch_all(memory, page_bytes << bits, bits, 1);
}

void test_spread(enum memory memory)
{
    unsigned bits = bits_of(stress_count((uint64_t)1 << 18));

    touch_all(memory, TEBIBYTE, bits, (TEBIBYTE / page_bytes) >> bits);
}

/* Registering is constant in time and memory, however much is registered. */
void test_tebibyte(enum memory memory)
{
    uint64_t count = stress_count(20), best = UINT64_MAX, kib = 0;

    for (uint64_t i = 0; i < count; i++) {
        int fd = context_open(O_NONBLOCK, 0);
        char *base = map_pages(memory, TEBIBYTE / page_bytes);
        uint64_t before = status_kib("VmRSS:") + status_kib("VmPTE:"), start = now_ns(), ns, after;
        context_register(fd, base, TEBIBYTE);
        ns = now_ns() - start;
        after = status_kib("VmRSS:") + status_kib("VmPTE:");
        if (ns < best)
            best = ns;
        if (after - before > kib && after > before)
            kib = after - before;
        close(fd);
        unmap_pages(base, TEBIBYTE / page_bytes);
        stress_alive();
    }
    stress_note("registering 1 TiB: %.1f us at best, +%llu KiB at worst", (double)best / 1000,
                (unsigned long long)kib);
    stress_check(best < 10 * 1000 * 1000);
    stress_check(kib < 1024);
}

/* ---- one ioctl */

#define GIBIBYTE ((uint64_t)1 << 30)

/* What is copied is there twice while it is. */
const char *gigabytes_lack(void)
{
    return kib_of("/proc/meminfo", "MemAvailable:") < 4 * (GIBIBYTE >> 10)
               ? "less than 4 GiB of memory are available"
               : NULL;
}

static void copy_gigabytes(int fd, enum memory memory, uint64_t pages)
{
    char *base = map_pages(memory, pages), *source = map_pages(MEMORY_PRIVATE, pages);
    struct uf_io_copy copy = {
        .dst = (uintptr_t)base, .src = (uintptr_t)source, .len = pages * page_bytes};
    uint64_t start;

    for (uint64_t page = 0; page < pages; page++)
        stamp_fill(source + page * page_bytes, stamp_of(page));
    context_register(fd, base, copy.len);
    stress_alive();
    start = now_ns();
    stress_check(ioctl(fd, UF_IO_COPY, &copy) == 0);
    stress_note("UFFDIO_COPY of %llu MiB: %.2f s", (unsigned long long)copy.len >> 20,
                (double)(now_ns() - start) / 1000000000);
    stress_check(copy.copy == (int64_t)copy.len);
    stress_alive();
    for (uint64_t page = 0; page < pages; page++)
        stress_check(stamp_read(base + page * page_bytes, 0) == stamp_of(page));
    unmap_pages(base, pages);
    unmap_pages(source, pages);
}

/* Six gibibytes of zeroes, which are no memory as long as nobody writes to them. */
static void zero_gigabytes(int fd)
{
    uint64_t pages = 6 * GIBIBYTE / page_bytes, seed = options.seed, start;
    char *base = map_pages(MEMORY_PRIVATE, pages + 1);
    struct uf_io_zeropage zero = {.range = {(uintptr_t)base, pages * page_bytes}};
    struct uf_msg msg;

    context_register(fd, base, (pages + 1) * page_bytes);
    start = now_ns();
    stress_check(ioctl(fd, UF_IO_ZEROPAGE, &zero) == 0);
    stress_note("UFFDIO_ZEROPAGE of 6 GiB: %.2f s", (double)(now_ns() - start) / 1000000000);
    stress_check(zero.zeropage == (int64_t)(pages * page_bytes));
    for (uint64_t page = 0; page < pages; page += 1 + rnd(&seed) % 4096) {
        volatile uint64_t *word = (volatile uint64_t *)(base + page * page_bytes);

        stress_check(word[page % 512] == 0);
        word[0] = stamp_of(page);
        stress_check(word[0] == stamp_of(page) && word[1] == 0);
    }
    stress_check(context_zero(fd, base + (pages - 1) * page_bytes, page_bytes) == EEXIST);
    stress_check(context_zero(fd, base + pages * page_bytes, page_bytes) == 0); /* was missing */
    stress_check(!context_read(fd, &msg));
    unmap_pages(base, pages + 1);
}

void test_gigabytes(enum memory memory)
{
    int fd = context_open(O_NONBLOCK, 0);

    copy_gigabytes(fd, memory, stress_count((GIBIBYTE + GIBIBYTE / 4) / page_bytes));
    if (memory == MEMORY_PRIVATE) /* of shared memory, each page of zeroes is one */
        zero_gigabytes(fd);
    close(fd);
}
