/* SPDX-License-Identifier: MIT */
/* The monitored process and its manager, of which one is killed; and what the other one must see.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../rights.h"
#include "points.h"
#include "sys/call.h"
#include "userfault/abi.h"

#define DESCRIPTORS 2048

static char source[2 * 1024 * 1024 + 64 * POINTS_PAGE];
static int descriptors; /* open at the beginning */

void side_fail(const char *file, int line, const char *what, long got)
{
    printf("# %s:%d: pid %d: %s (%ld)\n", file, line, getpid(), what, got);
    fflush(stdout);
    _exit(1);
}

/* ---- what is counted */

void side_arm(const struct side *side)
{
    struct points **where = (struct points **)dlsym(RTLD_DEFAULT, "userfault_points");
    struct points *points;

    if (!side->is_victim)
        return;
    MUST(where); /* the library is not the one that is made for this */
    points = (struct points *)mmap(NULL, POINTS_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
                                   side->counter, 0);
    MUST(points != MAP_FAILED);
    points->pid = getpid();
    points->stops = side->stops;
    *where = points;
    if (!atomic_load(&points->left)) /* else an image before this one has begun */
        atomic_store(&points->left, side->number);
}

static void disarm(const struct side *side)
{
    struct points **where = (struct points **)dlsym(RTLD_DEFAULT, "userfault_points");

    if (side->is_victim && *where)
        atomic_store(&(*where)->left, 0);
}

/* The manager waits for the other side, which goes on then, if it is stopped. */
static void note_waiting(const struct side *side, bool waits)
{
    if (side->points)
        atomic_store(&side->points->waits, waits);
}

static void watch_points(struct side *side)
{
    if (!side->stops)
        return;
    side->points = (struct points *)mmap(NULL, POINTS_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
                                         side->counter, 0);
    MUST(side->points != MAP_FAILED);
}

/* Those that the facility hides, too. */
static int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < DESCRIPTORS; fd++)
        count += sys_call6(SYS_fcntl, fd, F_GETFD, 0, 0, 0, 0) >= 0;
    return count;
}

static bool maps_have(const char *what)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    bool found = false;

    MUST(maps);
    while (fgets(line, sizeof line, maps))
        found |= strstr(line, what) != NULL;
    fclose(maps);
    return found;
}

/* ---- between the two */

static bool say(int sock, char byte)
{
    return send(sock, &byte, 1, MSG_NOSIGNAL) == 1;
}

/* Return: false when the other one is gone. */
static bool hear(const struct side *side, char byte)
{
    char got = 0;
    ssize_t n;

    note_waiting(side, true);
    do {
        n = recv(side->sock, &got, 1, 0);
    } while (n < 0 && errno == EINTR);
    note_waiting(side, false);
    MUST(n <= 0 || got == byte);
    return n == 1;
}

static bool send_context(const struct side *side)
{
    return rights_send(side->sock, &side->mem, sizeof side->mem, &side->uffd, 1, MSG_NOSIGNAL);
}

static bool receive_context(struct side *side)
{
    bool received;

    note_waiting(side, true);
    received = rights_receive(side->sock, &side->mem, sizeof side->mem, &side->uffd, 0);
    note_waiting(side, false);
    if (!received)
        return false;
    MUST(side->uffd != -1);
    return true;
}

/* ---- for scenarios */

/* Told to try again, it does; what it finds then may be what was done for it before. */
long side_ioctl(const struct side *side, unsigned long request, void *arg)
{
    long ret = ioctl(side->uffd, request, arg) == -1 ? -errno : 0;
    bool again = false;

    while (side->points && ret == -EAGAIN && (uint32_t)request != UF_IO_COPY) {
        atomic_fetch_add(&side->points->told, 1);
        again = true;
        ret = ioctl(side->uffd, request, arg) == -1 ? -errno : 0;
    }
    return again && ret == -EEXIST ? 0 : ret;
}

bool side_ioctl_or(const struct side *side, unsigned long request, void *arg, long gone)
{
    long ret = side_ioctl(side, request, arg);

    MUST_BE(ret, got_ == 0 || got_ == gone);
    return ret == 0;
}

static bool next_message(const struct side *side, unsigned event, struct uf_msg *ret)
{
    struct pollfd fds[] = {{.fd = side->uffd, .events = POLLIN},
                           {.fd = side->sock, .events = POLLIN}};

    for (;;) {
        ssize_t n;

        note_waiting(side, true);
        MUST(poll(fds, 2, -1) > 0);
        note_waiting(side, false);
        n = fds[0].revents ? read(side->uffd, ret, sizeof *ret) : -1;
        if (n == (ssize_t)sizeof *ret) {
            MUST_BE(ret->event, got_ == (long)event);
            return true;
        }
        MUST(!fds[0].revents || (n == -1 && errno == EAGAIN));
        if (side->points && n == -1)
            atomic_fetch_add(&side->points->told, 1);
        if (fds[1].revents)
            return false; /* it says that it is done, or has hung up */
    }
}

