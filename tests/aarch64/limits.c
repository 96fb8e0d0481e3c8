/* SPDX-License-Identifier: MIT */
/*
 * What qemu-user cannot do that cases of the conformance suite need, each shown by itself, without
 * the facility: the reasons in known.txt. A limit that is none any more fails here, and its lines
 * are to be taken out there.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE  4096ul
#define HUGE  (1ul << 21)
#define STACK 65536

static char *map(size_t len, int prot)
{
    char *at = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        abort();
    return at;
}

static bool fails(long ret, int err)
{
    return ret == -1 && errno == err;
}

/* How a child of a function ends. */
static int status_of(void (*run)(void))
{
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", 1);

        dup2(null, 2);
        dup2(null, 1);
        run();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return status;
}

/* The place that it chooses for a mapping is one for small pages; without a pool it is ENOMEM. */
static bool hugetlb(void)
{
    int fd = memfd_create("limits", MFD_HUGETLB);
    void *at;

    if (fd == -1)
        return true; /* nor has the host any */
    if (ftruncate(fd, (off_t)HUGE) != 0)
        return false;
    at = mmap(NULL, HUGE, PROT_READ, MAP_SHARED, fd, 0);
    return at == MAP_FAILED && errno == EINVAL;
}

/* Requests that it does not know, whatever the descriptor. */
static bool request(void)
{
    return fails(ioctl(-1, 0xc0606610ul /* PAGEMAP_SCAN */, 0), ENOSYS) &&
           fails(ioctl(-1, 0x80000000ul | 0x1234, 0), ENOSYS);
}

/* Advice is answered by 0 and, but for MADV_DONTNEED of all that is mapped, not handed on. */
static bool advice(void)
{
    char *at = map(2 * PAGE, PROT_READ | PROT_WRITE);

    *at = 1;
    munmap(at + PAGE, PAGE);
    return madvise(at, PAGE, 9999) == 0 && madvise(at, PAGE, MADV_DONTNEED_LOCKED) == 0 &&
           madvise(at, 2 * PAGE, MADV_DONTNEED) == 0 && *at == 1;
}

/* Calls that it does not know. */
static bool call(void)
{
    static uint64_t word;

    return fails(syscall(SYS_set_robust_list, &word, 24), ENOSYS) &&
           fails(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0), ENOSYS) &&
           fails(ptrace(PTRACE_SEIZE, getppid(), NULL, NULL), ENOSYS) &&
           fails(syscall(SYS_clone3, NULL, 88), ENOSYS) &&
           fails(mlock2(map(PAGE, PROT_READ), PAGE, MLOCK_ONFAULT), EINVAL) &&
           fails(syscall(SYS_seccomp, 3, 0, &word), ENOSYS);
}

static int child(void *arg)
{
    return 0;
}

/* Children are made by fork or as threads, and by nothing between. */
static bool clones(void)
{
    char *stack = map(STACK, PROT_READ | PROT_WRITE);

    return fails(clone(child, stack + STACK, CLONE_VM | SIGCHLD, NULL), EINVAL);
}

static void vfork_writes(void)
{
    static volatile int word;
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);

    if (pid == 0) {
        word = 1;
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    _exit(word);
}

/* A child of vfork has memory of its own. */
static bool vforks(void)
{
    return WEXITSTATUS(status_of(vfork_writes)) == 0;
}

static void exec_self(void)
{
    execl("/proc/self/exe", "limits", "--nothing", (char *)NULL);
    _exit(errno == ENOEXEC ? 7 : 8);
}

/* What it runs is no program to the host, unless that was told of it. */
static bool executes(void)
{
    return WEXITSTATUS(status_of(exec_self)) == 7;
}

/* It looks at all of the memory before the call, which then does no part of it ... */
static bool whole(void)
{
    char *at = map(2 * PAGE, PROT_READ | PROT_WRITE);
    int fd = memfd_create("limits", 0);

    mprotect(at + PAGE, PAGE, PROT_NONE);
    return fails(write(fd, at + PAGE - 8, 16), EFAULT);
}

/* ... and before the kernel has looked at other arguments. */
static bool first(void)
{
    return fails(readlink("/", map(PAGE, PROT_NONE), 16), EFAULT);
}

static void empties_closed_heap(void)
{
    char *at = sbrk(4 * (long)PAGE);

    at = (char *)(((uintptr_t)at + PAGE - 1) & ~(PAGE - 1));
    mprotect(at, 2 * PAGE, PROT_NONE);
    sbrk(-3 * (long)PAGE);
    sbrk(3 * (long)PAGE);
}

