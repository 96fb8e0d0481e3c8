/* SPDX-License-Identifier: MIT */
/*
 * policy NODE OWNER GROUP: who may have a context. Takes on one set of credentials after another,
 * each in a child, and prints which of userfaultfd(2) and the ways to open NODE are granted.
 * The test compares what a real device of the kernel answers with what ours does.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <userfault/abi.h>

#define USER       1000u /* who owns nothing */
#define MANY       200
#define CAP(n)     ((uint64_t)1 << (n))
#define ALL_CAPS   (~(uint64_t)0)
#define IDS_IN_ALL 4294967295u

struct map {
    unsigned inside, outside, count;
};

struct who {
    const char *name;
    bool is_user, is_owner; /* else root */
    bool in_group;          /* the device's group is the last of many */
    bool fs_user;           /* setfsuid(USER), which takes the capabilities for files away */
    bool fs_group;
    uint64_t caps; /* kept */
    bool userns;
    struct map uids, gids; /* count 0: none is written */
};

static unsigned owner, group;

static const struct who everybody[] = {
    {"root", .caps = ALL_CAPS},
    {"root without capabilities", .caps = 0},
    {"root with CAP_DAC_OVERRIDE", .caps = CAP(CAP_DAC_OVERRIDE)},
    {"root with CAP_DAC_READ_SEARCH", .caps = CAP(CAP_DAC_READ_SEARCH)},
    {"root with CAP_SYS_PTRACE", .caps = CAP(CAP_SYS_PTRACE)},
    {"root by setfsuid a user", .fs_user = true, .caps = ALL_CAPS},
    {"user", .is_user = true},
    {"user with CAP_DAC_OVERRIDE", .is_user = true, .caps = CAP(CAP_DAC_OVERRIDE)},
    {"user with CAP_SYS_PTRACE", .is_user = true, .caps = CAP(CAP_SYS_PTRACE)},
    {"user in the group, and many others", .is_user = true, .in_group = true},
    {"user by setfsgid in the group", .is_user = true, .fs_group = true},
    {"owner", .is_owner = true},
    {"owner in the group", .is_owner = true, .in_group = true},
    {"root of a namespace", .caps = ALL_CAPS, .userns = true, .uids = {0, 0, 1}, .gids = {0, 0, 1}},
    {"root of a namespace of all", .caps = ALL_CAPS, .userns = true, .uids = {0, 0, IDS_IN_ALL},
     .gids = {0, 0, IDS_IN_ALL}},
    {"root of a namespace, its group unnamed", .caps = ALL_CAPS, .userns = true, .uids = {0, 0, 1}},
    {"unnamed user of a namespace", .caps = ALL_CAPS, .userns = true},
    {"user as root of a namespace", .is_user = true, .userns = true, .uids = {0, USER, 1},
     .gids = {0, USER, 1}},
    {"user in a namespace shifted by one", .is_user = true, .userns = true, .uids = {1, 0, 65536},
     .gids = {1, 0, 65536}},
    {"owner in a namespace shifted by one", .is_owner = true, .userns = true, .uids = {1, 0, 65536},
     .gids = {1, 0, 65536}},
    {"user in the group, in a namespace shifted by one", .is_user = true, .in_group = true,
     .userns = true, .uids = {1, 0, 65536}, .gids = {1, 0, 65536}},
    {"user in an unnamed group of a namespace", .is_user = true, .in_group = true, .userns = true,
     .uids = {0, USER, 1}, .gids = {0, USER, 1}},
};

#define MUST(call)                                                                                 \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            printf("cannot: %s: %s\n", #call, strerror(errno));                                    \
            exit(2);                                                                               \
        }                                                                                          \
    } while (0)

static void keep_caps(uint64_t caps)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];

    MUST(syscall(SYS_capget, &head, data));
    for (int i = 0; i < 2; i++) {
        data[i].permitted &= (uint32_t)(caps >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    MUST(syscall(SYS_capset, &head, data));
}

static void become(const struct who *who)
{
    unsigned uid = who->is_user ? USER : who->is_owner ? owner : 0;
    unsigned gid = who->is_user || who->is_owner ? USER : 0;
    gid_t groups[MANY];

    for (unsigned i = 0; i < MANY; i++)
        groups[i] = 5000 + i;
    groups[MANY - 1] = group;
    MUST(setgroups(who->in_group ? MANY : 0, groups));
    MUST(prctl(PR_SET_KEEPCAPS, 1));
    MUST(setresgid(gid, gid, gid));
    if (who->fs_group)
        setfsgid(group);
    MUST(setresuid(uid, uid, uid));
    keep_caps(who->caps);
    if (who->fs_user)
        setfsuid(USER);
    MUST(prctl(PR_SET_DUMPABLE, 1)); /* else its maps are written by nobody, and read by nobody */
}

static void write_map(pid_t pid, const char *file, const struct map *map)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    MUST(fd);
    MUST(dprintf(fd, "%u %u %u\n", map->inside, map->outside, map->count));
    close(fd);
}

static const char *answer(int fd)
{
    return fd >= 0 ? "granted" : strerrorname_np(errno);
}

static void ask(const char *node)
{
    static const struct {
        const char *name;
        int flags;
    } ways[] = {{"read", O_RDONLY},
                {"write", O_WRONLY},
                {"both", O_RDWR},
                {"ioctl", O_ACCMODE},
                {"truncate", O_RDONLY | O_TRUNC}};

    printf(" userfaultfd=%s", answer((int)syscall(SYS_userfaultfd, O_CLOEXEC)));
    printf(" user-mode=%s", answer((int)syscall(SYS_userfaultfd, O_CLOEXEC | UF_USER_MODE_ONLY)));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        int fd = open(node, ways[i].flags | O_CLOEXEC);

        printf(" %s=%s", ways[i].name, answer(fd));
        if (fd >= 0)
            printf(",%s,%x", answer(ioctl(fd, UF_IOC_NEW, O_CLOEXEC)),
                   (unsigned)fcntl(fd, F_GETFL) & O_ACCMODE);
    }
    printf("\n");
}

static void child(const struct who *who, const char *node, int ready, int go)
{
    char byte = 0;

    become(who);
    if (who->userns)
        MUST(unshare(CLONE_NEWUSER));
    MUST(write(ready, &byte, 1));
    MUST(read(go, &byte, 1));
    printf("%s:", who->name);
    ask(node);
    exit(0);
}

static int ask_as(const struct who *who, const char *node)
{
    int ready[2], go[2], status;
    char byte = 0;

    fflush(stdout);
    MUST(pipe2(ready, O_CLOEXEC));
    MUST(pipe2(go, O_CLOEXEC));
    pid_t pid = fork();
    if (pid == 0)
        child(who, node, ready[1], go[0]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) == 1) {
        if (who->uids.count)
            write_map(pid, "uid_map", &who->uids);
        if (who->gids.count)
            write_map(pid, "gid_map", &who->gids);
        MUST(write(go[1], &byte, 1));
    }
    close(ready[0]);
    close(go[0]);
    close(go[1]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

int main(int argc, char **argv)
{
    int bad = 0;

    if (argc != 4)
        return 2;
    owner = (unsigned)strtoul(argv[2], NULL, 10);
    group = (unsigned)strtoul(argv[3], NULL, 10);
    for (size_t i = 0; i < sizeof(everybody) / sizeof(everybody[0]); i++)
        bad |= ask_as(&everybody[i], argv[1]);
    return bad;
}
