/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "../rights.h"
#include "acked.h"
#include "monitored.h"
#include "raw.h"

/* ------------------------------------------------------------------ the monitored process */

static sigjmp_buf caught_jump;

static void caught(int sig)
{
    siglongjmp(caught_jump, sig);
}

static unsigned char read_caught(volatile unsigned char *page)
{
    signal(SIGBUS, caught);
    return sigsetjmp(caught_jump, 1) ? ANSWER_SIGBUS : *page;
}

/* Whatever there is to be read is a fault, and is zeroed. */
static unsigned char serve_own(int uffd)
{
    struct uf_msg msg;

    if (read(uffd, &msg, sizeof(msg)) != sizeof(msg))
        return (unsigned char)errno;
    return (unsigned char)-uffd_zero(uffd, (void *)(uintptr_t)msg.arg.pagefault.address, page_size);
}

static int nested = -1;

static unsigned char nest(char *page)
{
    nested = nested == -1 ? uffd_open(UF_FEATURE_SIGBUS) : nested;
    return (unsigned char)-uffd_register(nested, page, page_size);
}

/*
 * What lies there is none of its own descriptors: of the kernel's facility there are none. What
 * comes there is never ready, and stays.
 */
static unsigned char cover(void)
{
    int never = eventfd(0, EFD_CLOEXEC);
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/fd");

    CHECK(never >= 0 && dir);
    while ((entry = readdir(dir))) {
        int fd = atoi(entry->d_name);

        if (fd > 2 && fcntl(fd, F_GETFD) == -1)
            CHECK_EQ(dup2(never, fd), fd);
    }
    closedir(dir);
    return 0;
}

static int filled[256], filled_count;

/* Return: errno of the one that is too many. */
static unsigned char fill(void)
{
    int fd;

    while (filled_count < 256 && (fd = dup(0)) != -1)
        filled[filled_count++] = fd;
    return (unsigned char)errno;
}

static unsigned char empty(void)
{
    while (filled_count)
        CHECK_EQ(close(filled[--filled_count]), 0);
    return 0;
}

static unsigned char obey(const struct mem *mem, int uffd, const struct command *command)
{
    volatile unsigned char *page = (unsigned char *)mem_page(mem, command->page);

    switch (command->order) {
    case ORDER_READ:
        return *page;
    case ORDER_WRITE:
        *page = 0x77;
        return *page;
    case ORDER_CLOSE:
        return (unsigned char)close(uffd);
    case ORDER_EXEC:
        execlp("sleep", "sleep", "infinity", NULL);
        _exit(91);
    case ORDER_EXEC_RAW:
        RAW(SYS_execve, "/bin/sleep", ((char *[]){"sleep", "infinity", NULL}), ((char *[]){NULL}));
        _exit(91);
    case ORDER_EXEC_NOTHING:
        execl("/nowhere", "nowhere", NULL);
        return (unsigned char)errno;
    case ORDER_EXIT:
        _exit(0);
    case ORDER_READ_CAUGHT:
        return read_caught(page);
    case ORDER_DROP:
        return (unsigned char)madvise((void *)(uintptr_t)page, page_size,
                                      KIND(mem->kind) & ANY_SHARED ? MADV_REMOVE : MADV_DONTNEED);
    case ORDER_UNMAP:
        return (unsigned char)munmap((void *)(uintptr_t)page, page_size);
    case ORDER_NEST:
        return nest(mem_page(mem, command->page));
    case ORDER_UNNEST:
        return (unsigned char)close(nested);
    case ORDER_SERVE:
        return serve_own(uffd);
    case ORDER_COVER:
        return cover();
    case ORDER_FILL:
        return fill();
    case ORDER_EMPTY:
        return empty();
    }
    return 0;
}

static int open_wanted(const struct wants *wants)
{
    int uffd = uffd_open_bare(O_CLOEXEC | O_NONBLOCK);

    if (wants->extensions && uffd_extend(uffd, wants->extensions) != 0)
        _exit(93);
    if (uffd_api(uffd, wants->features) != 0)
        _exit(94);
    if (wants->death.mode && ioctl(uffd, UF_IO_DEATH, &wants->death) != 0)
        _exit(95);
    return uffd;
}

_Noreturn static void monitored_main(int sock, enum mem_kind kind, const struct wants *wants)
{
    struct mem mem = mem_map(kind, PAGES);
    int uffd = open_wanted(wants);
    struct command command;

    if (uffd_register_mode(uffd, mem.addr, mem.len, wants->mode, NULL) != 0)
        _exit(92);
    if (!rights_send(sock, &mem, sizeof(mem), &uffd, 1, 0))
        _exit(90);
    while (read(sock, &command, sizeof(command)) == sizeof(command)) {
        unsigned char answer = obey(&mem, uffd, &command);

        if (write(sock, &answer, 1) != 1)
            break;
    }
    _exit(0);
}

/* ------------------------------------------------------------------ the manager */

void monitored_start(struct monitored *m, enum mem_kind kind, uint64_t features, uint64_t mode)
{
    const struct wants wants = {.features = features, .mode = mode};

    monitored_start_wanting(m, kind, &wants);
}

void monitored_start_wanting(struct monitored *m, enum mem_kind kind, const struct wants *wants)
{
    int ends[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    m->pid = fork();
    CHECK(m->pid >= 0);
    if (m->pid == 0) {
        close(ends[0]);
        monitored_main(ends[1], kind, wants);
    }
    close(ends[1]);
    m->sock = ends[0];
    CHECK(rights_receive(m->sock, &m->mem, sizeof(m->mem), &m->uffd, MSG_CMSG_CLOEXEC));
    CHECK(m->uffd != -1);
}

void tell(const struct monitored *m, enum order order, uint32_t page)
{
    struct command command = {order, page};

    CHECK_EQ(write(m->sock, &command, sizeof(command)), sizeof(command));
}

unsigned char answer_of(const struct monitored *m)
{
    unsigned char answer;

    CHECK_EQ(read(m->sock, &answer, 1), 1);
    return answer;
}

void serve_fault(const struct monitored *m, uint32_t page, bool write, char *source)
{
    tell(m, write ? ORDER_WRITE : ORDER_READ, page);
    uffd_next_fault(m->uffd, mem_page(&m->mem, page), write ? UF_PAGEFAULT_FLAG_WRITE : 0);
    CHECK_EQ(uffd_copy(m->uffd, mem_page(&m->mem, page), source, page_size), 0);
    CHECK_EQ(answer_of(m), write ? 0x77 : (unsigned char)*source);
}

void monitored_lend(int sock, const struct monitored *m)
{
    char byte;

    if (!rights_send(sock, m, sizeof(*m), &m->uffd, 1, 0) ||
        !rights_send(sock, "", 1, &m->sock, 1, 0))
        _exit(90);
    _exit(read(sock, &byte, 1) == 1 ? 0 : 91);
}

void monitored_borrow(int sock, struct monitored *m)
{
    int uffd; /* the number in the message is the other process's */
    char byte;

    CHECK(rights_receive(sock, m, sizeof(*m), &uffd, MSG_CMSG_CLOEXEC));
    CHECK(rights_receive(sock, &byte, 1, &m->sock, MSG_CMSG_CLOEXEC));
    m->uffd = uffd;
}
