/* SPDX-License-Identifier: MIT */
/* Creating contexts: the system call, the device, flags, limits, who may. */
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"

/* Whatever the flags under test, one that any user may ask for. */
static int allowed(int flags)
{
    return conf_env.full_mode ? flags : flags | UF_USER_MODE_ONLY;
}

static void check_flags(int fd, bool cloexec, bool nonblock)
{
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, cloexec ? FD_CLOEXEC : 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, nonblock ? O_NONBLOCK : 0);
}

static void create_flags(enum mem_kind kind)
{
    check_flags(uffd_create(allowed(0)), false, false);
    check_flags(uffd_create(allowed(O_CLOEXEC)), true, false);
    check_flags(uffd_create(allowed(O_NONBLOCK)), false, true);
    check_flags(uffd_create(allowed(O_CLOEXEC | O_NONBLOCK)), true, true);
}

static void create_user_mode_only(enum mem_kind kind)
{
    check_flags(uffd_create(UF_USER_MODE_ONLY), false, false);
    check_flags(uffd_create(UF_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK), true, true);
}

static void create_unknown_flags(enum mem_kind kind)
{
    /* USER_MODE_ONLY beside each: permission is looked at before the flags are. */
    for (unsigned bit = 1; bit < 32; bit++) {
        unsigned flag = 1u << bit;
        if (flag != O_CLOEXEC && flag != O_NONBLOCK)
            CHECK_ERRNO(uffd_create((int)(flag | UF_USER_MODE_ONLY)), EINVAL);
    }
    CHECK_ERRNO(uffd_create(~0), EINVAL);
}

static void create_lowest_descriptor(enum mem_kind kind)
{
    int first = dup(STDOUT_FILENO), second = dup(STDOUT_FILENO);

    close(first);
    close(second);
    CHECK_EQ(uffd_create(allowed(0)), first);
    CHECK_EQ(uffd_create(allowed(0)), second);
    close(first);
    CHECK_EQ(uffd_create(allowed(0)), first);
}

static void create_emfile(enum mem_kind kind)
{
    /* The user backend opens a few descriptors of its own with the first context. */
    CHECK(uffd_open(0) >= 0);
    int next = dup(STDOUT_FILENO);
    struct rlimit limit = {(rlim_t)next, 4096};

    close(next);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_ERRNO(uffd_create(allowed(0)), EMFILE);
    CHECK_ERRNO(uffd_create(allowed(O_CLOEXEC)), EMFILE);
    CHECK_ERRNO(dup(STDOUT_FILENO), EMFILE); /* and none was lost, or left behind */
    /* The kernel needs one descriptor a context; ours a few more, which the program never sees. */
    if (conf_env.user_backend) {
        limit.rlim_cur = (rlim_t)next + 16;
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    }
    close(STDIN_FILENO);
    CHECK_EQ(uffd_create(allowed(0)), STDIN_FILENO);
    CHECK_EQ(uffd_api(STDIN_FILENO, 0), 0);
}

#define MANY 10000

static void create_many(enum mem_kind kind)
{
    static int fds[MANY];
    struct rlimit limit;
    struct mem mem = mem_map(MEM_ANON, MANY);
    char *source = source_new(1, 1);

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    if (limit.rlim_max < MANY + 100 || setrlimit(RLIMIT_NOFILE, &limit) != 0)
        case_skip("RLIMIT_NOFILE allows %llu descriptors", (unsigned long long)limit.rlim_max);
    for (int i = 0; i < MANY; i++) {
        fds[i] = uffd_open(0);
        CHECK_EQ(uffd_register(fds[i], mem_page(&mem, (size_t)i), page_size), 0);
    }
    /* The first, the last and one between still answer for their own page. */
    for (int i = 0; i < MANY; i += (MANY - 1) / 3) {
        struct touch touch = {0};
        touch_start(&touch, mem_page(&mem, (size_t)i), false);
        uffd_next_fault(fds[i], mem_page(&mem, (size_t)i), 0);
        CHECK_EQ(uffd_copy(fds[i], mem_page(&mem, (size_t)i), source, page_size), 0);
        CHECK_EQ(touch_join(&touch), (unsigned char)source[0]);
    }
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(close(fds[i]), 0);
    CHECK_EQ(*mem_page(&mem, 1), 0);
}

static void create_again(enum mem_kind kind)
{
    int first = -1;

    for (int i = 0; i < 20000; i++) {
        int fd = uffd_create(allowed(O_CLOEXEC));
        CHECK(fd >= 0);
        if (first == -1)
            first = fd;
        CHECK_EQ(fd, first); /* closing leaves nothing in the table of descriptors */
        close(fd);
    }
}

