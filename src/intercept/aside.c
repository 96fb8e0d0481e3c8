/* SPDX-License-Identifier: MIT */
/*
 * Calls that answer as much as there is room for: epoll_wait(), getdents(). With a closed page in
 * their buffer the kernel would end the answer there, as if no more were to be had, where its own
 * facility waits. So the answer goes to memory of ours, and from there, waiting, to the program's.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/call.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "walk.h"

#define ASIDE_STACK 4096
#define ASIDE_MAX   ((size_t)1 << 20)

/* As both kinds of entries of a folder begin. */
struct entry {
    uint64_t ino;
    int64_t off; /* of the next one */
    uint16_t len;
};

/* What could not be handed over is still to be read. */
static long hand_entries(const long *args, const char *from, size_t len, long at)
{
    size_t done = 0;

    while (done < len) {
        struct entry entry;

        memcpy(&entry, from + done, sizeof entry);
        if (core_copy_out((char *)args[1] + done, from + done, entry.len)) {
            sys_call(SYS_lseek, args[0], at, SEEK_SET);
            return done ? (long)done : -EFAULT;
        }
        at = entry.off;
        done += entry.len;
    }
    return (long)done;
}

static long hand_events(const long *args, const char *from, size_t count)
{
    const size_t item = sizeof(struct epoll_event);

    for (size_t i = 0; i < count; i++) {
        if (core_copy_out((char *)args[1] + i * item, from + i * item, item)) {
            return i ? (long)i : -EFAULT;
        }
    }
    return (long)count;
}

static long make_on(const struct icall_shape *shape, const long *args, icall_make *make,
                    void *cookie, char *buf, size_t bytes)
{
    size_t item = shape->arg[1].size;
    long own[6], at = item == 1 ? sys_call(SYS_lseek, args[0], 0, SEEK_CUR) : 0, ret;

    memcpy(own, args, sizeof own);
    own[1] = (long)buf;
    own[2] = (long)(bytes / item);
    ret = make(cookie, own);
    if (ret <= 0) {
        return ret;
    }
    return item == 1 ? hand_entries(args, buf, (size_t)ret, at)
                     : hand_events(args, buf, (size_t)ret);
}

long walk_aside(const struct icall_shape *shape, const long *args, icall_make *make, void *cookie)
{
    char small[ASIDE_STACK];
    size_t item = shape->arg[1].size;
    long count = item == 1 ? (long)(unsigned)args[2] : (int)args[2];
    size_t bytes = count > (long)(ASIDE_MAX / item) ? ASIDE_MAX : (size_t)count * item;
    long big, ret;

    if (count <= 0) {
        return make(cookie, args); /* refused */
    }
    if (bytes <= sizeof small) {
        return make_on(shape, args, make, cookie, small, bytes);
    }
    big = sys_mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed(big)) {
        return make_on(shape, args, make, cookie, small, sizeof small);
    }
    ret = make_on(shape, args, make, cookie, (char *)big, bytes);
    sys_munmap((uintptr_t)big, bytes);
    return ret;
}
