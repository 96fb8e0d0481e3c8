/* SPDX-License-Identifier: MIT */
/*
 * Counts the lines of a file in memory that is empty until it is touched: each page is fetched from
 * the file when the count reaches it, by a thread that reads messages or by a handler that runs in
 * the counting thread itself.
 *
 *     demand-paging [--backend=auto|kernel|user] [--handler] [--bytes=N] FILE
 *
 * --handler resolves in the counting thread, which only the user backend can; --bytes counts in the
 * first N bytes only, and fetches no more than those.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <userfault/userfault.h>

#define PAGE ((size_t)4096)

struct paging {
    int file;
    size_t size; /* of the file, in bytes */
    unsigned char *start;
    size_t mapped; /* size, in whole pages */
    int context;
    int quit[2]; /* written to when the thread shall end */
    unsigned long served;
};

static void fail(const char *what)
{
    fprintf(stderr, "demand-paging: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Fetch one page and publish it. Return: 0 or -errno. */
static int serve(struct paging *paging, uint64_t address)
{
    unsigned char buffer[PAGE] = {0}; /* beyond the end of the file: zeroes */
    uint64_t page = address & ~(uint64_t)(PAGE - 1);
    struct uf_io_copy copy = {.dst = page, .src = (uintptr_t)buffer, .len = PAGE};

    if (pread(paging->file, buffer, PAGE, (off_t)(page - (uintptr_t)paging->start)) < 0)
        return -errno;
    if (uf_context_ioctl(paging->context, UF_IO_COPY, &copy) != 0)
        return errno == EEXIST ? 0 : -errno; /* another thread's touch was served first */
    paging->served++;
    return 0;
}

static int serve_in_place(int context, const struct uf_msg *msg, void *arg)
{
    (void)context;
    return serve(arg, msg->arg.pagefault.address);
}

static void *serve_in_thread(void *arg)
{
    struct paging *paging = arg;
    struct pollfd fds[2] = {
        {.fd = paging->context, .events = POLLIN},
        {.fd = paging->quit[0], .events = POLLIN},
    };

    while (uf_poll(fds, 2, -1) >= 0 && !fds[1].revents) {
        struct uf_msg msg;

        /* Not every ring has a message behind it: the context is non-blocking. */
        if (uf_context_read(paging->context, &msg, sizeof(msg)) != sizeof(msg))
            continue;
        errno = -serve(paging, msg.arg.pagefault.address);
        if (errno != 0)
            fail("cannot fetch a page");
    }
    return NULL;
}

/* An empty mapping as large as the file, whose missing pages are ours to provide. */
static void set_up(struct paging *paging, enum uf_backend backend)
{
    struct uf_io_api api = {.api = UF_API};
    struct uf_io_register range = {.mode = UF_REGISTER_MODE_MISSING};

    paging->context = uf_context_open(O_CLOEXEC | O_NONBLOCK, backend);
    if (paging->context < 0 || uf_context_ioctl(paging->context, UF_IO_API, &api) != 0)
        fail("no userfaultfd");
    paging->mapped = (paging->size + PAGE - 1) & ~(PAGE - 1);
    paging->start = mmap(NULL, paging->mapped, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (paging->start == MAP_FAILED)
        fail("mmap");
    range.range.start = (uintptr_t)paging->start;
    range.range.len = paging->mapped;
    if (uf_context_ioctl(paging->context, UF_IO_REGISTER, &range) != 0)
        fail("UF_IO_REGISTER");
}

static unsigned long count_lines(const unsigned char *text, size_t size)
{
    unsigned long lines = 0;

    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

static void run(struct paging *paging, bool handler, size_t bytes)
{
    unsigned long lines;
    pthread_t thread;

    if (handler) {
        if (uf_set_handler(paging->context, serve_in_place, paging) != 0)
            fail("uf_set_handler");
    } else if (pipe2(paging->quit, O_CLOEXEC) != 0 ||
               pthread_create(&thread, NULL, serve_in_thread, paging) != 0) {
        fail("cannot start a thread");
    }
    lines = count_lines(paging->start, bytes);
    if (!handler) {
        if (write(paging->quit[1], "q", 1) != 1)
            fail("write");
        pthread_join(thread, NULL);
    }
    printf("%lu lines, %lu of %zu pages fetched by a %s, backend %s\n", lines, paging->served,
           paging->mapped / PAGE, handler ? "handler" : "thread",
           uf_context_backend(paging->context) == UF_BACKEND_KERNEL ? "kernel" : "user");
}

static enum uf_backend backend_named(const char *name)
{
    if (strcmp(name, "kernel") == 0)
        return UF_BACKEND_KERNEL;
    return strcmp(name, "user") == 0 ? UF_BACKEND_USER : UF_BACKEND_AUTO;
}

int main(int argc, char **argv)
{
    enum uf_backend backend = UF_BACKEND_AUTO;
    struct paging paging = {0};
    const char *path = NULL;
    size_t bytes = SIZE_MAX;
    bool handler = false;
    struct stat st;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--backend=", 10) == 0)
            backend = backend_named(argv[i] + 10);
        else if (strncmp(argv[i], "--bytes=", 8) == 0)
            bytes = strtoul(argv[i] + 8, NULL, 10);
        else if (strcmp(argv[i], "--handler") == 0)
            handler = true;
        else
            path = argv[i];
    }
    if (path == NULL) {
        fprintf(stderr, "usage: demand-paging [--backend=auto|kernel|user] [--handler] "
                        "[--bytes=N] FILE\n");
        return 2;
    }
    if (handler && backend == UF_BACKEND_AUTO)
        backend = UF_BACKEND_USER;
    paging.file = open(path, O_RDONLY | O_CLOEXEC);
    if (paging.file < 0 || fstat(paging.file, &st) != 0)
        fail(path);
    paging.size = (size_t)st.st_size;
    if (paging.size == 0) {
        printf("0 lines, the file is empty\n");
        return 0;
    }
    set_up(&paging, backend);
    run(&paging, handler, bytes < paging.size ? bytes : paging.size);
    uf_context_close(paging.context);
    return 0;
}
