/* SPDX-License-Identifier: MIT */
/* System calls on processes, time and System V objects, with structures in hidden memory. */
#include <linux/futex.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <time.h>

#include "calls.h"

static pid_t ended(int code)
{
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0)
        _exit(code);
    return pid;
}

/* What was waited for is gone, should the call fail. */
static void children(struct place *p)
{
    int *status = PLACE_OUT(p, int);
    struct rusage *usage = PLACE_OUT(p, struct rusage);
    siginfo_t *info = PLACE_OUT(p, siginfo_t);
    pid_t pid = ended(3);

    CHECK_EQ(waitpid(pid, status, 0), pid);
    CHECK_EXITED(*status, 3);
    status = PLACE_OUT(p, int);
    pid = ended(4);
    CHECK_EQ(wait4(pid, status, 0, usage), pid);
    CHECK_EXITED(*status, 4);
    CHECK(usage->ru_maxrss > 0);
    pid = ended(5);
    CHECK_EQ(waitid(P_PID, (id_t)pid, info, WEXITED), 0);
    CHECK_EQ(info->si_pid, pid);
    CHECK_EQ(info->si_status, 5);
    status = PLACE_OUT(p, int);
    pid = ended(6);
    CHECK_EQ(wait(status), pid);
    CHECK_EXITED(*status, 6);
}

static void call_children(enum mem_kind kind)
{
    place_each(kind, children);
}

static void process(struct place *p)
{
    struct rlimit *limit = PLACE_OUT(p, struct rlimit), core = {0, 0};
    struct sysinfo *sys = PLACE_OUT(p, struct sysinfo);
    struct tms *tms = PLACE_OUT(p, struct tms);
    uid_t *ids[3] = {PLACE_OUT(p, uid_t), PLACE_OUT(p, uid_t), PLACE_OUT(p, uid_t)};
    char *name = place_out(p, 16);
    cpu_set_t *cpus = PLACE_OUT(p, cpu_set_t), own;

    CHECK_EQ(prlimit(0, RLIMIT_CORE, PLACE_IN(p, core), limit), 0);
    limit = PLACE_OUT(p, struct rlimit);
    CHECK_EQ(getrlimit(RLIMIT_CORE, limit), 0);
    CHECK_EQ(limit->rlim_cur, 0);
    CHECK_EQ(getrusage(RUSAGE_SELF, PLACE_OUT(p, struct rusage)), 0);
    CHECK_EQ(sysinfo(sys), 0);
    CHECK(sys->totalram > 0);
    CHECK(times(tms) != (clock_t)-1);
    CHECK_EQ(getresuid(ids[0], ids[1], ids[2]), 0);
    CHECK_EQ(*ids[1], geteuid());
    CHECK_EQ(prctl(PR_SET_NAME, "conformance"), 0);
    CHECK_EQ(prctl(PR_GET_NAME, name), 0);
    CHECK_EQ(strcmp(name, "conformance"), 0);
    CHECK_EQ(sched_getaffinity(0, sizeof *cpus, cpus), 0);
    CHECK_EQ(sched_getaffinity(0, sizeof own, &own), 0);
    CHECK_EQ(memcmp(cpus, &own, sizeof own), 0);
    CHECK_EQ(sched_setaffinity(0, sizeof own, PLACE_IN(p, own)), 0);
    CHECK(getgroups(64, place_out(p, 64 * sizeof(gid_t))) >= 0);
    CHECK_ERRNO(uname(unmapped()), EFAULT);
    CHECK_ERRNO(getrlimit(RLIMIT_CORE, unmapped()), EFAULT);
}

static void call_process(enum mem_kind kind)
{
    place_each(kind, process);
}

static void clocks(struct place *p)
{
    struct timespec short_sleep = {.tv_nsec = 1}, *left = PLACE_OUT(p, struct timespec);
    struct itimerspec later = {.it_value = {.tv_sec = 1000}}, *got;
    struct itimerval value = {.it_value = {.tv_sec = 1000}}, *was;
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    timer_t *timer = PLACE_OUT(p, timer_t);

    CHECK_EQ(nanosleep(PLACE_IN(p, short_sleep), left), 0);
    CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, PLACE_IN(p, short_sleep), NULL), 0);
    CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, unmapped(), NULL), EFAULT);
    struct timespec *now = PLACE_OUT(p, struct timespec);
    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, now), 0);
    CHECK(now->tv_sec || now->tv_nsec);
    CHECK_EQ(timer_create(CLOCK_MONOTONIC, PLACE_IN(p, none), timer), 0);
    CHECK_EQ(timer_settime(*timer, 0, PLACE_IN(p, later), PLACE_OUT(p, struct itimerspec)), 0);
    got = PLACE_OUT(p, struct itimerspec);
    CHECK_EQ(timer_gettime(*timer, got), 0);
    CHECK(got->it_value.tv_sec > 900);
    CHECK_EQ(setitimer(ITIMER_REAL, PLACE_IN(p, value), PLACE_OUT(p, struct itimerval)), 0);
    was = PLACE_OUT(p, struct itimerval);
    CHECK_EQ(getitimer(ITIMER_REAL, was), 0);
    CHECK(was->it_value.tv_sec > 900);
}

