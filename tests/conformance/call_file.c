/* SPDX-License-Identifier: MIT */
/* System calls on files and descriptors, with paths and structures in hidden memory. */
#include <dirent.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "calls.h"

static char dir[] = "/tmp/conformance-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void paths(struct place *p)
{
    struct stat st, *hidden;
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 2}};

    CHECK_EQ(mkdir(place_text(p, in_dir("d")), 0700), 0);
    int fd = open(place_text(p, in_dir("a")), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(close(fd), 0);
    fd = creat(place_text(p, in_dir("b")), 0600);
    CHECK(fd >= 0);
    CHECK_EQ(access(place_text(p, in_dir("b")), R_OK), 0);
    CHECK_EQ(rename(place_text(p, in_dir("b")), place_text(p, in_dir("c"))), 0);
    CHECK_EQ(link(place_text(p, in_dir("c")), place_text(p, in_dir("e"))), 0);
    CHECK_EQ(symlink(place_text(p, "target"), place_text(p, in_dir("l"))), 0);
    char *target = place_out(p, 16);
    CHECK_EQ(readlink(place_text(p, in_dir("l")), target, 16), 6);
    CHECK_EQ(memcmp(target, "target", 6), 0);
    hidden = PLACE_OUT(p, struct stat);
    CHECK_EQ(lstat(place_text(p, in_dir("l")), hidden), 0);
    CHECK(S_ISLNK(hidden->st_mode));
    hidden = PLACE_OUT(p, struct stat);
    CHECK_EQ(fstat(fd, hidden), 0);
    CHECK_EQ(hidden->st_nlink, 2);
    hidden = PLACE_OUT(p, struct stat);
    CHECK_EQ(fstatat(AT_FDCWD, place_text(p, in_dir("c")), hidden, 0), 0);
    CHECK_EQ(hidden->st_nlink, 2);
    struct statx *x = PLACE_OUT(p, struct statx);
    CHECK_EQ(statx(AT_FDCWD, place_text(p, in_dir("c")), 0, STATX_NLINK, x), 0);
    CHECK_EQ(x->stx_nlink, 2);
    CHECK_EQ(chmod(place_text(p, in_dir("c")), 0640), 0);
    CHECK_EQ(truncate(place_text(p, in_dir("c")), 5), 0);
    CHECK_EQ(utimensat(AT_FDCWD, place_text(p, in_dir("c")), place_in(p, times, sizeof times), 0),
             0);
    CHECK_EQ(stat(in_dir("c"), &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0640);
    CHECK_EQ(st.st_size, 5);
    CHECK_EQ(st.st_mtim.tv_sec, 2);
    CHECK_EQ(rmdir(place_text(p, in_dir("d"))), 0);
    CHECK_EQ(unlink(place_text(p, in_dir("a"))), 0);
    CHECK_EQ(unlinkat(AT_FDCWD, place_text(p, in_dir("c")), 0), 0);
    CHECK_EQ(unlink(in_dir("e")), 0);
    CHECK_EQ(unlink(in_dir("l")), 0);
    CHECK_ERRNO(mkdir(unmapped(), 0700), EFAULT);
    CHECK_ERRNO(rename("/nowhere", unmapped()), EFAULT);
    close(fd);
}

/* An error that is found before the memory is what the call answers, and nobody is asked. */
static void errors(struct place *p)
{
    struct stat *st = PLACE_OUT(p, struct stat);

    place_faults(p);
    CHECK_ERRNO(stat("/nowhere", st), ENOENT);
    CHECK_ERRNO(fstat(-1, st), EBADF);
    CHECK_ERRNO(readlink("/", (char *)st, sizeof *st), EINVAL);
    CHECK_ERRNO(ioctl(-1, FIONREAD, st), EBADF);
    CHECK_ERRNO(stat(unmapped(), st), EFAULT);
    CHECK_EQ(place_faults(p), 0);
    CHECK_ERRNO(stat("/", unmapped()), EFAULT);
    CHECK_ERRNO(stat(place_text(p, "/"), unmapped()), EFAULT);
}

static void in_a_dir(enum mem_kind kind, void (*body)(struct place *place))
{
    CHECK(mkdtemp(dir) != NULL);
    place_each(kind, body);
    CHECK_EQ(rmdir(dir), 0);
}

static void call_paths(enum mem_kind kind)
{
    in_a_dir(kind, paths);
}

static void call_errors(enum mem_kind kind)
{
    place_each(kind, errors);
}

static void more_files(struct place *p)
{
    char value[16] = {0};
    struct statfs *fs = PLACE_OUT(p, struct statfs);
    int fd = open(place_text(p, in_dir("f")), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    CHECK_EQ(statfs(place_text(p, "/proc"), fs), 0);
    CHECK_EQ(fs->f_type, 0x9fa0);
    CHECK_EQ(fstatfs(open("/proc", O_RDONLY | O_CLOEXEC), PLACE_OUT(p, struct statfs)), 0);
    char *entries = place_out(p, 1024);
    int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t n = getdents64(folder, entries, 1024);
    CHECK(n > 0);
    for (ssize_t at = 0; at < n;) { /* whole entries, and no other */
        struct dirent64 *entry = (struct dirent64 *)(entries + at);

        CHECK(!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
              !strcmp(entry->d_name, "f"));
        at += entry->d_reclen;
    }
    if (setxattr(place_text(p, in_dir("f")), place_text(p, "user.conformance"),
                 place_in(p, "value", 5), 5, 0) == 0) {
        char *out = place_out(p, 16), *names = place_out(p, 64);

        CHECK_EQ(getxattr(place_text(p, in_dir("f")), place_text(p, "user.conformance"), out, 16),
                 5);
        CHECK_EQ(memcmp(out, "value", 5), 0);
        CHECK_EQ(flistxattr(fd, names, 64), sizeof "user.conformance");
        CHECK_EQ(fgetxattr(fd, "user.conformance", value, sizeof value), 5);
        CHECK_EQ(removexattr(place_text(p, in_dir("f")), place_text(p, "user.conformance")), 0);
    } else {
        CHECK_EQ(errno, ENOTSUP);
    }
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    CHECK(inotify_add_watch(watch, place_text(p, dir), IN_DELETE) >= 0);
    CHECK_EQ(unlink(in_dir("f")), 0);
    struct inotify_event *event = place_out(p, 256);
    CHECK(read(watch, event, 256) >= (ssize_t)sizeof *event);
    CHECK_EQ(strcmp(event->name, "f"), 0);
    CHECK(memfd_create(place_text(p, "conformance"), MFD_CLOEXEC) >= 0);
    close(fd);
    close(folder);
    close(watch);
}

static void call_more_files(enum mem_kind kind)
{
    in_a_dir(kind, more_files);
}

static void controls(struct place *p)
{
    struct flock lock = {.l_type = F_WRLCK}, *asked;
    int fd = memfd_create("conformance", MFD_CLOEXEC), pipes[2], on = 1;
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    int *count = PLACE_OUT(p, int);
    struct winsize size = {.ws_row = 12, .ws_col = 34}, *got = PLACE_OUT(p, struct winsize);

    CHECK_EQ(fcntl(fd, F_SETLK, PLACE_IN(p, lock)), 0);
    asked = PLACE_IN(p, lock);
    CHECK_EQ(fcntl(fd, F_OFD_GETLK, asked), 0);
    CHECK_EQ(asked->l_type, F_WRLCK);
    CHECK_EQ(asked->l_pid, getpid());
    CHECK_EQ(pipe(place_out(p, 2 * sizeof(int))), 0);
    CHECK_EQ(pipe2(place_out(p, 2 * sizeof(int)), O_CLOEXEC), 0);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    CHECK_EQ(write(pipes[1], "abc", 3), 3);
    CHECK_EQ(ioctl(pipes[0], FIONREAD, count), 0);
    CHECK_EQ(*count, 3);
    CHECK_EQ(ioctl(pipes[0], FIONBIO, PLACE_IN(p, on)), 0);
    CHECK_ERRNO(ioctl(pipes[0], FIONREAD, unmapped()), EFAULT);
    if (master >= 0) {
        CHECK_EQ(ioctl(master, TIOCSWINSZ, PLACE_IN(p, size)), 0);
        CHECK_EQ(ioctl(master, TIOCGWINSZ, got), 0);
        CHECK_EQ(got->ws_col, 34);
        int *number = PLACE_OUT(p, int); /* by the size in its number */
        CHECK_EQ(ioctl(master, TIOCGPTN, number), 0);
        CHECK(*number >= 0);
        close(master);
    }
}

static void call_controls(enum mem_kind kind)
{
    place_each(kind, controls);
}

static void waits(struct place *p)
{
    struct pollfd set[6], *fds;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77}, *events;
    fd_set readable, *hidden;
    struct timespec none = {0};
    int pipes[2], epoll = epoll_create1(EPOLL_CLOEXEC);

    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    CHECK_EQ(write(pipes[1], "x", 1), 1);
    for (int i = 0; i < 6; i++)
        set[i] = (struct pollfd){.fd = pipes[0], .events = POLLIN};
    fds = place_in(p, set, sizeof set);
    CHECK_EQ(poll(fds, 6, 0), 6);
    CHECK_EQ(fds[5].revents, POLLIN);
    fds = place_in(p, set, sizeof set);
    CHECK_EQ(ppoll(fds, 6, &none, NULL), 6);
    CHECK_EQ(fds[0].revents, POLLIN);
    FD_ZERO(&readable);
    FD_SET(pipes[0], &readable);
    hidden = PLACE_IN(p, readable);
    CHECK_EQ(select(FD_SETSIZE, hidden, NULL, NULL, NULL), 1);
    CHECK(FD_ISSET(pipes[0], hidden));
    hidden = PLACE_IN(p, readable);
    CHECK_EQ(pselect(pipes[0] + 1, hidden, NULL, NULL, &none, NULL), 1);
    CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], PLACE_IN(p, event)), 0);
    events = place_out(p, 4 * sizeof event);
    CHECK_EQ(epoll_wait(epoll, events, 4, -1), 1);
    CHECK_EQ(events[0].data.u64, 77);
    events = place_out(p, sizeof event);
    CHECK_EQ(epoll_pwait(epoll, events, 1, -1, NULL), 1);
    CHECK_EQ(events[0].data.u64, 77);
    CHECK_ERRNO(poll(unmapped(), 1, 0), EFAULT);
    CHECK_ERRNO(epoll_ctl(epoll, EPOLL_CTL_MOD, pipes[0], unmapped()), EFAULT);
}

