/* SPDX-License-Identifier: MIT */
/*
 * ioctls with hidden arguments, and with hidden memory behind their arguments. What this machine
 * has no device for is left out.
 */
#include <linux/fiemap.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kd.h>
#include <linux/kvm.h>
#include <linux/loop.h>
#include <linux/random.h>
#include <linux/vt.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "calls.h"

static int device(const char *path)
{
    return open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
}

/* The kernel's own structure is shorter than libc's. */
#define TERMIOS 36

static void terminals(struct place *p)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), off = 0;
    char *terms = place_out(p, TERMIOS);
    int *outq = PLACE_OUT(p, int), *line = PLACE_OUT(p, int), *packet = PLACE_IN(p, off);
    struct termios now;

    if (master == -1)
        case_skip("no terminals here");
    place_faults(p);
    CHECK_EQ(ioctl(master, TCGETS, terms), 0);
    CHECK_EQ(place_faults(p), place_closed(p));
    CHECK_EQ(tcgetattr(master, &now), 0);
    CHECK_EQ(memcmp(terms, &now.c_iflag, sizeof now.c_iflag), 0);
    CHECK_EQ(ioctl(master, TCSETS, place_in(p, terms, TERMIOS)), 0);
    CHECK_EQ(ioctl(master, TIOCOUTQ, outq), 0);
    CHECK_EQ(*outq, 0);
    CHECK_EQ(ioctl(master, TIOCGETD, line), 0);
    CHECK_EQ(ioctl(master, TIOCPKT, packet), 0);
    CHECK_ERRNO(ioctl(master, TCGETS, unmapped()), EFAULT);
    CHECK_ERRNO(ioctl(master, TIOCPKT, unmapped()), EFAULT);
    close(master);
}

static void call_ioctl_terminals(enum mem_kind kind)
{
    place_each(kind, terminals);
}

static void consoles(struct place *p)
{
    int fd = device("/dev/tty0");
    struct vt_stat *state = PLACE_OUT(p, struct vt_stat);
    int *mode = PLACE_OUT(p, int);
    struct unipair *pairs = place_out(p, 1024 * sizeof *pairs);
    struct unimapdesc map = {.entry_ct = 1024, .entries = pairs}, *hidden;

    if (fd == -1)
        case_skip("no console here");
    CHECK_EQ(ioctl(fd, VT_GETSTATE, state), 0);
    CHECK(state->v_active > 0);
    CHECK_EQ(ioctl(fd, KDGETMODE, mode), 0);
    hidden = PLACE_IN(p, map);
    if (ioctl(fd, GIO_UNIMAP, hidden) == 0)
        CHECK(hidden->entry_ct <= 1024);
    close(fd);
}

static void call_ioctl_consoles(enum mem_kind kind)
{
    place_each(kind, consoles);
}

static char file[] = "/tmp/conformance-XXXXXX";

static void files(struct place *p)
{
    const size_t bytes_of_map = sizeof(struct fiemap) + 4 * sizeof(struct fiemap_extent);
    struct fiemap *ask = calloc(1, bytes_of_map), *got;
    int fd = device(file), *flags = PLACE_OUT(p, int), *block = PLACE_OUT(p, int);
    long *bytes = PLACE_OUT(p, long);

    CHECK_EQ(ioctl(fd, FIOQSIZE, bytes), 0);
    CHECK(*bytes > 0);
    if (ioctl(fd, FS_IOC_GETFLAGS, flags) == 0)
        CHECK_EQ(ioctl(fd, FS_IOC_SETFLAGS, PLACE_IN(p, *flags)), 0);
    else
        CHECK(errno == ENOTTY || errno == EOPNOTSUPP);
    CHECK_EQ(ioctl(fd, FIGETBSZ, block), 0);
    CHECK(*block >= 512);
    *ask = (struct fiemap){
        .fm_length = FIEMAP_MAX_OFFSET, .fm_flags = FIEMAP_FLAG_SYNC, .fm_extent_count = 4};
    got = place_in(p, ask, bytes_of_map);
    if (ioctl(fd, FS_IOC_FIEMAP, got) == 0) {
        CHECK_EQ(got->fm_mapped_extents, 1);
        CHECK(got->fm_extents[0].fe_length > 0);
    } else {
        CHECK_EQ(errno, EOPNOTSUPP);
    }
    CHECK_ERRNO(ioctl(fd, FIGETBSZ, unmapped()), EFAULT);
    free(ask);
    close(fd);
}