/* It writes to memory itself, of which a fault is its end. */
static bool itself(void)
{
    return status_of(empties_closed_heap) != 0;
}

/* There is no vDSO: what a program asks the clock is a system call of libc's own. */
static bool vdso(void)
{
    return getauxval(AT_SYSINFO_EHDR) == 0;
}

/* To the host, the stack that a program starts on is a mapping like others. */
static bool stack(void)
{
    unsigned long here = (unsigned long)&here, start, end;
    char path[64], line[512];
    bool named = false;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/maps", getpid(), getpid());
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= here && here < end)
            named = strstr(line, "[stack]") != NULL;
    return file && !named;
}

/* Of calls on the address space, it knows less than the kernel, and other errors come first. */
static bool layout(void)
{
    char *at = map(2 * PAGE, PROT_NONE);
    char *shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *to = map(PAGE, PROT_NONE);
    unsigned char there;

    return fails(mincore(at, PAGE, &there), ENOMEM) && fails(mprotect(at, 0, PROT_NONE), ENOMEM) &&
           mmap(at, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
               MAP_FAILED &&
           mremap(shared, 0, PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM &&
           mremap(at, 0 - PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED &&
           errno == ENOMEM && mprotect(to, PAGE, PROT_READ) == 0; /* not even unmapped */
}

static void maps_too_much(void)
{
    const struct rlimit little = {PAGE, PAGE};

    setrlimit(RLIMIT_AS, &little);
    _exit(mmap(NULL, HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
}

/* The address space is its own, too, and is not bounded. */
static bool rlimit(void)
{
    return status_of(maps_too_much) == 0;
}

/* What a move has left mapped is no memory any more, to calls and to advice. */
static bool moved(void)
{
    char *at = map(PAGE, PROT_READ | PROT_WRITE);
    int fd = memfd_create("limits", 0);

    *at = 1;
    if (mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == MAP_FAILED)
        return false;
    *at = 2;
    return fails(write(fd, at, 1), EFAULT) && madvise(at, PAGE, MADV_DONTNEED) == 0 && *at == 2;
}

static void sends_itself_a_fault(void)
{
    siginfo_t info = {.si_signo = SIGSEGV, .si_code = SEGV_MAPERR};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGSEGV, &info);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* A fault that is sent, as the facility does for its default action, it takes for its own. */
static bool sent(void)
{
    int status = status_of(sends_itself_a_fault);

    return !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV;
}

/* What a process queues to itself arrives without the words that no kind of signal uses. */
static bool info(void)
{
    const struct timespec now = {0};
    siginfo_t sent = {.si_signo = SIGUSR1, .si_code = SI_QUEUE}, got = {0};
    const uint64_t mark = 0x6b72616d;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    memcpy((char *)&sent + 40, &mark, sizeof(mark));
    syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &sent);
    return sigtimedwait(&set, &got, &now) == SIGUSR1 &&
           memcmp((char *)&got + 40, &mark, sizeof(mark)) != 0;
}

/* An answer that cannot be written is given all the same, and a name that cannot be read is none.
 */
static bool answer(void)
{
    struct mq_attr about = {.mq_maxmsg = 4, .mq_msgsize = 64};
    struct msghdr named = {.msg_name = (void *)PAGE, .msg_namelen = 8};
    char name[32];
    int socks[2];
    mqd_t queue;

    snprintf(name, sizeof(name), "/limits-%d", getpid());
    queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &about);
    mq_unlink(name);
    return (queue == -1 || mq_getattr(queue, (void *)map(PAGE, PROT_NONE)) == 0) &&
           socketpair(AF_UNIX, SOCK_STREAM, 0, socks) == 0 && sendmsg(socks[0], &named, 0) == 0;
}

static const struct limit {
    const char *name;
    bool (*shown)(void);
} limits[] = {
    {"hugetlb", hugetlb}, {"request", request}, {"advice", advice}, {"call", call},
    {"clone", clones},    {"vfork", vforks},    {"exec", executes}, {"whole", whole},
    {"first", first},     {"itself", itself},   {"vdso", vdso},     {"layout", layout},
    {"stack", stack},     {"rlimit", rlimit},   {"moved", moved},   {"sent", sent},
    {"answer", answer},   {"info", info},
};

int main(void)
{
    const int count = sizeof limits / sizeof limits[0];
    int gone = 0;

    printf("1..%d\n", count);
    for (int i = 0; i < count; i++) {
        bool shown = limits[i].shown();

        printf("%sok %d - %s\n", shown ? "" : "not ", i + 1, limits[i].name);
        gone += !shown;
    }
    return gone != 0;
}
