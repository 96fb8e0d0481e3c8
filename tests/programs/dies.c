/* SPDX-License-Identifier: MIT */
/*
 * A program with a context that dies in the way that it is told, for those who read its core.
 *
 * usage: dies HOW
 *
 * Three mappings are registered: private, shared anonymous, a memfd. Every second page of each is
 * provided by COPY, page n of mapping m holding the word stamp(m, n) throughout; the others stay
 * hidden. What the core is to say stands in `expected`, whose address is printed: the reader takes
 * the rest from the core's own memory.
 *
 * HOW: null, readonly, noncanonical, beyond, sigbus, abort, raise; each alone, or with another
 * thread that waits for a hidden page ("+waiter").
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE  4096ul
#define PAGES 128ul
#define MAPS  3

/* All words, in the order in which the reader knows them. */
struct expected {
    uint64_t rip, rsp, rbx, xmm0; /* of the instruction that dies; rip 0: somewhere in libc */
    uint64_t sig, code, addr;
    uint64_t waiter_rip; /* of the thread that waits for its page; 0: none */
    uint64_t pages;
    uint64_t map[MAPS];
};

struct expected expected;

void access_dies(void *addr);
void touch_waits(void *addr);
extern const char access_dies_here[], touch_waits_here[];

/* The instruction in question, with registers that are easy to know again. */
__asm__(".text\n"
        ".globl access_dies\n"
        ".type access_dies, @function\n"
        "access_dies:\n"
        "    .cfi_startproc\n"
        "    mov $0x1122334455667788, %rbx\n"
        "    movq %rbx, %xmm0\n"
        "    mov %rsp, expected+8(%rip)\n"
        ".globl access_dies_here\n"
        "access_dies_here:\n"
        "    movl $1, (%rdi)\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size access_dies, . - access_dies\n"
        ".globl touch_waits\n"
        ".type touch_waits, @function\n"
        "touch_waits:\n"
        "    .cfi_startproc\n"
        ".globl touch_waits_here\n"
        "touch_waits_here:\n"
        "    movl (%rdi), %eax\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size touch_waits, . - touch_waits\n");

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static char *page_of(unsigned map, unsigned long page)
{
    return (char *)(uintptr_t)expected.map[map] + page * PAGE;
}

static uint64_t stamp(unsigned map, unsigned long page)
{
    return 0xabcd000000000000u + ((uint64_t)map << 32) + page;
}

static void provide(int uffd, unsigned map, unsigned long page)
{
    static uint64_t words[PAGE / sizeof(uint64_t)];
    struct uffdio_copy copy = {
        .dst = (uintptr_t)page_of(map, page), .src = (uintptr_t)words, .len = PAGE};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        words[i] = stamp(map, page);
    if (ioctl(uffd, UFFDIO_COPY, &copy) != 0)
        die("UFFDIO_COPY");
}

static int begin(uint64_t features)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    int file = memfd_create("dies", MFD_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    const int flags[MAPS] = {MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_SHARED};

    if (fd == -1 || ioctl(fd, UFFDIO_API, &api) != 0)
        die("userfaultfd");
    if (file == -1 || ftruncate(file, PAGES * PAGE) != 0)
        die("memfd_create");
    for (unsigned map = 0; map < MAPS; map++) {
        void *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, flags[map],
                        flags[map] == MAP_SHARED ? file : -1, 0);
        struct uffdio_register reg = {.range = {(uintptr_t)at, PAGES * PAGE},
                                      .mode = UFFDIO_REGISTER_MODE_MISSING};

        if (at == MAP_FAILED || ioctl(fd, UFFDIO_REGISTER, &reg) != 0)
            die("UFFDIO_REGISTER");
        expected.map[map] = (uintptr_t)at;
        for (unsigned long page = 0; page < PAGES; page += 2)
            provide(fd, map, page);
        if (*(volatile uint64_t *)at != stamp(map, 0)) /* one is touched, the others never */
            die("what COPY put there");
    }
    expected.pages = PAGES;
    return fd;
}

static void *wait_for_page(void *arg)
{
    touch_waits(arg);
    return NULL;
}

/* Comes back when the fault of another thread was reported, which so waits. */
static void start_waiter(int uffd)
{
    struct pollfd poll_fd = {.fd = uffd, .events = POLLIN};
    struct uffd_msg msg;
    pthread_t thread;

    if (pthread_create(&thread, NULL, wait_for_page, page_of(0, PAGES - 1)) != 0)
        die("pthread_create");
    if (poll(&poll_fd, 1, -1) != 1 || read(uffd, &msg, sizeof msg) != sizeof msg)
        die("read");
    expected.waiter_rip = (uintptr_t)touch_waits_here;
}

static void expect(int sig, int code, void *addr)
{
    expected.sig = (uint64_t)sig;
    expected.code = (uint64_t)(int64_t)code;
    expected.addr = (uintptr_t)addr;
    printf("%#lx\n", (unsigned long)&expected);
    fflush(stdout);
}

static _Noreturn void die_of(int sig, int code, void *addr, void *at)
{
    expected.rip = (uintptr_t)access_dies_here;
    expected.rbx = expected.xmm0 = 0x1122334455667788;
    expect(sig, code, addr);
    access_dies(at);
    abort();
}

static _Noreturn void die_beyond(void)
{
    int file = memfd_create("short", MFD_CLOEXEC);
    char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

    die_of(SIGBUS, BUS_ADRERR, at + 24, at + 24);
}

int main(int argc, char **argv)
{
    char *plus = argc == 2 ? strchr(argv[1], '+') : NULL;
    const char *how = argc == 2 ? argv[1] : "";
    int uffd;

    if (plus)
        *plus = '\0';
    uffd = begin(strcmp(how, "sigbus") == 0 ? UFFD_FEATURE_SIGBUS : 0);
    if (plus)
        start_waiter(uffd);
    if (strcmp(how, "null") == 0)
        die_of(SIGSEGV, SEGV_MAPERR, (void *)16, (void *)16);
    if (strcmp(how, "readonly") == 0 && mprotect(page_of(0, 2), PAGE, PROT_READ) == 0)
        die_of(SIGSEGV, SEGV_ACCERR, page_of(0, 2) + 40, page_of(0, 2) + 40);
    if (strcmp(how, "noncanonical") == 0)
        die_of(SIGSEGV, SI_KERNEL, NULL, (void *)0x8000123456780000);
    if (strcmp(how, "beyond") == 0)
        die_beyond();
    if (strcmp(how, "sigbus") == 0)
        die_of(SIGBUS, BUS_ADRERR, page_of(0, 1) + 8, page_of(0, 1) + 8);
    if (strcmp(how, "abort") == 0) {
        expect(SIGABRT, SI_TKILL, NULL);
        abort();
    }
    if (strcmp(how, "raise") == 0) {
        expect(SIGSEGV, SI_TKILL, NULL);
        raise(SIGSEGV);
    }
    return 2;
}