static void call_ioctl_files(enum mem_kind kind)
{
    int fd = mkstemp(file);

    CHECK(fd >= 0);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(fsync(fd), 0); /* where it lies is known then */
    place_each(kind, files);
    CHECK_EQ(unlink(file), 0);
}

static void disks(struct place *p)
{
    int fd = open("/dev/loop0", O_RDONLY | O_CLOEXEC), *sector = PLACE_OUT(p, int);
    unsigned short *turns = PLACE_OUT(p, unsigned short);
    long *sectors = PLACE_OUT(p, long);
    uint64_t *bytes = PLACE_OUT(p, uint64_t);
    struct loop_info64 *info = PLACE_OUT(p, struct loop_info64);

    if (fd == -1)
        case_skip("no loop device here");
    CHECK_EQ(ioctl(fd, BLKSSZGET, sector), 0);
    CHECK(*sector >= 512);
    CHECK_EQ(ioctl(fd, BLKROTATIONAL, turns), 0);
    CHECK(*turns <= 1);
    CHECK_EQ(ioctl(fd, BLKGETSIZE, sectors), 0);
    CHECK_EQ(ioctl(fd, BLKGETSIZE64, bytes), 0);
    CHECK_EQ(*bytes, (uint64_t)*sectors * 512);
    CHECK(ioctl(fd, LOOP_GET_STATUS64, info) == 0 || errno == ENXIO);
    CHECK_ERRNO(ioctl(fd, BLKSSZGET, unmapped()), EFAULT);
    close(fd);
}

static void call_ioctl_disks(enum mem_kind kind)
{
    place_each(kind, disks);
}

static void interfaces(struct place *p)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq *all = place_out(p, 4 * sizeof *all), lo = {.ifr_name = "lo"}, *got;
    struct ifconf conf = {.ifc_len = 4 * sizeof *all, .ifc_req = all}, *hidden = PLACE_IN(p, conf);

    if (fd == -1)
        case_skip("no network here");
    CHECK_EQ(ioctl(fd, SIOCGIFCONF, hidden), 0);
    CHECK(hidden->ifc_len <= conf.ifc_len);
    got = PLACE_IN(p, lo);
    CHECK_EQ(ioctl(fd, SIOCGIFINDEX, got), 0);
    CHECK_EQ(got->ifr_ifindex, (int)if_nametoindex("lo"));
    lo.ifr_ifindex = got->ifr_ifindex;
    memset(lo.ifr_name, 0, sizeof lo.ifr_name);
    got = PLACE_IN(p, lo);
    CHECK_EQ(ioctl(fd, SIOCGIFNAME, got), 0);
    CHECK_EQ(strcmp(got->ifr_name, "lo"), 0);
    CHECK_ERRNO(ioctl(fd, SIOCGIFCONF, unmapped()), EFAULT);
    CHECK_ERRNO(ioctl(fd, SIOCGIFFLAGS, unmapped()), EFAULT);
    close(fd);
}

