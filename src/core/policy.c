/* SPDX-License-Identifier: MIT */
/*
 * --policy=kernel: who may have a context, by the kernel's own rules.
 *
 * userfaultfd(2) asks for the capability in the initial user namespace, whatever a process is in
 * its own. The device is a file of the initial namespace: open(2) compares its owner and group
 * with the ids that the thread has there, and lets a capability pass in the thread's namespace
 * only if owner and group have a name in it.
 */
#include <errno.h>
#include <linux/capability.h>

#include "base/text.h"
#include "core_local.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define INITIAL_USERNS   0xeffffffdu        /* its inode, in every kernel since Linux 3.8 */
#define PIDFD_GET_USERNS 0xff09ul           /* since Linux 6.11 */
#define MAP_BYTES        ((size_t)16 << 10) /* 340 lines at most */
#define GROUPS_BYTES     ((size_t)(65536 + 1) * sizeof(uint32_t))

static bool has_cap(unsigned cap)
{
    struct {
        uint32_t version;
        int pid;
    } head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } data[2] = {{0}};

    return sys_call(SYS_capget, &head, data) == 0 && (data[cap / 32].effective >> cap % 32 & 1);
}

/* Without /proc the kernel may tell by a descriptor; who is not told is not taken for privileged.
 */
static bool in_initial_userns(void)
{
    struct stat st = {0};
    long pidfd, ns;

    if (sys_call(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/user", &st, 0) == 0) {
        return st.st_ino == INITIAL_USERNS;
    }
    pidfd = sys_call(SYS_pidfd_open, sys_getpid(), 0);
    if (sys_failed(pidfd)) {
        return false;
    }
    ns = sys_ioctl((int)pidfd, PIDFD_GET_USERNS, NULL);
    sys_close((int)pidfd);
    if (sys_failed(ns)) {
        return false;
    }
    if (sys_fstat((int)ns, &st)) {
        st.st_ino = 0;
    }
    sys_close((int)ns);
    return st.st_ino == INITIAL_USERNS;
}

static bool sysctl_permits(void)
{
    char digit = '0';
    long fd = sys_open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY);

    if (!sys_failed(fd)) {
        sys_read((int)fd, &digit, 1);
        sys_close((int)fd);
    }
    return digit == '1';
}

bool policy_permits_create(int flags)
{
    return !core_options.policy_kernel || (flags & UF_USER_MODE_ONLY) || sysctl_permits() ||
           (has_cap(CAP_SYS_PTRACE) && in_initial_userns());
}

bool policy_permits_fork_events(void)
{
    return !core_options.policy_kernel || (has_cap(CAP_SYS_PTRACE) && in_initial_userns());
}

/* ---- ids, of the thread's namespace and of the initial one */

enum side { INSIDE, OUTSIDE };

/* The last bytes stay 0. */
static char *read_map(const char *path)
{
    char *text = sys_scratch(MAP_BYTES);
    long fd = sys_open(path, O_RDONLY), n = 1;
    size_t have = 0;

    while (text && !sys_failed(fd) && n > 0 && have < MAP_BYTES - 1) {
        n = sys_read((int)fd, text + have, MAP_BYTES - 1 - have);
        have += n > 0 ? (size_t)n : 0;
    }
    if (!sys_failed(fd)) {
        sys_close((int)fd);
    }
    return text;
}

static uint64_t next_number(const char **at)
{
    while (**at == ' ' || **at == '\n') {
        ++*at;
    }
    return base_text_number(at, 10);
}

/*
 * The id of one side on the other; false: it has none there. A namespace within another is seen
 * as within the initial one, since the map tells of one step only.
 */
