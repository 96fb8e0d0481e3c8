/* SPDX-License-Identifier: MIT */
/* What the two processes do while one of them is killed. */
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "points.h"
#include "userfault/abi.h"

#define MISSING UF_REGISTER_MODE_MISSING

static struct uf_io_range pages(const struct side *side, size_t first, size_t count)
{
    return (struct uf_io_range){(uintptr_t)side->mem + first * POINTS_PAGE, count * POINTS_PAGE};
}

/* ---- the monitored process */

/* 0: the manager is gone, and nobody else has the context */
static void check_byte(const struct side *side, char byte)
{
    MUST(byte == POINTS_BYTE || (byte == 0 && !side->stops));
}

static void touch(struct side *side)
{
    const volatile char *byte = side->mem + POINTS_PAGE;

    check_byte(side, *byte);
}

/* After the first its memory has an anon_vma, and of the second the answer is known beforehand. */
static void touch_two(struct side *side)
{
    const volatile char *byte = side->mem + 3 * POINTS_PAGE;

    touch(side);
    check_byte(side, *byte);
}

static void remove_content(struct side *side)
{
    MUST(madvise(side->mem, 2 * POINTS_PAGE, MADV_DONTNEED) == 0);
}

static void unmap(struct side *side)
{
    MUST(munmap(side->mem + 4 * POINTS_PAGE, 4 * POINTS_PAGE) == 0);
    side->len = 4 * POINTS_PAGE;
}

