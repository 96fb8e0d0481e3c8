/* SPDX-License-Identifier: MIT */
/*
 * The first process of the machine that run.py starts: mounts what programs expect, loads the
 * modules that lie in /modules, in order of their names, runs /script with its output on the
 * second serial port, and ends the machine. Static, since it is run before anything is there.
 */
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const struct {
    const char *type, *place, *options;
} mounts[] = {
    {"proc", "/proc", NULL},      {"sysfs", "/sys", NULL},
    {"devtmpfs", "/dev", NULL},   {"tmpfs", "/dev/shm", "mode=1777"},
    {"devpts", "/dev/pts", NULL}, {"tmpfs", "/tmp", "mode=1777"},
};

static void mount_all(void)
{
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        mkdir(mounts[i].place, 0755);
        if (mount(mounts[i].type, mounts[i].place, mounts[i].type, 0, mounts[i].options) != 0)
            perror(mounts[i].place);
    }
    if (symlink("/proc/self/fd", "/dev/fd") != 0)
        perror("/dev/fd");
}

static void load_modules(void)
{
    glob_t found;

    if (glob("/modules/*", 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        int fd = open(found.gl_pathv[i], O_RDONLY | O_CLOEXEC);

        if (syscall(SYS_finit_module, fd, "", 0) != 0)
            perror(found.gl_pathv[i]);
        close(fd);
    }
    globfree(&found);
}

static void run_script(void)
{
    char *const args[] = {"sh", "/script", NULL};
    char *const env[] = {"PATH=/bin", "HOME=/tmp", NULL};
    int in = open("/dev/null", O_RDONLY), out = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
    struct termios raw;

    if (tcgetattr(out, &raw) == 0) {
        cfmakeraw(&raw);
        tcsetattr(out, TCSANOW, &raw);
    }
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    execve("/bin/sh", args, env);
    perror("/bin/sh");
    _exit(127);
}

int main(void)
{
    pid_t script, gone;
    int out;

    mount_all();
    load_modules();
    script = fork();
    if (script == 0)
        run_script();
    do
        gone = wait(NULL); /* the orphans of all others, too */
    while (gone != script && gone != -1);
    out = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_NONBLOCK);
    tcdrain(out);
    reboot(RB_AUTOBOOT);
    return 1;
}
