/* SPDX-License-Identifier: MIT */
/*
 * The program that the launcher's tests start. Prints one word an attempt, "ok" or an error's name:
 *
 *   probe syscall [FLAGS]  userfaultfd(2), through libc as programs do
 *   probe device           /dev/userfaultfd and its ioctl, on a pipe where there is no device
 *   probe device-high      the same with a bit in the half of the number that the kernel ignores
 *   probe ioctl            with another number: no filter of ours may touch it
 *   probe api              the features that a context announces, as a number instead of "ok"
 *   probe wait             says "ready", takes one signal whatever it is and says its number
 *   probe stop SIG         stops itself by the signal, says "continued"
 *   probe die SIG          ends itself by the signal
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <userfault/abi.h>

static int say(long result)
{
    puts(result >= 0 ? "ok" : strerrorname_np(errno));
    return result >= 0 ? 0 : 1;
}

static int device_or_pipe(void)
{
    int fds[2];
    int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        return fd;
    return pipe(fds) == 0 ? fds[0] : -1;
}

static int api(void)
{
    struct uf_io_api arg = {.api = UF_API};
    long fd = syscall(SYS_userfaultfd, O_CLOEXEC);

    if (fd < 0 || ioctl((int)fd, UF_IO_API, &arg) != 0)
        return say(-1);
    printf("%llu\n", (unsigned long long)arg.features);
    return 0;
}

static int wait_for_signal(void)
{
    sigset_t all;
    int number;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    puts("ready");
    fflush(stdout);
    if (sigwait(&all, &number) != 0)
        return 1;
    printf("%d\n", number);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int number = argc > 2 ? atoi(argv[2]) : 0;

    if (strcmp(what, "syscall") == 0)
        return say(syscall(SYS_userfaultfd, number));
    if (strcmp(what, "device") == 0)
        return say(ioctl(device_or_pipe(), UF_IOC_NEW, 0));
    if (strcmp(what, "device-high") == 0)
        return say(syscall(SYS_ioctl, device_or_pipe(), (uint64_t)1 << 32 | UF_IOC_NEW, 0));
    if (strcmp(what, "ioctl") == 0)
        return say(ioctl(device_or_pipe(), UF_IOC_NEW + 0x80, 0));
    if (strcmp(what, "api") == 0)
        return api();
    if (strcmp(what, "wait") == 0)
        return wait_for_signal();
    if (strcmp(what, "stop") == 0 || strcmp(what, "die") == 0) {
        raise(number);
        puts("continued");
        return 0;
    }
    return 2;
}
