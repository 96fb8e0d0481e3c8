/* SPDX-License-Identifier: MIT */
/* System calls into the kernel's own services, with their arguments in hidden memory. */
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "calls.h"

/* A system without the call, or that keeps it from this user, has nothing to show. */
static long made_or_skip(const char *what, long ret)
{
    if (ret == -1 && (errno == ENOSYS || errno == EPERM || errno == EACCES || errno == EDQUOT))
        case_skip("no %s here: %s", what, strerror(errno));
    CHECK(ret != -1);
    return ret;
}

static void keys(struct place *p)
{
    const int process = KEY_SPEC_PROCESS_KEYRING;
    char *out = place_out(p, 64);
    long key = made_or_skip("keys", syscall(SYS_add_key, place_text(p, "user"),
                                            place_text(p, "conformance"), place_in(p, "secret", 6),
                                            6, process));

    CHECK_EQ(syscall(SYS_keyctl, KEYCTL_READ, key, out, 6), 6);
    CHECK_EQ(memcmp(out, "secret", 6), 0);
    CHECK_EQ(syscall(SYS_keyctl, KEYCTL_UPDATE, key, place_in(p, "longer", 6), 6), 0);
    out = place_out(p, 64);
    CHECK(syscall(SYS_keyctl, KEYCTL_DESCRIBE, key, out, 64) > 0);
    CHECK_EQ(memcmp(out, "user;", 5), 0);
    CHECK_EQ(syscall(SYS_keyctl, KEYCTL_SEARCH, process, place_text(p, "user"),
                     place_text(p, "conformance"), 0),
             key);
    CHECK_EQ(syscall(SYS_request_key, place_text(p, "user"), place_text(p, "conformance"), NULL, 0),
             key);
    struct iovec iov = {place_in(p, "in parts", 8), 8};
    CHECK_ERRNO(syscall(SYS_keyctl, KEYCTL_INSTANTIATE_IOV, key, PLACE_IN(p, iov), 1, 0), EPERM);
    CHECK_ERRNO(syscall(SYS_keyctl, KEYCTL_READ, key, unmapped(), 6), EFAULT);
    CHECK_ERRNO(syscall(SYS_keyctl, KEYCTL_UPDATE, key, unmapped(), 6), EFAULT);
    CHECK_ERRNO(syscall(SYS_add_key, place_text(p, "user"), unmapped(), NULL, 0, process), EFAULT);
    CHECK_EQ(syscall(SYS_keyctl, KEYCTL_INVALIDATE, key), 0);
}

static void call_keys(enum mem_kind kind)
{
    place_each(kind, keys);
}

#define PREFERRED 1

static void policies(struct place *p)
{
    unsigned long node = 1, none = 0, *got = PLACE_OUT(p, unsigned long);
    int *mode = PLACE_OUT(p, int), *status = PLACE_OUT(p, int);
    static char page[1] = {1};
    void *pages[] = {page};
    char *own = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    made_or_skip("NUMA policies",
                 syscall(SYS_set_mempolicy, PREFERRED, PLACE_IN(p, node), 8 * sizeof node));
    CHECK_EQ(syscall(SYS_get_mempolicy, mode, got, 8 * sizeof node, NULL, 0), 0);
    CHECK_EQ(*mode, PREFERRED);
    CHECK_EQ(*got, 1);
    CHECK_EQ(syscall(SYS_set_mempolicy, 0, NULL, 0), 0);
    CHECK_EQ(syscall(SYS_mbind, own, page_size, PREFERRED, PLACE_IN(p, node), 8 * sizeof node, 0),
             0);
    if (FORBIDDEN(syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0)))
        case_skip("no move_pages here");
    CHECK_EQ(syscall(SYS_move_pages, 0, 1, place_in(p, pages, sizeof pages), NULL, status, 0), 0);
    CHECK(*status >= 0);
    CHECK_EQ(syscall(SYS_migrate_pages, 0, 8 * sizeof node, PLACE_IN(p, none), PLACE_IN(p, node)),
             0);
    CHECK_ERRNO(syscall(SYS_set_mempolicy, PREFERRED, unmapped(), 8 * sizeof node), EFAULT);
    CHECK_ERRNO(syscall(SYS_get_mempolicy, unmapped(), NULL, 0, NULL, 0), EFAULT);
    CHECK_EQ(munmap(own, page_size), 0);
}

static void call_policies(enum mem_kind kind)
{
    place_each(kind, policies);
}

static long bpf(struct place *p, int cmd, const union bpf_attr *attr)
{
    return syscall(SYS_bpf, cmd, place_in(p, attr, sizeof *attr), sizeof *attr);
}

