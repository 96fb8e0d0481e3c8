/* SPDX-License-Identifier: MIT */
/*
 * ioctl's argument, which the request says: its size and direction stand in the number, but
 *  - not in numbers that are older than that convention, nor in some that broke it: listed[];
 *  - nor does the number say what the structure points to, or what follows it: inner[].
 * Requests whose argument is no pointer have no size; one of theirs, in a number with one, is an
 * address that belongs to nobody.
 */
#include <linux/fs.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <sys/ioctl.h>

#include <linux/blkpg.h>
#include <linux/blkzoned.h>
#include <linux/cdrom.h>
#include <linux/dm-ioctl.h>
#include <linux/fb.h>
#include <linux/fiemap.h>
#include <linux/filter.h>
#include <linux/hdreg.h>
#include <linux/i2c-dev.h>
#include <linux/i2c.h>
#include <linux/if_tun.h>
#include <linux/kd.h>
#include <linux/kvm.h>
#include <linux/loop.h>
#include <linux/net_tstamp.h>
#include <linux/perf_event.h>
#include <linux/random.h>
#include <linux/serial.h>
#include <linux/sockios.h>
#include <linux/udmabuf.h>
#include <linux/uinput.h>
#include <linux/usbdevice_fs.h>
#include <linux/vhost.h>
#include <linux/vt.h>
#include <scsi/sg.h>

#include "core/core.h"
#include "walk.h"

#define INT            sizeof(int)
#define LONG           sizeof(long)
#define KERNEL_TERMIOS 36
#define KERNEL_TERMIO  18
#define KERNEL_RS485   32
#define BIG_MAX        ((size_t)1 << 24) /* no driver takes more than that in one piece */

/* As old as can be, or wrong: by the structure that the kernel really takes. All of them only ask
 * or set, so one that failed with EFAULT has done nothing. */
