/* SPDX-License-Identifier: MIT */
/*
 * A program without a context: libc's functions, and syscall(), go straight to what they are. Run
 * as it is and with the preload library before it; what it sees must be the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static int failed, done;

static void ok(int good, const char *what)
{
    printf("%sok %d - %s\n", good ? "" : "not ", ++done, what);
    failed += !good;
}

/* ---- cancellation points stay what they are */

static int pipe_of[2];
static pthread_barrier_t begun;

static void *in_read(void *arg)
{
    char byte;

    (void)arg;
    pthread_barrier_wait(&begun);
    return (void *)read(pipe_of[0], &byte, 1);
}

static void *in_poll(void *arg)
{
    struct pollfd fds = {.fd = pipe_of[0], .events = POLLIN};

    (void)arg;
    pthread_barrier_wait(&begun);
    return (void *)(long)poll(&fds, 1, -1);
}

static void *in_select(void *arg)
{
    fd_set set;

    (void)arg;
    FD_ZERO(&set);
    FD_SET(pipe_of[0], &set);
    pthread_barrier_wait(&begun);
    return (void *)(long)select(pipe_of[0] + 1, &set, NULL, NULL, NULL);
}

static void end_child(void *child)
{
    kill((pid_t)(long)child, SIGKILL);
    while (waitpid((pid_t)(long)child, NULL, 0) < 0 && errno == EINTR) {
    }
}

static void *in_waitpid(void *arg)
{
    pid_t child = fork();

    (void)arg;
    if (child == 0) {
        pause();
        _exit(0);
    }
    pthread_cleanup_push(end_child, (void *)(long)child);
    pthread_barrier_wait(&begun);
    waitpid(child, NULL, 0);
    pthread_cleanup_pop(0);
    return NULL;
}

static int cancelled(void *(*in)(void *))
{
    pthread_t thread;
    void *ret;

    pthread_barrier_init(&begun, NULL, 2);
    if (pthread_create(&thread, NULL, in, NULL)) {
        return 0;
    }
    pthread_barrier_wait(&begun);
    pthread_cancel(thread);
    return pthread_join(thread, &ret) == 0 && ret == PTHREAD_CANCELED;
}

static void cancellation(void)
{
    ok(pipe(pipe_of) == 0 && cancelled(in_read), "read is a cancellation point");
    ok(cancelled(in_poll), "poll is");
    ok(cancelled(in_select), "select is");
    ok(cancelled(in_waitpid), "waitpid is");
}

/* ---- what C declares with "..." */

static void variadic(void)
{
    char name[] = "/tmp/uf-plain-XXXXXX";
    int fd = mkstemp(name), again, waiting = -1;
    struct stat st;
    char *from = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    close(fd);
    unlink(name);
    umask(0);
    fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0640);
    ok(fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0640, "open with a mode");
    ok(unlink(name) == 0 && openat(AT_FDCWD, name, O_RDONLY) == -1 && errno == ENOENT,
       "openat without one");
    again = fcntl(fd, F_DUPFD_CLOEXEC, 77);
    ok(again >= 77 && fcntl(again, F_GETFD) == FD_CLOEXEC, "fcntl with an argument, and without");
    ok(write(pipe_of[1], "abc", 3) == 3 && ioctl(pipe_of[0], FIONREAD, &waiting) == 0 &&
           waiting == 3,
       "ioctl with a pointer");
    ok(ioctl(again, FIONREAD, (void *)8) == -1 && errno == EFAULT, "ioctl with a bad one");
    strcpy(from, "moved");
    ok(mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, from + 2 * PAGE) ==
               from + 2 * PAGE &&
           !strcmp(from + 2 * PAGE, "moved"),
       "mremap with an address");
    ok(open((const char *)8, O_RDONLY) == -1 && errno == EFAULT, "open of a bad pointer");
    ok(open(from + 4 * PAGE - 1, O_RDONLY) == -1 && errno == ENOENT, "open of an empty path");
    close(again);
    close(fd);
}

/* ---- syscall() */

static long six(long nr, long a, long b, long c, long d, long e, long f)
{
    return syscall(nr, a, b, c, d, e, f);
}

static void numbers(void)
{
    char buf[4] = "", *map;
    int fd = open("/dev/zero", O_RDONLY), status = 0;
    long child;

    ok(syscall(SYS_getppid) == getppid() && syscall(SYS_getpid) == getpid(),
       "numbers, no argument");
    errno = 0;
    ok(syscall(SYS_close, -1) == -1 && errno == EBADF, "one that fails sets errno");
    errno = 7;
    ok(syscall(SYS_pread64, fd, buf, sizeof buf, 0L) == sizeof buf && errno == 7,
       "one that succeeds does not");
    map = (char *)six(SYS_mmap, 0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGE);
    ok((long)map != -1 && map[PAGE] == 0 && syscall(SYS_munmap, map, 2 * PAGE) == 0,
       "six arguments");
    ok(six(SYS_mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, fd, 1) == -1 && errno == EINVAL,
       "the sixth arrives");
    ok(syscall(511) == -1 && errno == ENOSYS, "a number that is none");
    ok(syscall(512) == -1 && errno == ENOSYS && syscall(100000) == -1 && errno == ENOSYS,
       "and behind the table");
    ok(syscall(-1) == -1 && errno == ENOSYS, "and before it");
    ok(syscall(SYS_openat, AT_FDCWD, "/nowhere", O_RDONLY) == -1 && errno == ENOENT, "openat");
#ifdef SYS_fork
    child = syscall(SYS_fork);
#else
    child = syscall(SYS_clone, SIGCHLD, 0L, 0L, 0L, 0L);
#endif
    if (child == 0) {
        _exit(getppid() == syscall(SYS_getppid) ? 5 : 6);
    }
    ok(child > 0 && waitpid((pid_t)child, &status, 0) == child && WEXITSTATUS(status) == 5, "fork");
    close(fd);
}

/* ---- what mlockall() locks is the program's */

static long locked_kib(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;

    while (status && fgets(line, sizeof line, status))
        sscanf(line, "VmLck: %ld", &kib);
    if (status)
        fclose(status);
    return kib;
}

#define MUCH (16 << 10) /* KiB */

static void locking(void)
{
    if (mlockall(MCL_CURRENT) && (errno == ENOMEM || errno == EPERM)) {
        printf("ok %d - mlockall # SKIP RLIMIT_MEMLOCK: %s\n", ++done, strerror(errno));
        return;
    }
    ok(locked_kib() > 0 && locked_kib() < MUCH, "mlockall locks what the program has");
    munlockall();
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    locking();
    cancellation();
    variadic();
    numbers();
    printf("1..%d\n", done);
    return failed != 0;
}
