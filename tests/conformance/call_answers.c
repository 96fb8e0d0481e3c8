/* SPDX-License-Identifier: MIT */
/*
 * Answers that end where memory does: a closed page in the middle is waited for, and the answer is
 * as long as in memory that is there. And what a call does not come to is not asked for.
 */
#include <linux/filter.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "calls.h"

#define ENTRIES 300
#define EVENTS  100

static void open_folder(char *path, int *ret_fd)
{
    char name[96];

    CHECK(mkdtemp(path));
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof(name), "%s/entry%04d", path, i);
        CHECK_EQ(close(open(name, O_CREAT | O_WRONLY, 0600)), 0);
    }
    CHECK((*ret_fd = open(path, O_RDONLY | O_DIRECTORY)) >= 0);
}

static void remove_folder(const char *path)
{
    char name[96];

    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof(name), "%s/entry%04d", path, i);
        CHECK_EQ(unlink(name), 0);
    }
    CHECK_EQ(rmdir(path), 0);
}

/* All of it in one call, over pages of which the first is there, or none is. */
static void folders(struct place *p)
{
    static char plain[32768], seen[32768];
    char path[] = "/tmp/conformanceXXXXXX", *buf = place_out(p, 3 * 4096);
    size_t first = page_size - (uintptr_t)buf % page_size;
    long all, got;
    int fd;

    open_folder(path, &fd);
    all = syscall(SYS_getdents64, fd, plain, sizeof(plain));
    CHECK(all > (long)first && all < (long)sizeof(plain));
    CHECK_EQ(syscall(SYS_getdents64, fd, plain, sizeof(plain)), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    memset(seen, 0, sizeof(seen));
    got = syscall(SYS_getdents64, fd, buf, 3 * 4096);
    CHECK_EQ(got, all);
    memcpy(seen, buf, (size_t)got);
    CHECK_EQ(memcmp(seen, plain, (size_t)all), 0);
    CHECK_EQ(syscall(SYS_getdents64, fd, buf, 3 * 4096), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK_ERRNO(syscall(SYS_getdents64, fd, buf, 8), EINVAL);
    CHECK_ERRNO(syscall(SYS_getdents64, -1, buf, 4096), EBADF);
    close(fd);
    remove_folder(path);
}

static void call_folders(enum mem_kind kind)
{
    place_each(kind, folders);
}

/* Edges are told once, all of them. */
static void answer_events(struct place *p)
{
    struct epoll_event event, *events = place_out(p, EVENTS * sizeof(*events));
    int set = epoll_create1(0), pipes[EVENTS][2];
    bool seen[EVENTS] = {false};

    for (uint32_t i = 0; i < EVENTS; i++) {
        CHECK_EQ(pipe(pipes[i]), 0);
        event = (struct epoll_event){EPOLLOUT | EPOLLET, {.u32 = i}};
        CHECK_EQ(epoll_ctl(set, EPOLL_CTL_ADD, pipes[i][1], &event), 0);
    }
    CHECK_EQ(epoll_wait(set, events, EVENTS, 5000), EVENTS);
    for (int i = 0; i < EVENTS; i++) {
        event = events[i];
        CHECK(event.events == EPOLLOUT && event.data.u32 < EVENTS &&
              !seen[event.data.u32 % EVENTS]);
        seen[event.data.u32 % EVENTS] = true;
    }
    CHECK_EQ(epoll_wait(set, events, EVENTS, 0), 0);
    CHECK_EQ(syscall(SYS_epoll_pwait, set, events, EVENTS, 0, NULL, 8), 0);
    CHECK_ERRNO(epoll_wait(set, events, 0, 0), EINVAL);
    close(set);
    for (int i = 0; i < EVENTS; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

static void call_answer_events(enum mem_kind kind)
{
    place_each(kind, answer_events);
}

static long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#define WAIT_MS  400
#define TWICE_MS 790
#define TRIES    20

static int by_poll(void *page)
{
    return poll(page, 1, WAIT_MS);
}

static int by_ppoll(void *page)
{
    const struct timespec timeout = {.tv_nsec = WAIT_MS * 1000000};

    return ppoll(page, 1, &timeout, NULL);
}

static int by_select(void *page)
{
    struct timeval timeout = {.tv_usec = WAIT_MS * 1000};

    return select(FD_SETSIZE, page, NULL, NULL, &timeout);
}

/* A busy machine makes any wait longer, but not each of many. Return: how many it took */
static unsigned wait_once(int uffd, char *page, int (*wait)(void *page))
{
    unsigned tries = 0;
    long begin, took;

    do {
        CHECK(tries++ < TRIES);
        CHECK_EQ(uffd_writeprotect(uffd, page, page_size, 1), 0);
        begin = now_ms();
        CHECK_EQ(wait(page), 0);
        took = now_ms() - begin;
    } while (took >= TWICE_MS);
    return tries;
}

/* What a wait writes when it is over makes nobody wait twice as long. */
static void waits_once(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *image = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pollfd one;
    struct pager pager;
    int uffd = uffd_open(0), ends[2];
    unsigned tries;

    CHECK_EQ(pipe(ends), 0);
    one = (struct pollfd){.fd = ends[0], .events = POLLIN};
    memcpy(image, &one, sizeof(one));
    memcpy(image + page_size, &one, sizeof(one));
    FD_SET(ends[0], (fd_set *)(image + 2 * page_size));
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len,
                                UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP, NULL),
             0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, image, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    tries = wait_once(uffd, mem.addr, by_poll);
    tries += wait_once(uffd, mem_page(&mem, 1), by_ppoll);
    tries += wait_once(uffd, mem_page(&mem, 2), by_select);
    CHECK_EQ(atomic_load(&pager.faults), tries);
    pager_stop(&pager);
}

/* Programs are behind the option, and counted in instructions. */
static void filters(struct place *p)
{
    struct sock_filter code[64], *got = place_out(p, sizeof(code));
    struct sock_fprog prog = {.len = 64};
    socklen_t len = 64;
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    for (int i = 0; i < 64; i++)
        code[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0xffff);
    prog.filter = place_in(p, code, sizeof(code));
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, PLACE_IN(p, prog), sizeof(prog)), 0);
    CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, got, PLACE_IN(p, len)), 0);
    CHECK_EQ(memcmp(got, code, sizeof(code)), 0);
    prog.filter = unmapped();
    CHECK_ERRNO(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)), EFAULT);
    close(fd);
}