static void create_independent(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int one = uffd_open(0), two = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(one, mem.addr, page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 1), page_size), 0);
    touch_start(&touch, mem_page(&mem, 1), false);
    uffd_next_fault(two, mem_page(&mem, 1), 0);
    uffd_check_silent(one);
    CHECK_EQ(uffd_zero(two, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(touch_join(&touch), 0);
}

/* ------------------------------------------------------------------ the device */

static int open_device(void)
{
    int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    CHECK(fd != -1);
    return fd;
}

static void device_new(enum mem_kind kind)
{
    int device = open_device();

    check_flags(ioctl(device, UF_IOC_NEW, 0), false, false);
    check_flags(ioctl(device, UF_IOC_NEW, O_CLOEXEC), true, false);
    check_flags(ioctl(device, UF_IOC_NEW, O_NONBLOCK), false, true);
    check_flags(ioctl(device, UF_IOC_NEW, O_CLOEXEC | O_NONBLOCK), true, true);
    check_flags(ioctl(device, UF_IOC_NEW, UF_USER_MODE_ONLY), false, false);
}

static void device_bad(enum mem_kind kind)
{
    int device = open_device();
    struct uf_io_api api = {.api = UF_API};

    CHECK_ERRNO(ioctl(device, UF_IOC_NEW, ~0), EINVAL);
    CHECK_ERRNO(ioctl(device, UF_IOC_NEW, 2), EINVAL);
    CHECK_ERRNO(ioctl(device, UF_IOC_NEW + 1, 0), EINVAL);
    CHECK_ERRNO(ioctl(device, UF_IO_API, &api), EINVAL);
}

static void device_equivalent(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    char *source = source_new(1, 3);
    int device = open_device();
    int uffd = ioctl(device, UF_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    struct touch touch = {0};

    CHECK_EQ(close(device), 0); /* a context does not need its device */
    CHECK_EQ(uffd_api(uffd, 0), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, true);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    touch_join(&touch);
    CHECK_EQ(mem.addr[0], 0x77);
    CHECK_EQ(mem.addr[1], source[1]);
}

static void device_openat_and_modes(enum mem_kind kind)
{
    int dir = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int device = openat(dir, "userfaultfd", O_RDONLY | O_CLOEXEC);

    CHECK(device != -1);
    check_flags(ioctl(device, UF_IOC_NEW, 0), false, false);
    device = open("/dev/userfaultfd", O_WRONLY);
    CHECK(device != -1);
    check_flags(ioctl(device, UF_IOC_NEW, 0), false, false);
    CHECK_EQ(fcntl(device, F_GETFD), 0);
}

/* ------------------------------------------------------------------ permission */

static int unprivileged(void *arg)
{
    if (syscall(SYS_setresuid, 65534, 65534, 65534) != 0)
        return 2;
    if (uffd_create(0) != -1 || errno != EPERM)
        return 3;
    if (uffd_create(O_NONBLOCK | 2) != -1 || errno != EPERM)
        return 4;
    if (uffd_create(UF_USER_MODE_ONLY | O_CLOEXEC) == -1)
        return 5;
    return 0;
}

static void create_permission(enum mem_kind kind)
{
    const char *policy = getenv("USERFAULT_POLICY");
    char value = '0';
    int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);

    if (conf_env.user_backend && !(policy && strcmp(policy, "kernel") == 0))
        case_skip("policy open permits everybody");
    if (fd != -1 && read(fd, &value, 1) == 1 && value != '0')
        case_skip("vm.unprivileged_userfaultfd is %c", value);
    CHECK_EXITED(child_status(unprivileged, NULL), 0);
}

static int device_by_nobody(void *arg)
{
    int device = *(int *)arg;

    if (syscall(SYS_setresuid, 65534, 65534, 65534) != 0)
        return 2;
    /* Whoever has the device may trap the kernel's accesses, too: the sysctl is not asked. */
    if (ioctl(device, UF_IOC_NEW, O_CLOEXEC) == -1)
        return 3;
    if (open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) != -1)
        return 4;
    return errno == EACCES ? 0 : 5;
}

static void device_permission(enum mem_kind kind)
{
    const char *policy = getenv("USERFAULT_POLICY");
    int device = open_device();
    struct stat st;

    if (conf_env.user_backend && !(policy && strcmp(policy, "kernel") == 0))
        case_skip("policy open permits everybody");
    if (!conf_env.user_backend && (fstat(device, &st) != 0 || (st.st_mode & 06)))
        case_skip("/dev/userfaultfd is open to all here");
    CHECK_EXITED(child_status(device_by_nobody, &device), 0);
}

/* ------------------------------------------------------------------ exec */

static void create_exec(enum mem_kind kind)
{
    int kept = uffd_create(allowed(0)), closed = uffd_create(allowed(O_CLOEXEC));
    char kept_arg[16], closed_arg[16];

    snprintf(kept_arg, sizeof(kept_arg), "%d", kept);
    snprintf(closed_arg, sizeof(closed_arg), "%d", closed);
    pid_t pid = fork();
    if (pid == 0) {
        execl(conf_env.self, conf_env.self, "--helper", "descriptors", kept_arg, closed_arg, NULL);
        _exit(127);
    }
    CHECK_EXITED(child_wait(pid), 0);
}

#define RST_CREATE "rst: Creating a userfaultfd"
#define MAN_CREATE "userfaultfd(2)"

const struct conf_case create_cases[] = {
    {"create/flags", MAN_CREATE, .run = create_flags},
    {"create/user-mode-only", RST_CREATE, .run = create_user_mode_only},
    {"create/unknown-flags", MAN_CREATE, .run = create_unknown_flags},
    {"create/lowest-descriptor", MAN_CREATE, .run = create_lowest_descriptor},
    {"create/emfile", MAN_CREATE, .run = create_emfile},
    {"create/ten-thousand", MAN_CREATE, .seconds = 40, .run = create_many},
    {"create/again-and-again", MAN_CREATE, .run = create_again},
    {"create/independent", RST_CREATE, .run = create_independent},
    {"create/device", RST_CREATE, .needs = NEED_DEVICE, .run = device_new},
    {"create/device-bad-input", RST_CREATE, .needs = NEED_DEVICE, .run = device_bad},
    {"create/device-equivalent", RST_CREATE, .needs = NEED_DEVICE, .run = device_equivalent},
    {"create/device-openat", RST_CREATE, .needs = NEED_DEVICE, .run = device_openat_and_modes},
    {"create/permission", RST_CREATE, .needs = NEED_ROOT, .run = create_permission},
    {"create/device-permission", RST_CREATE, .needs = NEED_ROOT | NEED_DEVICE,
     .run = device_permission},
    {"create/exec", MAN_CREATE, .run = create_exec},
    {.id = NULL},
};