static void remap(struct side *side)
{
    char *to = mmap(NULL, side->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    MUST(to != MAP_FAILED);
    MUST(mremap(side->mem, side->len, side->len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    side->mem = to;
}

static void fork_child(struct side *side)
{
    int status;
    pid_t pid = fork();

    MUST(pid >= 0);
    if (pid == 0)
        _exit(0);
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

/* The child's pages are its own context's, which the manager got with the event, or nobody's. */
static void fork_touching_child(struct side *side)
{
    const volatile char *byte = side->mem + POINTS_PAGE;
    int status;
    pid_t pid = fork();

    MUST(pid >= 0);
    if (pid == 0) {
        close(side->sock); /* by which the manager learns that its parent is gone */
        _exit(*byte != POINTS_BYTE && *byte != 0);
    }
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

/* What would become of the image is nobody's concern: the manager sees no more of it. */
static void exec_other(struct side *side)
{
    execl("/bin/true", "true", NULL);
    MUST(false);
}

static void exec_nothing(struct side *side)
{
    MUST(execl("/nowhere", "nowhere", NULL) == -1 && errno == ENOENT);
}

/* ---- the manager */

static void all_at_once(struct side *side)
{
    struct uf_io_api api = {.api = UF_API};
    struct uf_io_register reg = {.range = pages(side, 0, POINTS_PAGES), .mode = MISSING};

    /* Of a process that is gone: EINVAL, as the asker answers what it cannot ask. */
    if (side_ioctl_or(side, UF_IO_API, &api, -EINVAL) &&
        side_ioctl_or(side, UF_IO_REGISTER, &reg, -ENOMEM))
        side_copy(side, 0, POINTS_PAGES);
}

static void copy(struct side *side)
{
    side_copy(side, 2, 1);
    side_copy(side, 4, 3);
}

/* In pieces of 2 MiB, of which the second one is sent while the first is done. */
static void copy_much(struct side *side)
{
    side_copy(side, 0, side->len ? side->len / POINTS_PAGE : 528);
}

static void zero(struct side *side)
{
    struct uf_io_zeropage zero = {.range = pages(side, 1, 2)};

    side_ioctl_or(side, UF_IO_ZEROPAGE, &zero, -ESRCH);
}

static void poison(struct side *side)
{
    struct uf_io_poison poison = {.range = pages(side, 1, 1)};
    struct uf_io_range rest = pages(side, 0, POINTS_PAGES);

    side_ioctl_or(side, UF_IO_POISON, &poison, -ESRCH);
    side_ioctl_or(side, UF_IO_UNREGISTER, &rest, -ENOMEM);
}

static void move(struct side *side)
{
    struct uf_io_move move = {.dst = (uintptr_t)side->mem + 4 * POINTS_PAGE,
                              .src = (uintptr_t)side->mem,
                              .len = POINTS_PAGE};

    if (side_copy(side, 0, 1)) /* which is for the process itself */
        MUST_BE(side_ioctl(side, UF_IO_MOVE, &move), got_ == -EINVAL);
}

static void continue_(struct side *side)
{
    struct uf_io_continue more = {.range = pages(side, 1, 2)};

    side_ioctl_or(side, UF_IO_CONTINUE, &more, -ESRCH);
}

static void unregister(struct side *side)
{
    struct uf_io_range range = pages(side, 2, 2), all = pages(side, 0, 1);
    struct uf_io_register reg = {.range = range, .mode = MISSING};

    if (side_ioctl_or(side, UF_IO_UNREGISTER, &range, -ENOMEM) &&
        side_ioctl_or(side, UF_IO_REGISTER, &reg, -ENOMEM))
        side_ioctl_or(side, UF_IO_WAKE, &all, 0);
}

static void serve_fault(struct side *side)
{
    if (side_next(side, UF_EVENT_PAGEFAULT))
        side_copy(side, 1, 1);
}

static void serve_two(struct side *side)
{
    serve_fault(side);
    if (side_next(side, UF_EVENT_PAGEFAULT))
        side_copy(side, 3, 1);
}

static void protect(struct side *side)
{
    struct uf_io_writeprotect on = {.range = pages(side, 0, 1), .mode = UF_WRITEPROTECT_MODE_WP};

    if (!side_ioctl_or(side, UF_IO_WRITEPROTECT, &on, -ESRCH))
        return;
    on.mode = 0;
    side_ioctl_or(side, UF_IO_WRITEPROTECT, &on, -ESRCH);
}

static void read_removal(struct side *side)
{
    side_next(side, UF_EVENT_REMOVE);
}

static void read_unmap(struct side *side)
{
    side_next(side, UF_EVENT_UNMAP);
}

static void read_remap(struct side *side)
{
    side_next(side, UF_EVENT_REMAP);
}

/* The child waits for what it touches; when it is gone, its context answers so. */
static void serve_child(struct side *side)
{
    struct side child = *side;

    if (!side_next_fork(side, &child.uffd))
        return;
    if (side_next(&child, UF_EVENT_PAGEFAULT))
        side_copy(&child, 1, 1);
    MUST(close(child.uffd) == 0);
}

static void look_in_vain(struct side *side)
{
    struct pollfd fd = {.fd = side->uffd, .events = POLLIN};
    struct uf_msg msg;

    MUST(poll(&fd, 1, 0) == 0);
    MUST(read(side->uffd, &msg, sizeof msg) == -1 && errno == EAGAIN);
}

static void close_and_again(struct side *side)
{
    int second = dup(side->uffd);

    MUST(second >= 0 && close(side->uffd) == 0);
    side->uffd = second;
    look_in_vain(side);
}

static void image(struct side *side)
{
    side_copy(side, 7, 1); /* what another image of it finds again, without a channel */
    side_manager_exec(side);
}

/* Whichever comes first: the image is gone, or what it was told. */
static void copy_if_it_is(struct side *side)
{
    for (size_t page = 0; page < POINTS_PAGES; page++)
        side_copy(side, page, 1);
}

const struct scenario points_scenarios[] = {
    {"hand-over, hello, API, REGISTER, COPY", .handover = true, .manager = all_at_once},
    {"the last descriptor is handed over", .mode = MISSING, .handover = true, .closes = true,
     .manager = copy},
    {"COPY", .mode = MISSING, .manager = copy},
    {"COPY in pieces", .mode = MISSING, .len = 528 * POINTS_PAGE, .manager = copy_much},
    {"ZEROPAGE", .mode = MISSING, .manager = zero},
    {"POISON", .mode = MISSING, .features = UF_FEATURE_POISON, .poisons = true, .manager = poison},
    {"MOVE", .mode = MISSING, .features = UF_FEATURE_MOVE, .manager = move},
    {"CONTINUE", .mode = UF_REGISTER_MODE_MINOR, .features = UF_FEATURE_MINOR_SHMEM, .shared = true,
     .manager = continue_},
    {"UNREGISTER, REGISTER, WAKE", .mode = MISSING, .manager = unregister},
    {"WRITEPROTECT", .mode = MISSING | UF_REGISTER_MODE_WP, .closes = true,
     .features = UF_FEATURE_PAGEFAULT_FLAG_WP, .manager = protect},
    {"a fault: poll, read, COPY", .mode = MISSING, .closes = true, .monitored = touch,
     .manager = serve_fault},
    {"two faults, and the second COPY does not wait", .mode = MISSING, .closes = true,
     .monitored = touch_two, .manager = serve_two},
    {"poll and read that find nothing", .mode = MISSING, .manager = look_in_vain},
    {"dup and close", .mode = MISSING, .manager = close_and_again},
    {"EVENT_REMOVE", .mode = MISSING, .features = UF_FEATURE_EVENT_REMOVE, .closes = true,
     .monitored = remove_content, .manager = read_removal},
    {"EVENT_UNMAP", .mode = MISSING, .features = UF_FEATURE_EVENT_UNMAP, .closes = true,
     .monitored = unmap, .manager = read_unmap},
    {"EVENT_REMAP", .mode = MISSING, .features = UF_FEATURE_EVENT_REMAP, .closes = true,
     .monitored = remap, .manager = read_remap},
    {"fork of the monitored process", .mode = MISSING, .monitored = fork_child, .manager = copy},
    {"EVENT_FORK", .mode = MISSING, .features = UF_FEATURE_EVENT_FORK, .closes = true,
     .monitored = fork_touching_child, .manager = serve_child},
    {"exec of the manager", .mode = MISSING, .manager = image},
    {"exec of the monitored process", .mode = MISSING, .monitored = exec_other,
     .manager = copy_if_it_is},
    {"exec that fails", .mode = MISSING, .monitored = exec_nothing, .manager = copy_if_it_is},
};
const size_t points_scenario_count = sizeof points_scenarios / sizeof *points_scenarios;