static bool translate(const char *path, enum side from, uint32_t id, uint32_t *ret)
{
    char *text = read_map(path);
    const char *at = text;
    bool found = false;

    while (at && *at && !found) {
        uint64_t first[2], count;

        first[INSIDE] = next_number(&at);
        first[OUTSIDE] = next_number(&at);
        count = next_number(&at);
        found = id >= first[from] && id - first[from] < count;
        if (found) {
            *ret = (uint32_t)(first[!from] + (id - first[from]));
        }
        if (count == 0) {
            break; /* the last line's end, or no line */
        }
    }
    if (text) {
        sys_munmap((uintptr_t)text, MAP_BYTES);
    }
    return found;
}

/* What has no name in the thread's namespace is seen as this, and is one cannot tell whose. */
#define UNNAMED 65534u

enum is { NO, YES, PERHAPS };

#define UIDS "/proc/thread-self/uid_map"
#define GIDS "/proc/thread-self/gid_map"

static bool named(bool initial, const char *path, uint32_t outside, uint32_t *ret)
{
    *ret = outside;
    return initial || translate(path, OUTSIDE, outside, ret);
}

static enum is is_owner(bool initial, uint32_t uid)
{
    uint32_t own = (uint32_t)sys_call(SYS_setfsuid, -1), here;

    if (!initial && own == UNNAMED) {
        return PERHAPS;
    }
    return named(initial, UIDS, uid, &here) && own == here ? YES : NO;
}

/* All groups of the thread, which has 65536 at most; NULL: none, or no memory. */
static uint32_t *read_groups(size_t *ret_count)
{
    uint32_t *groups = sys_scratch(GROUPS_BYTES);
    long n = groups ? sys_call(SYS_getgroups, GROUPS_BYTES / sizeof *groups - 1, groups) : 0;

    if (groups) {
        *ret_count = n > 0 ? (size_t)n : 0;
        groups[(*ret_count)++] = (uint32_t)sys_call(SYS_setfsgid, -1);
    }
    return groups;
}

static enum is in_group(bool initial, uint32_t gid)
{
    uint32_t here, *groups;
    bool has_name = named(initial, GIDS, gid, &here);
    enum is found = NO;
    size_t count = 0;

    groups = read_groups(&count);
    for (size_t i = 0; i < count && found != YES; i++) {
        if (!initial && groups[i] == UNNAMED) {
            found = !has_name || here == UNNAMED ? PERHAPS : found;
        } else if (has_name && groups[i] == here) {
            found = YES;
        }
    }
    if (groups) {
        sys_munmap((uintptr_t)groups, GROUPS_BYTES);
    }
    return groups ? found : PERHAPS;
}

/* capable_wrt_inode_uidgid() of the kernel. */
static bool capable_of_device(bool initial, unsigned cap)
{
    uint32_t here;

    return has_cap(cap) && named(initial, UIDS, core_options.device_uid, &here) &&
           named(initial, GIDS, core_options.device_gid, &here);
}

#define MAY_READ  4u
#define MAY_WRITE 2u

static unsigned wanted_access(int flags)
{
    static const uint8_t of_mode[] = {MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE,
                                      MAY_READ | MAY_WRITE};

    return of_mode[flags & O_ACCMODE] | (flags & O_TRUNC ? MAY_WRITE : 0);
}

/* What the class permits; where it cannot be told whether it is the thread's, only what both do. */
static uint32_t classed(enum is is, uint32_t class, uint32_t others)
{
    return is == YES ? class : is == NO ? others : class & others;
}

/* Access to the device by its configured owner, group and mode, as open(2) decides. */
bool policy_permits_device(int flags)
{
    uint32_t mode = core_options.device_mode;
    unsigned want = wanted_access(flags);
    bool initial;

    if (!core_options.policy_kernel) {
        return true;
    }
    initial = in_initial_userns();
    mode = classed(is_owner(initial, core_options.device_uid), mode >> 6,
                   classed(in_group(initial, core_options.device_gid), mode >> 3, mode));
    if ((mode & want) == want) {
        return true;
    }
    return (want == MAY_READ && capable_of_device(initial, CAP_DAC_READ_SEARCH)) ||
           capable_of_device(initial, CAP_DAC_OVERRIDE);
}