static const struct walk_cmd listed[] = {
    /* terminals and lines */
    {TCGETS, KERNEL_TERMIOS, ARG_OUT},
    {TCSETS, KERNEL_TERMIOS, ARG_IN},
    {TCSETSW, KERNEL_TERMIOS, ARG_IN},
    {TCSETSF, KERNEL_TERMIOS, ARG_IN},
    {TCGETA, KERNEL_TERMIO, ARG_OUT},
    {TCSETA, KERNEL_TERMIO, ARG_IN},
    {TCSETAW, KERNEL_TERMIO, ARG_IN},
    {TCSETAF, KERNEL_TERMIO, ARG_IN},
    {TIOCGLCKTRMIOS, KERNEL_TERMIOS, ARG_OUT},
    {TIOCSLCKTRMIOS, KERNEL_TERMIOS, ARG_IN},
    {TIOCGWINSZ, sizeof(struct winsize), ARG_OUT},
    {TIOCSWINSZ, sizeof(struct winsize), ARG_IN},
    {TIOCGPGRP, INT, ARG_OUT},
    {TIOCSPGRP, INT, ARG_IN},
    {TIOCGSID, INT, ARG_OUT},
    {TIOCOUTQ, INT, ARG_OUT},
    {TIOCMGET, INT, ARG_OUT},
    {TIOCMSET, INT, ARG_IN},
    {TIOCMBIS, INT, ARG_IN},
    {TIOCMBIC, INT, ARG_IN},
    {TIOCSTI, 1, ARG_IN},
    {TIOCGETD, INT, ARG_OUT},
    {TIOCSETD, INT, ARG_IN},
    {TIOCGSOFTCAR, INT, ARG_OUT},
    {TIOCSSOFTCAR, INT, ARG_IN},
    {TIOCPKT, INT, ARG_IN},
    {TIOCGSERIAL, sizeof(struct serial_struct), ARG_OUT},
    {TIOCSSERIAL, sizeof(struct serial_struct), ARG_IN},
    {TIOCSERGETLSR, INT, ARG_OUT},
    {TIOCGICOUNT, sizeof(struct serial_icounter_struct), ARG_OUT},
    {TIOCGRS485, KERNEL_RS485, ARG_OUT},
    {TIOCSRS485, KERNEL_RS485, ARG_INOUT},
    {TIOCLINUX, 1, ARG_IN},
    /* consoles and keyboards */
    {KDGETLED, 1, ARG_OUT},
    {KDGKBTYPE, 1, ARG_OUT},
    {KDGETMODE, INT, ARG_OUT},
    {KDGKBMODE, INT, ARG_OUT},
    {KDGKBMETA, INT, ARG_OUT},
    {KDGKBLED, 1, ARG_OUT},
    {KDGKBENT, sizeof(struct kbentry), ARG_INOUT},
    {KDSKBENT, sizeof(struct kbentry), ARG_IN},
    {KDGKBSENT, sizeof(struct kbsentry), ARG_INOUT},
    {KDSKBSENT, sizeof(struct kbsentry), ARG_IN},
    {KDGETKEYCODE, sizeof(struct kbkeycode), ARG_INOUT},
    {KDSETKEYCODE, sizeof(struct kbkeycode), ARG_IN},
    {KDKBDREP, sizeof(struct kbd_repeat), ARG_INOUT},
    {GIO_SCRNMAP, E_TABSZ, ARG_OUT},
    {PIO_SCRNMAP, E_TABSZ, ARG_IN},
    {GIO_UNISCRNMAP, E_TABSZ * 2, ARG_OUT},
    {PIO_UNISCRNMAP, E_TABSZ * 2, ARG_IN},
    {GIO_CMAP, 48, ARG_OUT},
    {PIO_CMAP, 48, ARG_IN},
    {GIO_UNIMAP, sizeof(struct unimapdesc), ARG_INOUT},
    {PIO_UNIMAP, sizeof(struct unimapdesc), ARG_IN},
    {VT_OPENQRY, INT, ARG_OUT},
    {VT_GETMODE, sizeof(struct vt_mode), ARG_OUT},
    {VT_SETMODE, sizeof(struct vt_mode), ARG_IN},
    {VT_GETSTATE, sizeof(struct vt_stat), ARG_OUT},
    {VT_RESIZE, sizeof(struct vt_sizes), ARG_IN},
    {VT_RESIZEX, sizeof(struct vt_consize), ARG_IN},
    {VT_GETHIFONTMASK, 2, ARG_OUT},
    {VT_SETACTIVATE, sizeof(struct vt_setactivate), ARG_IN},
    {FBIOGET_VSCREENINFO, sizeof(struct fb_var_screeninfo), ARG_OUT},
    {FBIOPUT_VSCREENINFO, sizeof(struct fb_var_screeninfo), ARG_INOUT},
    {FBIOPAN_DISPLAY, sizeof(struct fb_var_screeninfo), ARG_INOUT},
    {FBIOGET_FSCREENINFO, sizeof(struct fb_fix_screeninfo), ARG_OUT},
    /* files: what says long is an int */
    {FIONREAD, INT, ARG_OUT},
    {FIONBIO, INT, ARG_IN},
    {FIOASYNC, INT, ARG_IN},
    {FIOQSIZE, LONG, ARG_OUT},
    {FIBMAP, INT, ARG_INOUT},
    {FIGETBSZ, INT, ARG_OUT},
    {FS_IOC_GETFLAGS, INT, ARG_OUT},
    {FS_IOC_SETFLAGS, INT, ARG_IN},
    {FS_IOC_GETVERSION, INT, ARG_OUT},
    {FS_IOC_SETVERSION, INT, ARG_IN},
    {FS_IOC_FIEMAP, sizeof(struct fiemap), ARG_INOUT},
    /* disks */
    {BLKROSET, INT, ARG_IN},
    {BLKROGET, INT, ARG_OUT},
    {BLKGETSIZE, LONG, ARG_OUT},
    {BLKRAGET, LONG, ARG_OUT},
    {BLKFRAGET, LONG, ARG_OUT},
    {BLKSECTGET, 2, ARG_OUT},
    {BLKSSZGET, INT, ARG_OUT},
    {BLKPBSZGET, INT, ARG_OUT},
    {BLKIOMIN, INT, ARG_OUT},
    {BLKIOOPT, INT, ARG_OUT},
    {BLKALIGNOFF, INT, ARG_OUT},
    {BLKDISCARDZEROES, INT, ARG_OUT},
    {BLKROTATIONAL, 2, ARG_OUT},
    {BLKBSZGET, INT, ARG_OUT},
    {BLKBSZSET, INT, ARG_IN},
    {BLKDISCARD, 16, ARG_IN},
    {BLKSECDISCARD, 16, ARG_IN},
    {BLKZEROOUT, 16, ARG_IN},
    {BLKPG, sizeof(struct blkpg_ioctl_arg), ARG_IN},
    {HDIO_GETGEO, sizeof(struct hd_geometry), ARG_OUT},
    {HDIO_GET_UNMASKINTR, LONG, ARG_OUT},
    {HDIO_GET_MULTCOUNT, LONG, ARG_OUT},
    {HDIO_GET_KEEPSETTINGS, LONG, ARG_OUT},
    {HDIO_GET_32BIT, LONG, ARG_OUT},
    {HDIO_GET_NOWERR, LONG, ARG_OUT},
    {HDIO_GET_DMA, LONG, ARG_OUT},
    {HDIO_GET_NICE, LONG, ARG_OUT},
    {HDIO_GET_IDENTITY, 512, ARG_OUT},
    {HDIO_GET_WCACHE, LONG, ARG_OUT},
    {HDIO_GET_ACOUSTIC, LONG, ARG_OUT},
    {HDIO_GET_ADDRESS, LONG, ARG_OUT},
    {HDIO_GET_BUSSTATE, LONG, ARG_OUT},
    {LOOP_SET_STATUS, sizeof(struct loop_info), ARG_IN},
    {LOOP_GET_STATUS, sizeof(struct loop_info), ARG_OUT},
    {LOOP_SET_STATUS64, sizeof(struct loop_info64), ARG_IN},
    {LOOP_GET_STATUS64, sizeof(struct loop_info64), ARG_OUT},
    {LOOP_CONFIGURE, sizeof(struct loop_config), ARG_IN},
    {SG_SET_TIMEOUT, INT, ARG_IN},
    {SG_EMULATED_HOST, INT, ARG_OUT},
    {SG_SET_RESERVED_SIZE, INT, ARG_IN},
    {SG_GET_RESERVED_SIZE, INT, ARG_OUT},
    {SG_GET_SCSI_ID, sizeof(struct sg_scsi_id), ARG_OUT},
    {SG_GET_SG_TABLESIZE, INT, ARG_OUT},
    {SG_GET_VERSION_NUM, INT, ARG_OUT},
    {0x5382, 8, ARG_OUT},   /* SCSI_IOCTL_GET_IDLUN */
    {0x5386, INT, ARG_OUT}, /* SCSI_IOCTL_GET_BUS_NUMBER */
    {CDROMREADTOCHDR, sizeof(struct cdrom_tochdr), ARG_OUT},
    {CDROMREADTOCENTRY, sizeof(struct cdrom_tocentry), ARG_INOUT},
    {CDROMSUBCHNL, sizeof(struct cdrom_subchnl), ARG_INOUT},
    {CDROMMULTISESSION, sizeof(struct cdrom_multisession), ARG_INOUT},
    {CDROMVOLCTRL, sizeof(struct cdrom_volctrl), ARG_IN},
    {CDROMVOLREAD, sizeof(struct cdrom_volctrl), ARG_OUT},
    {CDROM_GET_MCN, sizeof(struct cdrom_mcn), ARG_OUT},
    /* sockets and interfaces */
    {SIOCATMARK, INT, ARG_OUT},
    {FIOSETOWN, INT, ARG_IN},
    {SIOCSPGRP, INT, ARG_IN},
    {FIOGETOWN, INT, ARG_OUT},
    {SIOCGPGRP, INT, ARG_OUT},
    {SIOCGSTAMP_OLD, 16, ARG_OUT},
    {SIOCGSTAMPNS_OLD, 16, ARG_OUT},
    {SIOCOUTQNSD, INT, ARG_OUT},
    {SIOCADDRT, sizeof(struct rtentry), ARG_IN},
    {SIOCDELRT, sizeof(struct rtentry), ARG_IN},
    {SIOCGIFNAME, sizeof(struct ifreq), ARG_INOUT},
    {SIOCGIFCONF, sizeof(struct ifconf), ARG_INOUT},
    {SIOCGARP, sizeof(struct arpreq), ARG_INOUT},
    {SIOCSARP, sizeof(struct arpreq), ARG_IN},
    {SIOCDARP, sizeof(struct arpreq), ARG_IN},
    {SIOCBRADDBR, IFNAMSIZ, ARG_IN},
    {SIOCBRDELBR, IFNAMSIZ, ARG_IN},
    {TUNGETIFF, sizeof(struct ifreq), ARG_OUT},
    {TUNSETQUEUE, sizeof(struct ifreq), ARG_IN},
    /* others */
    {I2C_FUNCS, LONG, ARG_OUT},
    {PERF_EVENT_IOC_SET_FILTER, 4096, ARG_STRING},
    {UI_SET_PHYS, 1024, ARG_STRING},
    {0},
};