static void call_filters(enum mem_kind kind)
{
    place_each(kind, filters);
}

/* vmsplice() of the end of a pipe that is read. */
static void from_pipe(struct place *p)
{
    static char sent[6000], got[6000];
    char *to = place_out(p, sizeof(sent));
    struct iovec vector = {to, sizeof(sent)};
    int ends[2];

    memset(sent, 7, sizeof(sent));
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(write(ends[1], sent, sizeof(sent)), sizeof(sent));
    long moved = vmsplice(ends[0], PLACE_IN(p, vector), 1, 0);
    if (FORBIDDEN(moved))
        case_skip("vmsplice is forbidden");
    CHECK_EQ(moved, sizeof(sent));
    memcpy(got, to, sizeof(got));
    CHECK_EQ(memcmp(got, sent, sizeof(got)), 0);
    close(ends[0]);
    close(ends[1]);
}

static void call_from_pipe(enum mem_kind kind)
{
    place_each(kind, from_pipe);
}

/* Which mapping there is at an address, and its name: Linux 6.11. */
static void mapping_asked(struct place *p)
{
    struct {
        uint64_t size, flags, addr, unused[6];
        uint32_t device[2], name_len, build_len;
        uint64_t name, build;
    } query = {.size = sizeof(query), .addr = (uintptr_t)&mapping_asked, .name_len = 200}, *asked;
    char *name = place_out(p, 200);
    int fd = open("/proc/self/maps", O_RDONLY);

    query.name = (uintptr_t)name;
    asked = PLACE_IN(p, query);
    if (ioctl(fd, _IOWR('f', 17, query), asked) == -1) {
        CHECK_EQ(errno, ENOTTY);
        case_skip("no PROCMAP_QUERY");
    }
    CHECK(strstr(name, "conformance"));
    CHECK_EQ(asked->name_len, strlen(name) + 1);
    close(fd);
}