/* It is made once: another time it would be an error. Its number says an int. */
static void tunnels(struct place *p)
{
    int fd = device("/dev/net/tun");
    struct ifreq wanted = {.ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "conform%d"}, *made, *got;
    struct sock_filter accept = {.code = BPF_RET | BPF_K, .k = 0xffff};
    struct sock_fprog prog = {.len = 1, .filter = PLACE_IN(p, accept)};

    if (fd == -1)
        return;
    made = PLACE_IN(p, wanted);
    if (ioctl(fd, TUNSETIFF, made) == 0) {
        CHECK_EQ(memcmp(made->ifr_name, "conform", 7), 0);
        got = PLACE_OUT(p, struct ifreq);
        CHECK_EQ(ioctl(fd, TUNGETIFF, got), 0);
        CHECK_EQ(strcmp(got->ifr_name, made->ifr_name), 0);
        CHECK(ioctl(fd, TUNATTACHFILTER, PLACE_IN(p, prog)) == 0 || errno == EINVAL); /* of TAP */
    } else {
        CHECK_EQ(errno, EPERM);
    }
    close(fd);
}

static void call_ioctl_interfaces(enum mem_kind kind)
{
    place_each(kind, interfaces);
    place_each(kind, tunnels);
}

static void machines(struct place *p)
{
    int fd = device("/dev/kvm");

    if (fd == -1)
        case_skip("no KVM here");
#ifdef __x86_64__
    struct kvm_cpuid2 *leaves = calloc(1, sizeof *leaves + 200 * sizeof leaves->entries[0]), *got;
    struct kvm_msr_list none = {0}, *list = PLACE_IN(p, none);

    leaves->nent = 200;
    got = place_in(p, leaves, sizeof *leaves + 200 * sizeof leaves->entries[0]);
    CHECK_EQ(ioctl(fd, KVM_GET_SUPPORTED_CPUID, got), 0);
    CHECK(got->nent > 0 && got->nent <= 200);
    CHECK_EQ(ioctl(fd, KVM_GET_SUPPORTED_CPUID, leaves), 0);
    CHECK_EQ(got->entries[0].eax, leaves->entries[0].eax);
    CHECK_EQ(got->entries[got->nent - 1].function, leaves->entries[leaves->nent - 1].function);
    CHECK_ERRNO(ioctl(fd, KVM_GET_MSR_INDEX_LIST, list), E2BIG);
    CHECK(list->nmsrs > 0);
    size_t bytes = sizeof *list + list->nmsrs * sizeof list->indices[0];
    struct kvm_msr_list *all = calloc(1, bytes);
    all->nmsrs = list->nmsrs;
    list = place_in(p, all, bytes);
    CHECK_EQ(ioctl(fd, KVM_GET_MSR_INDEX_LIST, list), 0);
    CHECK(list->indices[list->nmsrs - 1] != 0);
    free(all);
    free(leaves);
#endif
    close(fd);
}

static void call_ioctl_machines(enum mem_kind kind)
{
    place_each(kind, machines);
}

static void entropy(struct place *p)
{
    struct rand_pool_info *pool = calloc(1, sizeof *pool + 64);
    int fd = device("/dev/random"), *count = PLACE_OUT(p, int);

    CHECK_EQ(ioctl(fd, RNDGETENTCNT, count), 0);
    CHECK(*count > 0);
    pool->buf_size = 64;
    CHECK(ioctl(fd, RNDADDENTROPY, place_in(p, pool, sizeof *pool + 64)) == 0 || errno == EPERM);
    free(pool);
    CHECK_ERRNO(ioctl(fd, RNDGETENTCNT, unmapped()), EFAULT);
    close(fd);
}

static void call_ioctl_entropy(enum mem_kind kind)
{
    place_each(kind, entropy);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_ioctl_cases[] = {
    {"call/ioctl-terminals", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_ioctl_terminals},
    {"call/ioctl-consoles", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_ioctl_consoles},
    {"call/ioctl-files", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_ioctl_files},
    {"call/ioctl-disks", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_ioctl_disks},
    {"call/ioctl-interfaces", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_ioctl_interfaces},
    {"call/ioctl-machines", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_ioctl_machines},
    {"call/ioctl-entropy", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_ioctl_entropy},
    {.id = NULL},
};