/* These have done something before they meet all of the memory. */
static const struct walk_cmd acting[] = {
    {SG_IO, sizeof(struct sg_io_hdr), ARG_INOUT},
    {CDROM_SEND_PACKET, sizeof(struct cdrom_generic_command), ARG_INOUT},
    {CDROMREADRAW, CD_FRAMESIZE_RAW, ARG_INOUT},
    {HDIO_DRIVE_TASK, 7, ARG_INOUT},
    {HDIO_DRIVE_CMD, 4, ARG_INOUT},
    {VT_WAITEVENT, sizeof(struct vt_event), ARG_INOUT},
    {KDFONTOP, sizeof(struct console_font_op), ARG_INOUT},
    {TUNSETIFF, sizeof(struct ifreq), ARG_INOUT},
    {USBDEVFS_REAPURB, LONG, ARG_OUT},
    {USBDEVFS_REAPURBNDELAY, LONG, ARG_OUT},
    {I2C_RDWR, sizeof(struct i2c_rdwr_ioctl_data), ARG_IN},
    {I2C_SMBUS, sizeof(struct i2c_smbus_ioctl_data), ARG_IN},
    {0},
};

/* What a structure points to, or (AFTER) what comes after it: as many items as a field of it says.
 */
struct inner {
    unsigned req;
    uint16_t head;     /* bytes of the structure */
    uint16_t at;       /* of the pointer in it */
    uint16_t count_at; /* of the number of items: an unsigned field of `count_bytes` */
    uint8_t count_bytes;
    uint8_t how;
    uint16_t item; /* bytes */
};