bool side_next(const struct side *side, unsigned event)
{
    struct uf_msg msg;

    return next_message(side, event, &msg);
}

bool side_next_fork(const struct side *side, int *ret_uffd)
{
    struct uf_msg msg;

    if (!next_message(side, UF_EVENT_FORK, &msg))
        return false;
    *ret_uffd = (int)msg.arg.fork.ufd;
    return true;
}

bool side_has(uint64_t features)
{
    struct uf_io_api api = {.api = UF_API};
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    MUST(uffd >= 0 && ioctl(uffd, UF_IO_API, &api) == 0 && close(uffd) == 0);
    return (api.features & features) == features;
}

/* As long as it takes, from where it was left. */
static bool copy_again(const struct side *side, struct uf_io_copy copy)
{
    bool again = false;
    long ret;

    do {
        copy.copy = 0;
        ret = side_ioctl(side, UF_IO_COPY, &copy);
        MUST_BE(ret, got_ == 0 || got_ == -ESRCH || got_ == -EAGAIN || (again && got_ == -EEXIST));
        if (ret == -EEXIST) /* done after all */
            copy.copy = POINTS_PAGE;
        if (ret == -EAGAIN) {
            MUST(copy.copy == -EAGAIN || (copy.copy > 0 && copy.copy < (int64_t)copy.len));
            atomic_fetch_add(&side->points->told, 1);
            again = true;
        }
        if (copy.copy > 0) {
            copy.dst += (uint64_t)copy.copy;
            copy.src += (uint64_t)copy.copy;
            copy.len -= (uint64_t)copy.copy;
        }
    } while (copy.len && ret != -ESRCH);
    return ret == 0 || ret == -EEXIST;
}

bool side_copy(const struct side *side, size_t page, size_t count)
{
    struct uf_io_copy copy = {.dst = (uintptr_t)side->mem + page * POINTS_PAGE,
                              .src = (uintptr_t)source,
                              .len = count * POINTS_PAGE};
    long ret;

    if (side->points)
        return copy_again(side, copy);
    ret = side_ioctl(side, UF_IO_COPY, &copy);
    /* Killed in the middle of a long one: so much was done. */
    MUST_BE(ret, got_ == 0 || got_ == -ESRCH || (got_ == -EAGAIN && copy.copy > 0));
    return ret == 0;
}

/* ---- the monitored process */

