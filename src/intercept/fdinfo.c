/* SPDX-License-Identifier: MIT */
/*
 * /proc/self/fdinfo/N of a context, as the kernel's facility shows it.
 *
 * The kernel would tell of the socket beneath. Whoever opens the file to read it gets one of ours
 * instead: the text as it is at that moment, in a memfd that is read-only.
 */
#include <errno.h>

#include "base/text.h"
#include "core/call.h"
#include "core/core.h"
#include "intercept/calls.h"
#include "own.h"
#include "sys/call.h"
#include "sys/file.h"

#define PATH_BYTES 64
#define TEXT_BYTES 512

/* Copies the path; what is too long to be one of those that count is none of ours. */
static bool fetch(const char *path, char text[PATH_BYTES])
{
    size_t n = 0;

    do {
        if (n == PATH_BYTES || core_copy_in(&text[n], path + n, 1)) {
            return false;
        }
    } while (text[n++]);
    return true;
}

/* The descriptor whose file the path names, or -1. */
static int named(int dirfd, const char *path)
{
    char text[PATH_BYTES];
    const char *at = text, *digits;
    uint64_t fd;

    if (!fetch(path, text) || (*at == '/' && !(own_step(&at) && base_text_step(&at, "/fdinfo/")))) {
        return -1;
    }
    digits = at;
    fd = base_text_number(&at, 10);
    if (*at || at == digits || fd > INT32_MAX || (*text != '/' && !own_leads(dirfd, "/fdinfo"))) {
        return -1;
    }
    return (int)fd;
}

/* A number of the kernel's text. */
static void copy_number(struct base_text *to, const char *from, const char *name)
{
    const char *at = own_fdinfo_value(from, name);

    base_text_str(to, name);
    base_text_dec(to, base_text_number(&at, 10));
    base_text_str(to, "\n");
}

static void write_flags(struct base_text *to, const char *kernels)
{
    const char *at = own_fdinfo_value(kernels, "flags:\t");
    uint64_t flags = base_text_number(&at, 8) & ~(uint64_t)O_ACCMODE; /* a context is read-only */
    char digits[24];
    size_t n = sizeof digits - 1;

    digits[n] = '\0';
    for (; flags; flags >>= 3) {
        digits[--n] = (char)('0' + (flags & 7));
    }
    base_text_str(to, "flags:\t0");
    base_text_str(to, digits + n);
    base_text_str(to, "\n");
}

static void write_text(struct base_text *to, const char *kernels, const struct core_fdinfo *info)
{
    copy_number(to, kernels, "pos:\t");
    write_flags(to, kernels);
    copy_number(to, kernels, "mnt_id:\t");
    copy_number(to, kernels, "ino:\t");
    base_text_str(to, "pending:\t");
    base_text_dec(to, info->pending);
    base_text_str(to, "\ntotal:\t");
    base_text_dec(to, info->total);
    base_text_str(to, "\nAPI:\t");
    base_text_hex(to, UF_API);
    base_text_str(to, ":");
    base_text_hex(to, info->features);
    base_text_str(to, ":");
    base_text_hex(to, info->ioctls);
    base_text_str(to, "\n");
}

/* A new descriptor of a file that holds the text and cannot be written to. */
static long make_file(const char *bytes, size_t len, int flags)
{
    char path[PATH_BYTES];
    struct base_text name = base_text_on(path, sizeof path);
    long made = sys_call(SYS_memfd_create, "fdinfo", 1 /* MFD_CLOEXEC */), fd;

    if (sys_failed(made)) {
        return made;
    }
    base_text_str(&name, "/proc/self/fd/");
    base_text_dec(&name, (uint64_t)made);
    fd = sys_pwrite((int)made, bytes, len, 0);
    if (!sys_failed(fd)) {
        fd = sys_call(SYS_openat, AT_FDCWD, path, O_RDONLY | (flags & (O_CLOEXEC | O_NONBLOCK)), 0);
    }
    sys_close((int)made);
    return fd;
}

long icall_open_fdinfo(int dirfd, const char *path, int flags)
{
    char kernels[TEXT_BYTES], text[TEXT_BYTES];
    struct base_text out = base_text_on(text, sizeof text);
    struct core_fdinfo info;
    int fd;

    if (!core_active || (flags & (O_ACCMODE | O_PATH | O_DIRECTORY)) != O_RDONLY) {
        return ICALL_PASS;
    }
    fd = named(dirfd, path);
    if (fd < 0 || core_fd_kind(fd) != CORE_FD_CONTEXT || !core_fdinfo(fd, &info) ||
        own_fdinfo(fd, kernels, sizeof kernels) <= 0) {
        return ICALL_PASS;
    }
    write_text(&out, kernels, &info);
    return make_file(text, out.len, flags);
}