#define AFTER               0xffff
#define HEAD_MAX            128
#define FIELD(type, member) offsetof(type, member), sizeof(((type *)0)->member)
#define POINTS(req, type, pointer, count, how, item)                                               \
    {                                                                                              \
        req, sizeof(type), offsetof(type, pointer), FIELD(type, count), how, item                  \
    }
#define FOLLOWED(req, type, count, how, item)                                                      \
    {                                                                                              \
        req, sizeof(type), AFTER, FIELD(type, count), how, item                                    \
    }
#define ONE_OF(req, type, pointer, how, item)                                                      \
    {                                                                                              \
        req, sizeof(type), offsetof(type, pointer), 0, 0, how, item                                \
    }

/* DRM's, whose headers are a package of their own. */
struct drm_version {
    int number[3];
    size_t name_len;
    char *name;
    size_t date_len;
    char *date;
    size_t desc_len;
    char *desc;
};
struct drm_unique {
    size_t unique_len;
    char *unique;
};
struct drm_resources {
    uint64_t fbs, crtcs, connectors, encoders;
    uint32_t fb_count, crtc_count, connector_count, encoder_count, limits[4];
};
/* Of Linux 6.11: which mapping there is, its name and the build that it is of. */
struct procmap_query {
    uint64_t numbers[9];
    uint32_t device[2], name_len, build_len;
    uint64_t name, build;
};
#define PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)
#define DRM_VERSION   _IOWR('d', 0x00, struct drm_version)
#define DRM_UNIQUE    _IOWR('d', 0x01, struct drm_unique)
#define DRM_RESOURCES _IOWR('d', 0xa0, struct drm_resources)

