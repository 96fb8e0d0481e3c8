/* SPDX-License-Identifier: MIT */
/*
 * A library to be preloaded into any program: its heap is registered, and each page is provided by
 * another thread when it is first touched. What libc allocates for itself is not, since the calls
 * that it makes on that memory are not seen (userfault(7)).
 *
 * HEAP_REPORT names a file that gets a line with the number of pages at the end.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "userfault/abi.h"

#define ARENA ((size_t)1 << 32)
#define PAGE  4096

/* Memory only goes out: programs of a test are short. */
struct arena {
    char *base;
    _Atomic size_t used;
};

static struct arena served, plain;
static uintptr_t libc_start, libc_end;
static _Atomic unsigned long pages;
static int uffd = -1;

static int find_libc(struct dl_phdr_info *info, size_t size, void *arg)
{
    if (!strstr(info->dlpi_name, "/libc.so"))
        return 0;
    libc_start = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;

        libc_end = end > libc_end ? end : libc_end;
    }
    return 1;
}

static void *take(struct arena *arena, size_t size, size_t align)
{
    size_t at, start;

    if (!arena->base)
        arena->base = mmap(NULL, ARENA, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (size > ARENA)
        return NULL;
    align = align < 16 ? 16 : align;
    do { /* the size stands before the block */
        at = atomic_load(&arena->used);
        start = (at + 16 + align - 1) / align * align;
        if (start + size > ARENA) {
            errno = ENOMEM;
            return NULL;
        }
    } while (!atomic_compare_exchange_weak(&arena->used, &at, start + size));
    *(size_t *)(arena->base + start - 16) = size;
    return arena->base + start;
}

static void *allocate(size_t size, size_t align, const void *caller)
{
    uintptr_t from = (uintptr_t)caller;

    return take(from >= libc_start && from < libc_end ? &plain : &served, size, align);
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size)
{
    return allocate(size, 16, CALLER);
}

void *calloc(size_t count, size_t size)
{
    return allocate(count * size, 16, CALLER);
}

void free(void *block)
{
}

void *realloc(void *old, size_t size)
{
    void *block = allocate(size, 16, CALLER);
    size_t was = old ? *(size_t *)((char *)old - 16) : 0;

    return block && old ? memcpy(block, old, was < size ? was : size) : block;
}

void *memalign(size_t align, size_t size)
{
    return allocate(size, align, CALLER);
}

void *aligned_alloc(size_t align, size_t size)
{
    return allocate(size, align, CALLER);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
    *ret = allocate(size, align, CALLER);
    return *ret ? 0 : ENOMEM;
}

size_t malloc_usable_size(void *block)
{
    return block ? *(size_t *)((char *)block - 16) : 0;
}

static void *serve(void *arg)
{
    struct uf_msg msg;
    struct pollfd ready = {.fd = uffd, .events = POLLIN};

    for (;;) {
        poll(&ready, 1, -1);
        if (read(uffd, &msg, sizeof msg) != sizeof msg)
            continue;
        struct uf_io_zeropage zero = {
            .range = {msg.arg.pagefault.address & ~(uint64_t)(PAGE - 1), PAGE}};
        atomic_fetch_add(&pages, 1);
        if (ioctl(uffd, UF_IO_ZEROPAGE, &zero) && errno == EEXIST)
            ioctl(uffd, UF_IO_WAKE, &zero.range);
    }
    return NULL;
}

static void begin(void)
{
    struct uf_io_api api = {.api = UF_API};
    struct uf_io_register reg = {.mode = UF_REGISTER_MODE_MISSING};
    pthread_t thread;
    sigset_t all, was;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &was);
    free(allocate(1, 16, NULL));
    reg.range = (struct uf_io_range){(uintptr_t)served.base, ARENA};
    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (uffd < 0 || ioctl(uffd, UF_IO_API, &api) || pthread_create(&thread, NULL, serve, NULL) ||
        ioctl(uffd, UF_IO_REGISTER, &reg))
        _exit(99);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
}

__attribute__((destructor)) static void end(void)
{
    const char *name = getenv("HEAP_REPORT");
    char line[32];
    int fd = name ? open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

    if (fd >= 0) {
        int len = snprintf(line, sizeof line, "%lu\n", atomic_load(&pages));
        if (write(fd, line, (size_t)len) != len)
            _exit(98);
        close(fd);
    }
}

/* All constructors have run by now, and nothing of the program. */
typedef int start_main(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                       void (*)(void), void *);

start_main __libc_start_main;
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    start_main *real = (start_main *)dlsym(RTLD_NEXT, "__libc_start_main");

    dl_iterate_phdr(find_libc, NULL);
    begin();
    return real(main, argc, argv, init, fini, rtld_fini, stack_end);
}