static void set_up(struct side *side)
{
    const struct scenario *scenario = side->scenario;
    struct uf_io_api api = {.api = UF_API, .features = scenario->features};
    struct uf_io_register reg = {.mode = scenario->mode};

    side->len = scenario->len ? scenario->len : POINTS_PAGES * POINTS_PAGE;
    side->mem = mmap(NULL, side->len, PROT_READ | PROT_WRITE,
                     MAP_ANONYMOUS | (scenario->shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
    MUST(side->mem != MAP_FAILED);
    if (scenario->shared) {
        memset(side->mem, POINTS_BYTE, side->len);
        MUST(madvise(side->mem, side->len, MADV_DONTNEED) == 0);
    }
    side->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    MUST(side->uffd >= 0);
    if (!scenario->mode)
        return;
    reg.range.start = (uintptr_t)side->mem;
    reg.range.len = side->len;
    MUST_BE(side_ioctl(side, UF_IO_API, &api), got_ == 0);
    MUST_BE(side_ioctl(side, UF_IO_REGISTER, &reg), got_ == 0);
}

/* Each page is whole: what was copied, or nothing. With the context gone nobody waits for any. */
static void check_pages(const struct side *side)
{
    MUST(side->scenario->closes || close(side->uffd) == 0);
    for (size_t at = 0; at < side->len; at += POINTS_PAGE) {
        const volatile char *page = side->mem + at;
        char first = page[0];

        MUST(first == 0 || first == POINTS_BYTE);
        for (size_t i = 0; i < POINTS_PAGE; i++)
            MUST(page[i] == first);
    }
}

/* The channel of the manager that was killed goes as soon as the server has noticed. */
static void check_leaks(void)
{
    while (count_descriptors() > descriptors + 1 || maps_have("userfault-channel"))
        sched_yield(); /* for ever: the test's watchdog ends that */
}

void side_monitored(struct side *side)
{
    const struct scenario *scenario = side->scenario;
    bool going;

    set_up(side);
    descriptors = count_descriptors();
    if (scenario->handover)
        side_arm(side);
    going = send_context(side);
    if (scenario->closes)
        MUST(close(side->uffd) == 0);
    if (!scenario->handover && going) {
        going = hear(side, 'r');
        side_arm(side);
        going = going && say(side->sock, 'g');
    }
    if (scenario->monitored)
        scenario->monitored(side);
    if (going && hear(side, 'd'))
        say(side->sock, 'D');
    disarm(side);
    if (side->is_victim && !side->stops)
        _exit(0);  /* it was not killed, and its manager waits to hear of that */
    hear(side, 0); /* until the manager is no more */
    if (!scenario->shared && !scenario->poisons)
        check_pages(side);
    check_leaks();
    _exit(0);
}

/* ---- the manager */

/* As the kernel answers for a process that is no more. */
static void check_gone(const struct side *side)
{
    struct uf_io_range range = {(uintptr_t)side->mem, POINTS_PAGE};
    struct uf_io_copy copy = {.dst = range.start, .src = (uintptr_t)source, .len = POINTS_PAGE};
    struct uf_io_zeropage zero = {.range = range};
    struct uf_io_register reg = {.range = range, .mode = UF_REGISTER_MODE_MISSING};
    struct pollfd fd = {.fd = side->uffd, .events = POLLIN};
    struct uf_msg msg;

    MUST_BE(side_ioctl(side, UF_IO_COPY, &copy), got_ == -ESRCH);
    MUST_BE(side_ioctl(side, UF_IO_ZEROPAGE, &zero), got_ == -ESRCH);
    MUST_BE(side_ioctl(side, UF_IO_REGISTER, &reg), got_ == -ENOMEM);
    MUST_BE(side_ioctl(side, UF_IO_UNREGISTER, &range), got_ == -ENOMEM);
    MUST_BE(side_ioctl(side, UF_IO_WAKE, &range), got_ == 0);
    MUST(read(side->uffd, &msg, sizeof msg) == -1 && errno == EAGAIN);
    MUST(poll(&fd, 1, 0) == 0);
}

static _Noreturn void manager_end(struct side *side)
{
    char what = 0;

    disarm(side);
    if (!side->is_victim) {
        MUST(read(side->control, &what, 1) == 1);
        if (what == 'k' && side->scenario->mode)
            check_gone(side);
    }
    MUST(close(side->uffd) == 0);
    MUST_BE(count_descriptors(), got_ <= descriptors);
    MUST(!maps_have("userfault-channel"));
    _exit(0);
}

static _Noreturn void manager_work(struct side *side)
{
    memset(source, POINTS_BYTE, sizeof source);
    if (side->scenario->manager)
        side->scenario->manager(side);
    if (say(side->sock, 'd'))
        hear(side, 'D');
    manager_end(side);
}

void side_manager(struct side *side)
{
    struct uf_io_range range;

    /* What the facility opens for the first context of all stays. */
    close((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    descriptors = count_descriptors();
    watch_points(side);
    if (side->scenario->handover)
        side_arm(side);
    if (!receive_context(side)) {
        disarm(side);
        _exit(0); /* it was killed before */
    }
    if (!side->scenario->handover) {
        range = (struct uf_io_range){(uintptr_t)side->mem, POINTS_PAGE};
        MUST_BE(side_ioctl(side, UF_IO_WAKE, &range), got_ == 0);
        if (!say(side->sock, 'r') || !hear(side, 'g'))
            manager_end(side);
        side_arm(side);
    }
    manager_work(side);
}

void side_manager_exec(const struct side *side)
{
    char numbers[10][24];
    char *argv[13] = {(char *)(uintptr_t) "/proc/self/exe", (char *)(uintptr_t) "--again"};
    const unsigned long values[10] = {(unsigned long)(side->scenario - points_scenarios),
                                      (unsigned long)side->sock,
                                      (unsigned long)side->control,
                                      (unsigned long)side->counter,
                                      side->is_victim,
                                      side->number,
                                      (unsigned long)side->uffd,
                                      (unsigned long)side->mem,
                                      (unsigned long)descriptors,
                                      side->stops};

    for (int i = 0; i < 10; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%lu", values[i]);
        argv[2 + i] = numbers[i];
    }
    execv(argv[0], argv);
    MUST(false);
}

void side_manager_again(char **argv)
{
    struct side side = {.scenario = &points_scenarios[atoi(argv[0])],
                        .sock = atoi(argv[1]),
                        .control = atoi(argv[2]),
                        .counter = atoi(argv[3]),
                        .is_victim = atoi(argv[4]),
                        .number = (uint32_t)atoi(argv[5]),
                        .uffd = atoi(argv[6]),
                        .mem = (char *)strtoul(argv[7], NULL, 10),
                        .stops = atoi(argv[9])};

    descriptors = atoi(argv[8]) + 1;
    memset(source, POINTS_BYTE, sizeof source);
    side_arm(&side);
    watch_points(&side);
    for (size_t page = 0; page < POINTS_PAGES - 1; page++)
        side_copy(&side, page, 1);
    if (say(side.sock, 'd'))
        hear(&side, 'D');
    manager_end(&side);
}