static const struct inner inner[] = {
    POINTS(SIOCGIFCONF, struct ifconf, ifc_buf, ifc_len, ARG_OUT, 1),
    ONE_OF(SIOCGHWTSTAMP, struct ifreq, ifr_data, ARG_OUT, sizeof(struct hwtstamp_config)),
    ONE_OF(SIOCSHWTSTAMP, struct ifreq, ifr_data, ARG_INOUT, sizeof(struct hwtstamp_config)),
    POINTS(TUNATTACHFILTER, struct sock_fprog, filter, len, ARG_IN, sizeof(struct sock_filter)),
    FOLLOWED(TUNSETTXFILTER, struct tun_filter, count, ARG_IN, 6),
    FOLLOWED(FS_IOC_FIEMAP, struct fiemap, fm_extent_count, ARG_OUT, sizeof(struct fiemap_extent)),
    FOLLOWED(FIDEDUPERANGE, struct file_dedupe_range, dest_count, ARG_INOUT,
             sizeof(struct file_dedupe_range_info)),
    FOLLOWED(BLKREPORTZONE, struct blk_zone_report, nr_zones, ARG_OUT, sizeof(struct blk_zone)),
    POINTS(BLKPG, struct blkpg_ioctl_arg, data, datalen, ARG_IN, 1),
    POINTS(SG_IO, struct sg_io_hdr, cmdp, cmd_len, ARG_IN, 1),
    POINTS(SG_IO, struct sg_io_hdr, sbp, mx_sb_len, ARG_OUT, 1),
    POINTS(CDROM_SEND_PACKET, struct cdrom_generic_command, buffer, buflen, ARG_INOUT, 1),
    ONE_OF(CDROM_SEND_PACKET, struct cdrom_generic_command, sense, ARG_OUT,
           sizeof(struct request_sense)),
    POINTS(GIO_UNIMAP, struct unimapdesc, entries, entry_ct, ARG_OUT, sizeof(struct unipair)),
    POINTS(PIO_UNIMAP, struct unimapdesc, entries, entry_ct, ARG_IN, sizeof(struct unipair)),
    /* 32 rows of each character, for up to 8 dots in a row: what fonts of consoles are */
    POINTS(KDFONTOP, struct console_font_op, data, charcount, ARG_INOUT, 32),
    ONE_OF(I2C_SMBUS, struct i2c_smbus_ioctl_data, data, ARG_INOUT, sizeof(union i2c_smbus_data)),
    POINTS(USBDEVFS_CONTROL, struct usbdevfs_ctrltransfer, data, wLength, ARG_INOUT, 1),
    POINTS(USBDEVFS_BULK, struct usbdevfs_bulktransfer, data, len, ARG_INOUT, 1),
    FOLLOWED(RNDADDENTROPY, struct rand_pool_info, buf_size, ARG_IN, 1),
    FOLLOWED(UDMABUF_CREATE_LIST, struct udmabuf_create_list, count, ARG_IN,
             sizeof(struct udmabuf_create_item)),
    FOLLOWED(VHOST_SET_MEM_TABLE, struct vhost_memory, nregions, ARG_IN,
             sizeof(struct vhost_memory_region)),
    POINTS(PROCMAP_QUERY, struct procmap_query, build, build_len, ARG_OUT, 1),
    POINTS(PROCMAP_QUERY, struct procmap_query, name, name_len, ARG_OUT, 1),
    POINTS(DRM_VERSION, struct drm_version, name, name_len, ARG_OUT, 1),
    POINTS(DRM_VERSION, struct drm_version, date, date_len, ARG_OUT, 1),
    POINTS(DRM_VERSION, struct drm_version, desc, desc_len, ARG_OUT, 1),
    POINTS(DRM_UNIQUE, struct drm_unique, unique, unique_len, ARG_OUT, 1),
    POINTS(DRM_RESOURCES, struct drm_resources, fbs, fb_count, ARG_OUT, 4),
    POINTS(DRM_RESOURCES, struct drm_resources, crtcs, crtc_count, ARG_OUT, 4),
    POINTS(DRM_RESOURCES, struct drm_resources, connectors, connector_count, ARG_OUT, 4),
    POINTS(DRM_RESOURCES, struct drm_resources, encoders, encoder_count, ARG_OUT, 4),
#ifdef __x86_64__
    FOLLOWED(KVM_GET_MSR_INDEX_LIST, struct kvm_msr_list, nmsrs, ARG_OUT, 4),
    FOLLOWED(KVM_GET_MSR_FEATURE_INDEX_LIST, struct kvm_msr_list, nmsrs, ARG_OUT, 4),
    FOLLOWED(KVM_GET_SUPPORTED_CPUID, struct kvm_cpuid2, nent, ARG_OUT,
             sizeof(struct kvm_cpuid_entry2)),
    FOLLOWED(KVM_GET_EMULATED_CPUID, struct kvm_cpuid2, nent, ARG_OUT,
             sizeof(struct kvm_cpuid_entry2)),
    FOLLOWED(KVM_GET_CPUID2, struct kvm_cpuid2, nent, ARG_OUT, sizeof(struct kvm_cpuid_entry2)),
    FOLLOWED(KVM_SET_CPUID2, struct kvm_cpuid2, nent, ARG_IN, sizeof(struct kvm_cpuid_entry2)),
    FOLLOWED(KVM_GET_MSRS, struct kvm_msrs, nmsrs, ARG_INOUT, sizeof(struct kvm_msr_entry)),
    FOLLOWED(KVM_SET_MSRS, struct kvm_msrs, nmsrs, ARG_IN, sizeof(struct kvm_msr_entry)),
#endif
    FOLLOWED(KVM_GET_REG_LIST, struct kvm_reg_list, n, ARG_OUT, 8),
    FOLLOWED(KVM_SET_SIGNAL_MASK, struct kvm_signal_mask, len, ARG_IN, 1),
    FOLLOWED(KVM_SET_GSI_ROUTING, struct kvm_irq_routing, nr, ARG_IN,
             sizeof(struct kvm_irq_routing_entry)),
    {0},
};