static void call_waits(enum mem_kind kind)
{
    place_each(kind, waits);
}

static void programs(struct place *p)
{
    char *args[] = {place_text(p, "/bin/sh"), place_text(p, "-c"),
                    place_text(p, "test \"$A\" = b && exit 42"), NULL};
    char *env[] = {place_text(p, "A=b"), NULL};
    pid_t pid;

    CHECK_EQ(posix_spawn(&pid, place_text(p, "/bin/sh"), NULL, NULL, place_in(p, args, sizeof args),
                         place_in(p, env, sizeof env)),
             0);
    CHECK_EXITED(child_wait(pid), 42);
    for (int i = 0; i < 3; i++)
        args[i] = place_text(p, (char *[]){"sh", "-c", "exit 43"}[i]);
    CHECK_EQ(posix_spawnp(&pid, "sh", NULL, NULL, place_in(p, args, sizeof args), environ), 0);
    CHECK_EXITED(child_wait(pid), 43);
    CHECK_ERRNO(execve(unmapped(), args, env), EFAULT);
    CHECK_ERRNO(execve(place_text(p, "/nowhere"), place_in(p, args, sizeof args),
                       place_in(p, env, sizeof env)),
                ENOENT);
}

static void call_programs(enum mem_kind kind)
{
    place_each(kind, programs);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_file_cases[] = {
    {"call/paths", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_paths},
    {"call/errors-first", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_errors},
    {"call/more-files", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_more_files},
    {"call/controls", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_controls},
    {"call/waits", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_waits},
    {"call/programs", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_programs},
    {.id = NULL},
};
