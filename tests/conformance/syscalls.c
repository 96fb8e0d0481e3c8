/* SPDX-License-Identifier: MIT */
/*
 * System calls whose arguments lie in hidden memory: a context that traps the kernel's accesses
 * sends a message and the call goes on; a USER_MODE_ONLY context makes it fail with EFAULT.
 */
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

#include "harness.h"

static void call_read(enum mem_kind kind)
{
    struct served s;
    int pipes[2];

    serve(&s, kind, 4);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(write(pipes[1], "abcdef", 6), 6);
    char *addr = mem_page(&s.mem, 1) - 3; /* over a border */
    CHECK_EQ(read(pipes[0], addr, 6), 6);
    CHECK_EQ(memcmp(addr, "abcdef", 6), 0);
    char *expected = source_new(2, 0);
    CHECK_EQ(memcmp(mem_page(&s.mem, 0), expected, page_size - 3), 0);
    CHECK_EQ(memcmp(addr + 6, expected + page_size + 3, page_size - 3), 0);
    CHECK_EQ(served_faults(&s), 2);
    pager_stop(&s.pager);
}

static void call_write(enum mem_kind kind)
{
    struct served s;
    int pipes[2];
    char *got = source_new(4, 0), *expected = source_new(4, 0);

    serve(&s, kind, 4);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(write(pipes[1], s.mem.addr, s.mem.len), s.mem.len);
    memset(got, 0, s.mem.len);
    CHECK_EQ(read(pipes[0], got, s.mem.len), s.mem.len);
    CHECK_EQ(memcmp(got, expected, s.mem.len), 0);
    CHECK_EQ(served_faults(&s), 4);
    pager_stop(&s.pager);
}

/* To a file, over a border, and the second page is the one that is missing. */
static void call_write_file(enum mem_kind kind)
{
    struct served s;
    int fd = memfd_create("conformance", MFD_CLOEXEC);
    char *expected = source_new(2, 0), got[100];

    serve(&s, kind, 2);
    CHECK_EQ(*mem_page(&s.mem, 0), *expected);
    CHECK_EQ(write(fd, mem_page(&s.mem, 1) - 50, 100), 100);
    CHECK_EQ(pread(fd, got, 100, 0), 100);
    CHECK_EQ(memcmp(got, expected + page_size - 50, 100), 0);
    CHECK_EQ(served_faults(&s), 2);
    pager_stop(&s.pager);
}

static void call_vectors(enum mem_kind kind)
{
    struct served s;
    int fd = memfd_create("conformance", MFD_CLOEXEC);
    char *expected = source_new(8, 0);

    serve(&s, kind, 8);
    struct iovec iov[3] = {{mem_page(&s.mem, 0) + 10, 100},
                           {mem_page(&s.mem, 2) - 50, 100},
                           {mem_page(&s.mem, 5), page_size}};
    CHECK_EQ(writev(fd, iov, 3), 200 + page_size);
    char got[100];
    CHECK_EQ(pread(fd, got, 100, 100), 100);
    CHECK_EQ(memcmp(got, expected + 2 * page_size - 50, 100), 0);
    struct iovec in[2] = {{mem_page(&s.mem, 6), 50}, {mem_page(&s.mem, 7), 50}};
    CHECK_EQ(preadv(fd, in, 2, 0), 100);
    CHECK_EQ(memcmp(mem_page(&s.mem, 6), expected + 10, 50), 0);
    CHECK_EQ(memcmp(mem_page(&s.mem, 7), expected + 60, 50), 0);
    pager_stop(&s.pager);
}

/* Strings and structs rather than buffers with a length. */
static void call_structs(enum mem_kind kind)
{
    struct served s;
    struct stat st;

    serve(&s, kind, 8);
    struct stat *st_hidden = (struct stat *)mem_page(&s.mem, 0);
    CHECK_EQ(stat("/proc/self", st_hidden), 0);
    CHECK_EQ(stat("/proc/self", &st), 0);
    CHECK_EQ(st_hidden->st_ino, st.st_ino);
    struct utsname *name = (struct utsname *)mem_page(&s.mem, 1);
    CHECK_EQ(uname(name), 0);
    CHECK_EQ(strcmp(name->sysname, "Linux"), 0);
    struct sockaddr *addr = (struct sockaddr *)mem_page(&s.mem, 2);
    *(socklen_t *)mem_page(&s.mem, 3) = 100;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(getsockname(fd, addr, (socklen_t *)mem_page(&s.mem, 3)), 0);
    CHECK_EQ(addr->sa_family, AF_UNIX);
    CHECK(getcwd(mem_page(&s.mem, 4), page_size) != NULL);
    CHECK_EQ(mem_page(&s.mem, 4)[0], '/');
    CHECK_EQ(pipe((int *)mem_page(&s.mem, 5)), 0);
    CHECK_EQ(write(((int *)mem_page(&s.mem, 5))[1], "x", 1), 1);
    CHECK_EQ(getrandom(mem_page(&s.mem, 6), 16, 0), 16);
    pager_stop(&s.pager);
}