static void call_mapping_asked(enum mem_kind kind)
{
    place_each(kind, mapping_asked);
}

/* The end of a structure that is not written to, and what comes after a bad descriptor. */
static void not_come_to(struct place *p)
{
    char *page = place_out(p, 2 * page_size),
         *next = page + page_size - (uintptr_t)page % page_size;
    siginfo_t *info = (siginfo_t *)(next - 32);
    pid_t pid = fork();

    if (pid == 0)
        _exit(3);
    *(volatile char *)(next - 32) = 0; /* is there, and may be written to */
    place_faults(p);
    CHECK_EQ(waitid(P_PID, (id_t)pid, info, WEXITED), 0);
    CHECK_EQ(info->si_status, 3);
    CHECK_ERRNO(getsockopt(-1, SOL_SOCKET, SO_TYPE, next, (socklen_t *)(next + 8)), EBADF);
    CHECK_ERRNO(accept(-1, (struct sockaddr *)next, (socklen_t *)(next + 128)), EBADF);
    CHECK_ERRNO(recvmsg(-1, (struct msghdr *)next, 0), EBADF);
    CHECK_ERRNO(sendmsg(-1, (const struct msghdr *)next, 0), EBADF);
    CHECK_ERRNO(read(-1, next, 100), EBADF);
    CHECK_ERRNO(ioctl(-1, _IOWR('f', 0x99, int), next), EBADF);
    CHECK_ERRNO(select(-1, (fd_set *)next, NULL, NULL, NULL), EINVAL);
    CHECK_EQ(place_faults(p), 0);
}

/* No address of a socket is longer than 128 bytes, whatever its length is said to be. */
static void long_names(struct place *p)
{
    char *room = place_out(p, 4 * page_size),
         *next = room + page_size - (uintptr_t)room % page_size;
    struct sockaddr_storage *name = (void *)(next - sizeof(*name));
    socklen_t len = 4096;
    struct iovec one = {.iov_base = "x", .iov_len = 1};
    struct msghdr msg = {.msg_name = name, .msg_namelen = 100000, .msg_iov = &one, .msg_iovlen = 1};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), ends[2];
    char got[4];

    for (size_t i = 0; i < sizeof(*name); i++)
        ((volatile char *)name)[i] = 0; /* is there, and may be written to */
    place_faults(p);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)name, &len), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    CHECK_EQ(sendmsg(ends[0], &(struct msghdr){.msg_iov = &one, .msg_iovlen = 1}, 0), 1);
    len = 4096;
    CHECK_EQ(recvfrom(ends[1], got, sizeof(got), 0, (struct sockaddr *)name, &len), 1);
    CHECK(sendmsg(fd, &msg, 0) == -1 && errno != EFAULT);
    CHECK_EQ(place_faults(p), 0);
    close(fd);
    close(ends[0]);
    close(ends[1]);
}

static void call_long_names(enum mem_kind kind)
{
    place_each(kind, long_names);
}

static void call_not_come_to(enum mem_kind kind)
{
    place_each(kind, not_come_to);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_answers_cases[] = {
    {"call/folders", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_folders},
    {"call/answer-events", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_answer_events},
    {"call/waits-once", RST_QEMU, ONE_OF_EACH, NEED_FULL, .seconds = 60,
     .features = UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM, .run = waits_once},
    {"call/filters", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_filters},
    {"call/from-pipe", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_from_pipe},
    {"call/mapping-asked", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_mapping_asked},
    {"call/long-names", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_long_names},
    {"call/not-come-to", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_not_come_to},
    {.id = NULL},
};