static void maps(struct place *p)
{
    uint32_t key = 2, *next = PLACE_OUT(p, uint32_t);
    uint64_t value = 77, *got = PLACE_OUT(p, uint64_t);
    struct bpf_map_info *info = PLACE_OUT(p, struct bpf_map_info);
    union bpf_attr create = {
        .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 4};
    unsigned map = (unsigned)made_or_skip("bpf", bpf(p, BPF_MAP_CREATE, &create));
    union bpf_attr attr = {
        .map_fd = map, .key = (uintptr_t)PLACE_IN(p, key), .value = (uintptr_t)PLACE_IN(p, value)};

    CHECK_EQ(bpf(p, BPF_MAP_UPDATE_ELEM, &attr), 0);
    attr.value = (uintptr_t)got;
    CHECK_EQ(bpf(p, BPF_MAP_LOOKUP_ELEM, &attr), 0);
    CHECK_EQ(*got, 77);
    attr = (union bpf_attr){.map_fd = map, .next_key = (uintptr_t)next};
    CHECK_EQ(bpf(p, BPF_MAP_GET_NEXT_KEY, &attr), 0);
    CHECK_EQ(*next, 2);
    got = PLACE_OUT(p, uint64_t); /* taken out, and told: once */
    attr = (union bpf_attr){
        .map_fd = map, .key = (uintptr_t)PLACE_IN(p, key), .value = (uintptr_t)got};
    CHECK_EQ(bpf(p, BPF_MAP_LOOKUP_AND_DELETE_ELEM, &attr), 0);
    CHECK_EQ(*got, 77);
    attr = (union bpf_attr){
        .info = {.bpf_fd = map, .info_len = sizeof *info, .info = (uintptr_t)info}};
    CHECK_EQ(bpf(p, BPF_OBJ_GET_INFO_BY_FD, &attr), 0);
    CHECK_EQ(info->value_size, 8);
    CHECK_ERRNO(syscall(SYS_bpf, BPF_MAP_CREATE, unmapped(), sizeof attr), EFAULT);
    close((int)map);
}

static void programs(struct place *p)
{
    struct bpf_insn insns[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
    char *log = place_out(p, 512);
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
                           .insns = (uintptr_t)place_in(p, insns, sizeof insns),
                           .insn_cnt = 2,
                           .license = (uintptr_t)place_text(p, "MIT"),
                           .log_level = 2,
                           .log_size = 512,
                           .log_buf = (uintptr_t)log};
    long program = made_or_skip("bpf", bpf(p, BPF_PROG_LOAD, &load));

    CHECK(strstr(log, "exit") != NULL);
    close((int)program);
}

static void call_bpf(enum mem_kind kind)
{
    place_each(kind, maps);
    place_each(kind, programs);
}

static void events(struct place *p)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
                                   .size = sizeof attr,
                                   .config = PERF_COUNT_SW_DUMMY,
                                   .exclude_kernel = 1};
    int fd = (int)made_or_skip("perf events",
                               syscall(SYS_perf_event_open, PLACE_IN(p, attr), 0, -1, -1, 0));
    uint64_t *id = PLACE_OUT(p, uint64_t), *count = PLACE_OUT(p, uint64_t);

    CHECK_EQ(ioctl(fd, PERF_EVENT_IOC_ID, id), 0);
    CHECK(*id > 0);
    CHECK_EQ(read(fd, count, sizeof *count), sizeof *count);
    CHECK_ERRNO(syscall(SYS_perf_event_open, unmapped(), 0, -1, -1, 0), EFAULT);
    close(fd);
}

static void call_perf(enum mem_kind kind)
{
    place_each(kind, events);
}

/* What a process gives up. */
static void limits(struct place *p)
{
    struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_SOCK};
    struct landlock_path_beneath_attr beneath = {.allowed_access = LANDLOCK_ACCESS_FS_MAKE_SOCK,
                                                 .parent_fd = open("/", O_PATH | O_CLOEXEC)};
    struct sock_filter all = {.code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW};
    struct sock_fprog prog = {.len = 1, .filter = PLACE_IN(p, all)};
    struct seccomp_notif_sizes *sizes = PLACE_OUT(p, struct seccomp_notif_sizes);
    uint32_t action = SECCOMP_RET_ALLOW, no_action = 0x12340000;
    long fd = syscall(SYS_landlock_create_ruleset, PLACE_IN(p, rules), sizeof rules, 0);

    if (fd != -1) {
        CHECK_EQ(
            syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, PLACE_IN(p, beneath), 0),
            0);
        CHECK_ERRNO(syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, unmapped(), 0),
                    EFAULT);
        close((int)fd);
    } else {
        CHECK(errno == ENOSYS || errno == EOPNOTSUPP);
    }
    CHECK_EQ(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, sizes), 0);
    CHECK_EQ(sizes->seccomp_data, sizeof(struct seccomp_data));
    CHECK_EQ(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, PLACE_IN(p, action)), 0);
    CHECK_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, PLACE_IN(p, no_action)),
                EOPNOTSUPP);
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, PLACE_IN(p, prog)), 0);
    prog.filter = PLACE_IN(p, all);
    CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PLACE_IN(p, prog)), 0);
    CHECK_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, unmapped()), EFAULT);
}

static void call_limits(enum mem_kind kind)
{
    place_each(kind, limits);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_kernel_cases[] = {
    {"call/keys", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_keys},
    {"call/policies", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_policies},
    {"call/bpf", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_bpf},
    {"call/perf", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_perf},
    {"call/limits", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_limits},
    {.id = NULL},
};