static void *open_main(void *arg)
{
    return (void *)(intptr_t)open(arg, O_RDONLY | O_CLOEXEC);
}

static void call_path(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *source = source_new(2, 0), *path = mem_page(&mem, 1) - 4;
    pthread_t thread;
    void *fd;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    strcpy(source + page_size - 4, "/dev/null"); /* goes on in the second page */
    CHECK_EQ(pthread_create(&thread, NULL, open_main, path), 0);
    for (size_t n = 0; n < 2; n++) {
        uffd_next_fault(uffd, mem_page(&mem, n), 0);
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, n), source + n * page_size, page_size), 0);
    }
    CHECK_EQ(pthread_join(thread, &fd), 0);
    CHECK((intptr_t)fd >= 0);
}

static void call_datagram(enum mem_kind kind)
{
    struct served s;
    int socks[2];

    serve(&s, kind, 4);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), 0);
    char *message = source_new(2, 33);
    CHECK_EQ(send(socks[0], message, 2 * page_size, 0), 2 * page_size);
    /* A failed receive would have consumed it. */
    CHECK_EQ(recv(socks[1], s.mem.addr, 4 * page_size, 0), 2 * page_size);
    CHECK_EQ(memcmp(s.mem.addr, message, 2 * page_size), 0);
    pager_stop(&s.pager);
}

static void call_touches_no_more_than_it_needs(enum mem_kind kind)
{
    struct served s;
    int pipes[2];

    serve(&s, kind, 256);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(write(pipes[1], "0123456789", 10), 10);
    CHECK_EQ(read(pipes[0], s.mem.addr, s.mem.len), 10);
    CHECK_EQ(served_faults(&s), 1);
    pager_stop(&s.pager);
}

static void call_efault_user_mode(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open_user_mode(0), pipes[2];
    struct stat st;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_ERRNO(write(pipes[1], mem.addr, 4), EFAULT);
    CHECK_EQ(write(pipes[1], "abcd", 4), 4);
    CHECK_ERRNO(read(pipes[0], mem.addr, 4), EFAULT);
    CHECK_ERRNO(stat(mem.addr, &st), EFAULT);
    CHECK_ERRNO(stat("/", (struct stat *)mem.addr), EFAULT);
    uffd_check_silent(uffd);
    check_traps(uffd, mem.addr); /* and accesses of its own are trapped */
    CHECK_EQ(read(pipes[0], mem.addr, 4), 4);
    CHECK_EQ(memcmp(mem.addr, "abcd", 4), 0);
}

/* One thread in a call that waits for data, the page resolved long before it comes. */
static void *read_main(void *arg)
{
    struct {
        int fd;
        char *addr;
    } *call = arg;

    return (void *)(intptr_t)read(call->fd, call->addr, 4);
}

static void call_blocks_without_fault(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0), pipes[2];
    pthread_t thread;
    void *got;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pipe(pipes), 0);
    struct {
        int fd;
        char *addr;
    } call = {pipes[0], mem.addr};
    CHECK_EQ(pthread_create(&thread, NULL, read_main, &call), 0);
    CHECK_EQ(write(pipes[1], "wxyz", 4), 4);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    CHECK_EQ(pthread_join(thread, &got), 0);
    CHECK_EQ((intptr_t)got, 4);
    CHECK_EQ(memcmp(mem.addr, "wxyz", 5), 0);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case syscall_cases[] = {
    {"syscall/read", RST_QEMU, EVERY_KIND | HUGETLB, NEED_FULL, .run = call_read},
    {"syscall/write", RST_QEMU, EVERY_KIND, NEED_FULL, .run = call_write},
    {"syscall/write-file", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL,
     .run = call_write_file},
    {"syscall/vectors", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL, .run = call_vectors},
    {"syscall/structs", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL, .run = call_structs},
    {"syscall/path", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL, .run = call_path},
    {"syscall/datagram", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_datagram},
    {"syscall/only-what-it-needs", RST_QEMU, ONE_OF_EACH, NEED_FULL,
     .run = call_touches_no_more_than_it_needs},
    {"syscall/waiting-for-data", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL,
     .run = call_blocks_without_fault},
    {"syscall/user-mode-only", "rst: Creating a userfaultfd", ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = call_efault_user_mode},
    {.id = NULL},
};