/* An unsigned field of the structure. */
static uint64_t field(const char *head, size_t at, size_t bytes)
{
    uint64_t value = 0;

    __builtin_memcpy(&value, head + at, bytes);
    return value;
}

static long inner_span(struct walk *walk, const struct inner *part, uintptr_t addr,
                       const char *head)
{
    uint64_t count = part->count_bytes ? field(head, part->count_at, part->count_bytes) : 1;
    uint64_t at = part->at == AFTER ? addr + part->head : field(head, part->at, sizeof at);

    if (count > BIG_MAX / part->item) {
        return 0; /* no driver takes that */
    }
    return walk_as(walk, part->how, at, count * part->item);
}

static long inner_of(struct walk *walk, unsigned req, uintptr_t addr)
{
    char head[HEAD_MAX];
    long ret = 0;

    for (const struct inner *part = inner; ret == 0 && part->req; part++) {
        if (part->req == req) {
            ret = walk_fetch(walk, addr, head, part->head, ARCH_READ);
            ret = ret ? ret : inner_span(walk, part, addr, head);
        }
    }
    return ret;
}

/* ---- those that no line can say */

/* A SCSI command's data: one buffer, or a list of them. */
static long scsi_data(struct walk *walk, uintptr_t addr)
{
    struct sg_io_hdr hdr;
    long ret = walk_fetch(walk, addr, &hdr, sizeof hdr, ARCH_READ);
    bool from = hdr.dxfer_direction == SG_DXFER_TO_DEV;

    if (ret || !hdr.dxferp) {
        return ret;
    }
    if (hdr.iovec_count) {
        return walk_vectors(walk, (uintptr_t)hdr.dxferp, hdr.iovec_count,
                            from ? ARCH_READ : ARCH_WRITE);
    }
    return walk_as(walk, from ? ARG_IN : ARG_INOUT, (uintptr_t)hdr.dxferp, hdr.dxfer_len);
}