static void call_clocks(enum mem_kind kind)
{
    place_each(kind, clocks);
}

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

static void system_v(struct place *p)
{
    struct {
        long type;
        char text[40];
    } message = {5, "a message"}, *got;
    int semaphores = semget(IPC_PRIVATE, 16, 0600), queue = msgget(IPC_PRIVATE, 0600);
    int segment = shmget(IPC_PRIVATE, page_size, 0600);
    struct sembuf up[2] = {{.sem_num = 3, .sem_op = 2}, {.sem_num = 15, .sem_op = 1}};

    CHECK_EQ(semop(semaphores, PLACE_IN(p, up[0]), 1), 0);
    CHECK_EQ(semop(semaphores, place_in(p, up, sizeof up), 2), 0);
    union semun arg = {.array = place_out(p, 16 * sizeof(short))};
    CHECK_EQ(semctl(semaphores, 0, GETALL, arg), 0);
    CHECK_EQ(arg.array[3], 4);
    CHECK_EQ(arg.array[15], 1);
    arg.buf = PLACE_OUT(p, struct semid_ds);
    CHECK_EQ(semctl(semaphores, 0, IPC_STAT, arg), 0);
    CHECK_EQ(arg.buf->sem_nsems, 16);
    CHECK_EQ(msgsnd(queue, PLACE_IN(p, message), sizeof message.text, 0), 0);
    got = place_out(p, sizeof message);
    CHECK_EQ(msgrcv(queue, got, sizeof message.text, 0, 0), sizeof message.text);
    CHECK_EQ(memcmp(got, &message, sizeof message), 0);
    struct msqid_ds *about = PLACE_OUT(p, struct msqid_ds);
    CHECK_EQ(msgctl(queue, IPC_STAT, about), 0);
    CHECK_EQ(about->msg_qnum, 0);
    struct shmid_ds *shm = PLACE_OUT(p, struct shmid_ds);
    CHECK_EQ(shmctl(segment, IPC_STAT, shm), 0);
    CHECK_EQ(shm->shm_segsz, page_size);
    CHECK_EQ(semctl(semaphores, 0, IPC_RMID), 0);
    CHECK_EQ(msgctl(queue, IPC_RMID, NULL), 0);
    CHECK_EQ(shmctl(segment, IPC_RMID, NULL), 0);
}

static void call_system_v(enum mem_kind kind)
{
    place_each(kind, system_v);
}

static void queues(struct place *p)
{
    char name[32], *got;
    struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 64}, *about;
    unsigned *priority = PLACE_OUT(p, unsigned);

    snprintf(name, sizeof name, "/conformance-%d", getpid());
    mqd_t queue = mq_open(place_text(p, name), O_RDWR | O_CREAT | O_EXCL, 0600, PLACE_IN(p, attr));
    if (queue == -1)
        case_skip("no message queues here");
    CHECK_EQ(mq_unlink(place_text(p, name)), 0);
    CHECK_EQ(mq_send(queue, place_in(p, "message", 8), 8, 9), 0);
    got = place_out(p, 64);
    CHECK_EQ(mq_receive(queue, got, 64, priority), 8);
    CHECK_EQ(memcmp(got, "message", 8), 0);
    CHECK_EQ(*priority, 9);
    about = PLACE_OUT(p, struct mq_attr);
    CHECK_EQ(mq_getattr(queue, about), 0);
    CHECK_EQ(about->mq_msgsize, 64);
    mq_close(queue);
}

static void call_queues(enum mem_kind kind)
{
    place_each(kind, queues);
}

