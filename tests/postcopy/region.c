/* SPDX-License-Identifier: MIT */
/*
 * What the sink's program makes of its regions: several mappings, pages out of the page tables; and
 * what is left of them where the migration does not end well. A source and a sink, both in this
 * process.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "move.h"

/* ---- regions of several mappings */

/* Which the system makes of one, since some pages of it are to be treated otherwise. */
static void divide(char *start)
{
    for (size_t at = 5 * PAGE; at < BYTES; at += 37 * PAGE) {
        if (uf_syscall(SYS_madvise, start + at, 3 * PAGE, MADV_DONTDUMP) ||
            uf_syscall(SYS_mprotect, start + at + 3 * PAGE, PAGE, PROT_READ))
            abort();
    }
}

static int divide_and_go_on(void *arg, const void *blob, size_t len)
{
    const struct move *move = arg;

    divide(move->to);
    return 0;
}

static int divide_and_fail(void *arg, const void *blob, size_t len)
{
    divide_and_go_on(arg, blob, len);
    return -EIO;
}

static void check_divided(int kind, bool before, bool zeroes)
{
    struct move move = {.kind = kind, .sink_how = {.resume = before ? resume : divide_and_go_on}};
    char name[128];

    prepare(&move);
    if (before)
        divide(move.to);
    if (zeroes && madvise(move.from, BYTES, kind == MAP_SHARED ? MADV_REMOVE : MADV_DONTNEED))
        abort();
    if (pthread_create(&move.thread, NULL, run_sink, &move))
        abort();
    run(&move);
    snprintf(name, sizeof(name), "%s memory that is several mappings %s the switch, %s",
             kind == MAP_SHARED ? "shared" : "private", before ? "before" : "since",
             zeroes ? "of zeroes" : "with content");
    point(is_right(&move), name);
    end(&move);
}

/* Return: whether the system can read any page that is said to be lost. */
static bool is_any_readable(const struct move *move)
{
    int fds[2];
    bool is = false;

    if (pipe(fds))
        abort();
    for (size_t at = 0, len; (len = uf_sink_lost(move->sink, 0, at, &at)) > 0; at += len) {
        for (size_t i = 0; i < len; i += PAGE)
            is |= uf_syscall(SYS_write, fds[1], move->to + at + i, (size_t)1) > 0;
    }
    close(fds[0]);
    close(fds[1]);
    return is;
}

static void check_divided_lost(void)
{
    struct move move = {.kind = MAP_PRIVATE,
                        .how = {.bandwidth_bytes = 1},
                        .sink_how = {.resume = divide_and_fail}};
    size_t at;

    begin(&move);
    run(&move);
    point(move.sink_ret == -EIO && uf_sink_lost(move.sink, 0, 0, &at) > 0 &&
              !is_any_readable(&move),
          "what is lost of several mappings is waited for by nobody");
    end(&move);
}

/* Of shared memory the system may forget where a page is mapped, and know that it is there. */
static int write_and_fail(void *arg, const void *blob, size_t len)
{
    const struct move *move = arg;

    for (size_t at = 0; at < 16 * PAGE; at += PAGE)
        move->to[BYTES / 2 + at] = 'w';
    if (uf_syscall(SYS_madvise, move->to + BYTES / 2, 16 * PAGE, MADV_PAGEOUT))
        return -EINVAL;
    return -EIO;
}

static void check_forgotten(void)
{
    struct move move = {
        .kind = MAP_SHARED, .how = {.bandwidth_bytes = 1}, .sink_how = {.resume = write_and_fail}};
    size_t at = 0, len, lost = 0;
    bool there = true;

    begin(&move);
    run(&move);
    while ((len = uf_sink_lost(move.sink, 0, at, &at)) > 0) {
        there &= at + len <= BYTES / 2 || at >= BYTES / 2 + 16 * PAGE;
        lost += len;
        at += len;
    }
    for (at = BYTES / 2; there && at < BYTES / 2 + 16 * PAGE; at += PAGE)
        there &= move.to[at] == 'w';
    point(move.sink_ret == -EIO && lost > 0 && there,
          "what the program wrote to shared memory stays when the rest is lost");
    end(&move);
}

/* ---- memory of a sink that never switched */

static int refuse_to_stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    return -EBUSY;
}

static void check_unswitched(void)
{
    struct move move = {.kind = MAP_PRIVATE, .how = {.stop = refuse_to_stop}};

    begin(&move);
    run(&move);
    memset(move.to, 'm', BYTES);
    point(move.source_ret == -EBUSY && move.sink_ret == -ECANCELED &&
              !uf_sink_switched(move.sink) && move.to[BYTES - 1] == 'm',
          "a sink that was prepared in vain leaves plain memory");
    end(&move);
}

/* ---- */

int main(int argc, char **argv)
{
    if (!can_begin(argc, argv))
        return 0;
    for (int i = 0; i < 8; i++)
        check_divided(i & 1 ? MAP_SHARED : MAP_PRIVATE, i & 2, i & 4);
    check_divided_lost();
    check_forgotten();
    check_unswitched();
    printf("1..%d\n", points);
    return failed;
}