static long i2c_messages(struct walk *walk, uintptr_t addr)
{
    struct i2c_rdwr_ioctl_data all;
    struct i2c_msg msg;
    long ret = walk_fetch(walk, addr, &all, sizeof all, ARCH_READ);

    for (unsigned i = 0; ret == 0 && i < all.nmsgs && i < I2C_RDWR_IOCTL_MAX_MSGS; i++) {
        ret = walk_fetch(walk, (uintptr_t)(all.msgs + i), &msg, sizeof msg, ARCH_READ);
        ret = ret ? ret
                  : walk_as(walk, msg.flags & I2C_M_RD ? ARG_INOUT : ARG_IN, (uintptr_t)msg.buf,
                            msg.len);
    }
    return ret;
}

/* Registers tell their size in their name. */
static long kvm_register(struct walk *walk, uintptr_t addr, unsigned how)
{
    struct kvm_one_reg reg;
    long ret = walk_fetch(walk, addr, &reg, sizeof reg, ARCH_READ);

    return ret ? ret
               : walk_as(walk, how, reg.addr,
                         1u << ((reg.id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT));
}

/* All in one: the length stands in the first part, `at` bytes from its beginning. */
static long self_sized(struct walk *walk, uintptr_t addr, size_t at)
{
    uint32_t size;
    long ret = walk_fetch(walk, addr + at, &size, sizeof size, ARCH_READ);

    return ret || size > BIG_MAX ? ret : walk_both(walk, addr, size);
}

static long drive_command(struct walk *walk, uintptr_t addr)
{
    unsigned char args[4];
    long ret = walk_fetch(walk, addr, args, sizeof args, ARCH_READ);

    return ret ? ret : walk_as(walk, ARG_OUT, addr, sizeof args + args[3] * 512u);
}

static long special(struct walk *walk, unsigned req, uintptr_t addr)
{
    switch (req) {
    case SG_IO:
        return scsi_data(walk, addr);
    case I2C_RDWR:
        return i2c_messages(walk, addr);
    case HDIO_DRIVE_CMD:
        return drive_command(walk, addr);
    case KVM_GET_ONE_REG:
        return kvm_register(walk, addr, ARG_OUT);
    case KVM_SET_ONE_REG:
        return kvm_register(walk, addr, ARG_IN);
    default:
        break;
    }
    if (_IOC_TYPE(req) == DM_IOCTL) {
        return self_sized(walk, addr, offsetof(struct dm_ioctl, data_size));
    }
    return 0;
}

/* ---- the argument itself */

#define IFREQ_FIRST 0x8913
#define IFREQ_LAST  0x89ff
#define VFIO_TYPE   ';' /* iommufd's too: without sizes, the structure says how long it is */
#define VFIO_FIRST  103 /* those before it take numbers */

static bool takes_ifreq(unsigned req)
{
    return req >= IFREQ_FIRST && req <= IFREQ_LAST;
}

/* The structure that the request itself takes. */
static long outer(struct walk *walk, unsigned req, uintptr_t addr)
{
    const struct walk_cmd *cmd = walk_find(listed, req);

    cmd = cmd ? cmd : walk_find(acting, req);
    if (cmd) {
        return walk_cmd(walk, cmd, addr);
    }
    if (takes_ifreq(req)) {
        return walk_both(walk, addr, sizeof(struct ifreq));
    }
    if (_IOC_DIR(req) == _IOC_NONE) { /* a number, or nothing */
        return _IOC_TYPE(req) == VFIO_TYPE && _IOC_NR(req) >= VFIO_FIRST ? self_sized(walk, addr, 0)
                                                                         : 0;
    }
    return walk_as(walk,
                   _IOC_DIR(req) == _IOC_READ    ? ARG_OUT
                   : _IOC_DIR(req) == _IOC_WRITE ? ARG_IN
                                                 : ARG_INOUT,
                   addr, _IOC_SIZE(req));
}

bool walk_ioctl_listed(unsigned req)
{
    return walk_find(listed, req) || (takes_ifreq(req) && req < SIOCPROTOPRIVATE);
}

long walk_ioctl(struct walk *walk, unsigned req, uintptr_t addr)
{
    long ret = addr ? outer(walk, req, addr) : 0;

    ret = ret || !addr ? ret : inner_of(walk, req, addr);
    return ret || !addr ? ret : special(walk, req, addr);
}