/* By number, as programs make them that libc has no function for. */
static void by_number(struct place *p)
{
    uint32_t word = 7, *hidden = PLACE_IN(p, word);
    struct timespec short_wait = {.tv_nsec = 1};
    struct utsname *name = PLACE_OUT(p, struct utsname);
    char *buf = place_out(p, 64);
    int pipes[2];

    CHECK_ERRNO(syscall(SYS_futex, hidden, FUTEX_WAIT_PRIVATE, 8, NULL, NULL, 0), EAGAIN);
    CHECK_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, PLACE_IN(p, short_wait), NULL, 0),
                ETIMEDOUT);
    CHECK_ERRNO(syscall(SYS_futex, PLACE_IN(p, word), FUTEX_WAIT, 8, NULL, NULL, 0), EAGAIN);
    CHECK_EQ(syscall(SYS_uname, name), 0);
    CHECK_EQ(strcmp(name->sysname, "Linux"), 0);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(syscall(SYS_write, pipes[1], place_in(p, "0123456789", 10), 10), 10);
    CHECK_EQ(syscall(SYS_read, pipes[0], buf, 64), 10);
    CHECK_EQ(memcmp(buf, "0123456789", 10), 0);
    CHECK_EQ(syscall(SYS_faccessat, AT_FDCWD, place_text(p, "/proc"), F_OK), 0);
}

static void call_by_number(enum mem_kind kind)
{
    place_each(kind, by_number);
}

/* A context that is not to be asked for the kernel: every call fails, and nobody is asked. */
static void refused(int uffd, enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int socks[2], *word = (int *)mem.addr;
    struct msghdr msg = {.msg_iov = (struct iovec *)mem.addr, .msg_iovlen = 1};
    char *args[] = {mem.addr, NULL};
    struct sockaddr_storage name;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, socks), 0);
    CHECK_ERRNO(pipe(word), EFAULT);
    CHECK_ERRNO(uname((struct utsname *)mem.addr), EFAULT);
    CHECK_ERRNO(open(mem.addr, O_RDONLY), EFAULT);
    CHECK_ERRNO(poll((struct pollfd *)mem.addr, 1, 0), EFAULT);
    CHECK_ERRNO(select(1, (fd_set *)mem.addr, NULL, NULL, NULL), EFAULT);
    CHECK_ERRNO(sendmsg(socks[0], &msg, 0), EFAULT);
    CHECK_ERRNO(recvmsg(socks[0], (struct msghdr *)mem.addr, 0), EFAULT);
    CHECK_ERRNO(getsockname(socks[0], (struct sockaddr *)&name, (socklen_t *)mem.addr), EFAULT);
    CHECK_ERRNO(execve("/bin/true", args, environ), EFAULT);
    CHECK_ERRNO(ioctl(uffd, UF_IO_WAKE, mem.addr), EFAULT);
    CHECK_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, mem.addr, NULL, 8), EFAULT);
    CHECK_ERRNO(syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    uffd_check_silent(uffd);
    close(uffd);
}

static void call_refused(enum mem_kind kind)
{
    refused(uffd_open_user_mode(0), kind);
    refused(uffd_open(UF_FEATURE_SIGBUS), kind);
}

#define USED 4 /* pages */

static struct rusage usage_of(int who)
{
    struct rusage usage;

    CHECK_EQ(getrusage(who, &usage), 0);
    return usage;
}

static int usage_begins(void *arg)
{
    (void)arg;
    return usage_of(RUSAGE_SELF).ru_majflt >= USED;
}

/* An access that waited is a minor fault of its thread, a page that a call waited for a major one.
 */
static void call_usage(enum mem_kind kind)
{
    const int whose[] = {RUSAGE_THREAD, RUSAGE_SELF};
    struct rusage start[2], touched[2];
    struct served served;
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    serve(&served, kind, 2 * USED);
    for (int i = 0; i < 2; i++)
        start[i] = usage_of(whose[i]);
    for (size_t n = 0; n < USED; n++)
        (void)*(volatile char *)mem_page(&served.mem, n);
    for (int i = 0; i < 2; i++)
        touched[i] = usage_of(whose[i]);
    for (size_t n = USED; n < 2 * USED; n++)
        CHECK_EQ(read(zero, mem_page(&served.mem, n), 1), 1);
    CHECK_EQ(served_faults(&served), 2 * USED);
    for (int i = 0; i < 2; i++) {
        CHECK(touched[i].ru_minflt - start[i].ru_minflt >= USED);
        CHECK(touched[i].ru_majflt - start[i].ru_majflt < USED);
        CHECK(usage_of(whose[i]).ru_majflt - touched[i].ru_majflt >= USED);
    }
    CHECK_EXITED(child_status(usage_begins, NULL), 0);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_system_cases[] = {
    {"call/children", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_children},
    {"call/process", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_process},
    {"call/usage", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL, .run = call_usage},
    {"call/clocks", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_clocks},
    {"call/system-v", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_system_v},
    {"call/queues", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_queues},
    {"call/by-number", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_by_number},
    {"call/refused", "userfaultfd(2): UFFD_USER_MODE_ONLY", ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = call_refused},
    {.id = NULL},
};
